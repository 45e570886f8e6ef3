"""What happens to the cluster, as a table. Tests do what Patroni would do: they promote the standby."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tests.cluster.brokers import Node
from tests.cluster.site import Site

ELECTION_SECONDS = 5.0  # from the loss of a primary to the promotion of its standby; with Patroni up to its `ttl`, 30 s
LIMIT_SECONDS = 10.0  # of a gap in service
# From a stop to its bill, for which nobody waits. The longest fault lasts 25 s; and a message that RabbitMQ holds back is found
# before STINT_SENT_SECONDS, 120 s, are over.
BILL_SECONDS = 45.0
REST_SECONDS = 4.0  # before a node that was frozen is restarted
KILLED_SECONDS = 8.0
SILENT_SECONDS = 25.0  # longer than a node of RabbitMQ takes to notice that another one is gone
# All hosts wait as long as this: no stop is acknowledged meanwhile.
STANDSTILL_SECONDS = 6.0
Heal = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """`strike` returns what heals it, which is called after `hold_seconds`. `limit_seconds`: of the longest time in which no
    stop was acknowledged."""

    name: str
    strike: Callable[[Site, Random], Heal]
    hold_seconds: float = KILLED_SECONDS
    limit_seconds: float = LIMIT_SECONDS
    by_root: bool = False  # only root can cut the network, and give Postgres a disk of its own
    is_short: bool = False  # also in the short run

    def __str__(self) -> str:
        return self.name


def _leaders(site: Site) -> Iterator[Node]:
    """Nodes, until each queue has had its leader on one of them. Whenever one is lost, its queues get other leaders."""
    left = set(site.brokers.leaders())
    while left:
        leaders = site.brokers.leaders()
        host = leaders[min(left)]
        left -= {queue for queue, leader in leaders.items() if leader == host}
        yield site.brokers.nodes[host]


def _kill_leaders(site: Site, _: Random) -> Heal:
    for node in _leaders(site):
        node.kill()
        time.sleep(KILLED_SECONDS)
        site.start_all()
    return lambda: None


def _freeze_leaders(site: Site, _: Random) -> Heal:
    """A node that was frozen for longer than net_ticktime stays apart from the others until it is restarted."""
    for node in _leaders(site):
        node.signal(signal.SIGSTOP)
        time.sleep(SILENT_SECONDS)
        node.signal(signal.SIGCONT)
        time.sleep(REST_SECONDS)
        node.restart()
        site.wait_until_whole()
    return lambda: None


def _lose_primary(site: Site, _: Random) -> Heal:
    site.databases.kill(site.databases.primary)
    return _promote(site)


def _freeze_primary(site: Site, _: Random) -> Heal:
    """Its address accepts connections, and nobody answers."""
    site.databases.signal(site.databases.primary, signal.SIGSTOP)
    return _promote(site)


def _promote(site: Site) -> Heal:
    """The standby becomes the primary after the election; the old one ends before."""
    old = site.databases.primary
    time.sleep(ELECTION_SECONDS)
    site.databases.fail_over()
    return lambda: site.databases.add_standby(old)


def _switch_over(site: Site, _: Random) -> Heal:
    site.databases.switch_over()
    return lambda: None


def _lose_standby(site: Site, _: Random) -> Heal:
    """Patroni does not wait for a standby that is lost: until then no commit is answered."""
    standby = site.databases.standby
    site.databases.kill(standby)
    time.sleep(ELECTION_SECONDS)
    site.databases.replicate("")
    return lambda: site.databases.add_standby(standby)


def _lose_host(site: Site, _: Random) -> Heal:
    """The host of the primary, as by a power failure: all that runs there is gone, and nobody is told."""
    lost = site.databases.primary
    if site.network.can_cut:
        site.network.isolate(lost)
    site.brokers.nodes[lost].kill()
    site.databases.kill(lost)
    site.stint[lost].kill_all()
    come_back = _promote(site)

    def heal() -> None:
        site.network.heal()
        site.start_all()
        come_back()

    return heal


def _cut_off_one(site: Site, _: Random) -> Heal:
    """The host without Postgres."""
    site.network.partition("c", "ab")
    return site.network.heal


def _cut_off_primary(site: Site, _: Random) -> Heal:
    """Its host is in the minority. Patroni ends a primary there, since it cannot renew its lease."""
    primary = site.databases.primary
    site.network.partition(primary, site.databases.standby + "c")
    come_back = _promote(site)

    def heal() -> None:
        site.network.heal()
        come_back()

    return heal


def _cut_all(site: Site, _: Random) -> Heal:
    """No host has a majority, so nothing is promoted."""
    site.network.partition("a", "b", "c")
    return site.network.heal


def _restart_all(site: Site, _: Random) -> Heal:
    """An upgrade: one host after the other, and in each one process after the other."""
    for name, stint in site.stint.items():
        for part in list(stint.processes):
            stint.restart(part)
        site.brokers.nodes[name].restart()
        site.wait_until_whole()
    site.databases.restart(site.databases.standby)
    site.databases.replicate("*")
    site.databases.switch_over()
    return lambda: None


def _wipe(site: Site, chance: Random) -> Heal:
    """A node of RabbitMQ comes back without its data: the others forget it first, and then give it members of their queues."""
    lost = chance.choice(list(site.brokers.nodes.values()))
    other = next(node for node in site.brokers.nodes.values() if node is not lost)
    lost.kill()
    lost.wipe()
    other.control("rabbitmqctl", "forget_cluster_node", lost.node)

    def heal() -> None:
        lost.start(90)
        other.control("rabbitmq-queues", "grow", lost.node, "all")

    return heal


def _fill_disk(site: Site, chance: Random) -> Heal:
    """Of one node of RabbitMQ, as far as it can see: all nodes block publishers."""
    node = chance.choice(list(site.brokers.nodes.values()))
    node.limit_free_disk("900000GB")
    return lambda: node.limit_free_disk("50MB")


def _fill_disk_of_postgres(site: Site, _: Random) -> Heal:
    """Of the primary, which Patroni leaves as it is: until there is space again, writes that need more are refused."""
    return site.databases.fill_disk()


OF_ELECTION = LIMIT_SECONDS + ELECTION_SECONDS
FAULTS = [
    Fault("the leader of each queue is killed", _kill_leaders, hold_seconds=0),
    Fault("the leader of each queue is frozen", _freeze_leaders, hold_seconds=0),
    Fault("a node of RabbitMQ loses its data", _wipe),
    Fault("the disk of a node of RabbitMQ is full", _fill_disk),
    Fault(
        "the disk of the primary of Postgres is full",
        _fill_disk_of_postgres,
        hold_seconds=STANDSTILL_SECONDS,
        by_root=True,
    ),
    Fault("the primary of Postgres is killed, its standby promoted", _lose_primary, limit_seconds=OF_ELECTION),
    Fault("the primary of Postgres is frozen, its standby promoted", _freeze_primary, limit_seconds=OF_ELECTION),
    Fault("primary and standby of Postgres change places", _switch_over),
    Fault("the standby of Postgres is lost", _lose_standby, limit_seconds=OF_ELECTION),
    Fault("the host of the primary is lost", _lose_host, hold_seconds=15, limit_seconds=OF_ELECTION, is_short=True),
    Fault("a host is cut off", _cut_off_one, hold_seconds=SILENT_SECONDS, by_root=True, is_short=True),
    Fault("the host of the primary is cut off", _cut_off_primary, limit_seconds=OF_ELECTION, by_root=True),
    Fault("all hosts are cut off from each other", _cut_all, hold_seconds=STANDSTILL_SECONDS, by_root=True),
    Fault("everything is restarted, one after the other", _restart_all, hold_seconds=0),
]
BY_NAME = {fault.name: fault for fault in FAULTS}


def chosen(names: Sequence[str], *, short: bool, root: bool) -> list[Fault]:
    """Those whose name contains one of `names`, all without names; those of the short run; without root those that do not need
    it."""
    return [
        fault
        for name, fault in BY_NAME.items()
        if (not names or any(part in name for part in names)) and (fault.is_short or not short) and (root or not fault.by_root)
    ]

"""What happens to the cluster, as a table. Tests do what Patroni would do: they promote the standby."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.cluster.brokers import Node
from tests.cluster.site import Site

ELECTION_SECONDS = 5.0  # from the loss of a primary to the promotion of its standby; with Patroni up to its `ttl`, 30 s
LIMIT_SECONDS = 10.0  # of a gap in service
Heal = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """`strike` returns what heals it, which is called after `hold_seconds`. `limit_seconds`: of the longest time in which no
    stop was acknowledged."""

    name: str
    strike: Callable[[Site, Random], Heal]
    hold_seconds: float = 8.0
    limit_seconds: float = LIMIT_SECONDS
    cuts: bool = False  # the network
    is_short: bool = False  # also in the short run

    def __str__(self) -> str:
        return self.name


def _leader(site: Site, chance: Random) -> Node:
    """The node with the leader of a queue that people wait for."""
    leaders = site.brokers.leaders()
    return site.brokers.nodes[leaders[chance.choice(("timers", "bills"))]]


def _kill_leader(site: Site, chance: Random) -> Heal:
    node = _leader(site, chance)
    node.kill()
    return site.start_all


def _freeze_leader(site: Site, chance: Random) -> Heal:
    node = _leader(site, chance)
    node.signal(signal.SIGSTOP)
    return lambda: node.signal(signal.SIGCONT)


FAULTS = [
    Fault("the leader of a queue is killed", _kill_leader, is_short=True),
    Fault("the leader of a queue is frozen", _freeze_leader),
]
BY_NAME = {fault.name: fault for fault in FAULTS}


def chosen(names: Sequence[str], *, short: bool, cuts: bool) -> list[Fault]:
    """Those whose name contains one of `names`, all without names; those of the short run; those that need no partition of the
    network where it cannot be cut."""
    return [
        fault
        for name, fault in BY_NAME.items()
        if (not names or any(part in name for part in names)) and (fault.is_short or not short) and (cuts or not fault.cuts)
    ]

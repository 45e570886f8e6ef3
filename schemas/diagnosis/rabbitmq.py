"""What is wrong with RabbitMQ: as a command finds it that logs in, and as relays and workers find it."""

import asyncio
from urllib.parse import urlsplit

from schemas.diagnosis.finding import Finding
from schemas.servers.error_words import address, in_words
from schemas.setting_values import amqp_urls
from schemas.settings import SettingsMissing

PROBE_SECONDS = 5.0  # and for each silent server before the one that answers, what an attempt at it takes
PORTS = {"amqp": 5672, "amqps": 5671}
WORDS = {
    "unreachable": "does not answer",
    "refused": "refuses the login",
    "tls": "has a certificate that is not accepted",
    "blocked": "blocks publishers",
    "unconfirmed": "does not confirm messages",
}
RESTART = "and restart Stint"
SEEN_BY = " (seen by "  # in a state, before the names of the processes that cannot use it, if others can


async def probe(url: str | None) -> str:
    """Logs in and publishes a message that RabbitMQ drops. Returns the state for `InstallationStatus.servers`."""
    if not url:
        return "not set"
    from schemas.rabbitmq import hosts  # importing pika takes 0.1 s
    from schemas.rabbitmq.amqp import Amqp
    from schemas.rabbitmq.problems import LOST, ConnectionLost

    try:
        known = ", ".join(address(each.hostname, each.port or PORTS.get(each.scheme)) for each in map(urlsplit, amqp_urls(url)))
        async with asyncio.timeout(PROBE_SECONDS) as limit:
            servers = await asyncio.to_thread(hosts.hosts_of(url).in_order)
            limit.reschedule(asyncio.get_running_loop().time() + PROBE_SECONDS + hosts.CONNECT_SECONDS * (len(servers) - 1))
            async with await Amqp.open(url) as amqp:
                problem = await amqp.problem()
    except ConnectionLost as error:
        problem = error.problem
    except (SettingsMissing, ValueError) as error:
        return f"cannot be looked for: {error}".rstrip(".")
    except LOST as error:
        return f"does not answer: {in_words(error)} at {known}"
    return "ok" if problem is None else state_of(str(problem))


def state_of(problem: str) -> str:
    """The state in words of `code: details`, as in the heartbeat of a relay or worker."""
    code, _, details = problem.partition(": ")
    return f"{WORDS.get(code, code)}: {details}"


def of_rabbitmq(state: str) -> Finding:
    """The finding for a RabbitMQ whose `state` is not ok."""
    why = "the API works as usual; the work that it accepts waits in Postgres"
    if SEEN_BY in state:
        why = "others can use it; what these processes would do waits, unless others of their kind do it"
    return Finding(f"RabbitMQ {state}.", why, _cure(state))


def _cure(state: str) -> str:
    if state.startswith(WORDS["refused"]):
        return (
            f"set the user, the password and the virtual host of AMQP_URL to those of RabbitMQ {RESTART}; or there: "
            "rabbitmqctl change_password USER PASSWORD, and set_permissions -p VHOST USER '.*' '.*' '.*'"
        )
    if state.startswith(WORDS["tls"]):
        return f"renew the certificate of RabbitMQ, or let AMQP_URL name the authority that has signed it {RESTART}"
    if state.startswith(WORDS["unconfirmed"]):
        return "a queue has no majority of its nodes: rabbitmqctl cluster_status shows them; start those that are down"
    if state.startswith(WORDS["blocked"]):
        memory = "end what uses the memory of its host, or raise the limit: rabbitmqctl set_vm_memory_high_watermark 0.6"
        disk = "free space on the disk of its data, or lower the limit: rabbitmqctl set_disk_free_limit 1GB"
        return " And: ".join([memory] * ("memory" in state) + [disk] * ("disk" in state)) or "rabbitmqctl alarms"
    if SEEN_BY in state:
        return "restore the network from these processes to RabbitMQ, or fix AMQP_URL where they run, and restart them"
    return f"start it, or fix AMQP_URL {RESTART}"


def of_cluster(name: str, code: str, details: str) -> Finding:
    """The finding about the cluster for a problem of one of the names of OF_CLUSTER."""
    if name == "replica of RabbitMQ" and code == "missing":
        return Finding(
            f"Queues of RabbitMQ lack replicas: {details}.",
            "they stand still when a node is lost that others would survive",
            "rabbitmq-queues grow NODE all, for the node that has none: rabbitmqctl cluster_status names the nodes",
        )
    what, why, do = OF_CLUSTER[name]
    if name == "management API of RabbitMQ":
        return Finding(f"{what} {'refuses the login' if code == 'refused' else 'cannot be used'}: {details}.", why, do)
    return Finding(f"{what}: {details}.", why, do)


# by what relays report of the cluster: what is wrong, why that matters, what to do. Causes come first.
OF_CLUSTER = {
    "partition of RabbitMQ": (
        "RabbitMQ is partitioned",
        "the parts have different queues and messages; work may wait, or be delivered twice, which is handled once",
        "restore the network between the nodes; then restart RabbitMQ on the nodes of the smaller part, one after another",
    ),
    "node of RabbitMQ": (
        "A node of RabbitMQ is down for the others",
        "the others carry all messages; when one more is lost, queues may have no majority, and work waits in Postgres",
        "start RabbitMQ there, or restore the network to it. If it is gone permanently: docs/three-hosts.md, Replace a host",
    ),
    "replica of RabbitMQ": (
        "A replica of a queue of RabbitMQ is offline",
        "the queue stands still when a node is lost that others would survive",
        "restart RabbitMQ on that node; if it stays offline: rabbitmq-queues delete_member -p VHOST QUEUE NODE, then "
        "rabbitmq-queues add_member -p VHOST QUEUE NODE",
    ),
    "management API of RabbitMQ": (
        "The management API of RabbitMQ",
        "messages flow; partitions, and queues with too few replicas, are not seen",
        "rabbitmq-plugins enable rabbitmq_management on each node; set the user, its password and the port of RABBITMQ_API_URL "
        "to those of RabbitMQ and restart Stint; there: rabbitmqctl set_user_tags USER monitoring, and set_permissions -p "
        "VHOST USER '^$' '^$' '^$'",
    ),
}

"""What is wrong with a server that Stint uses, or with its own API."""

from collections.abc import Callable

from schemas.diagnosis import mail, rabbitmq
from schemas.diagnosis.finding import Finding
from schemas.diagnosis.processes import NAMES
from schemas.diagnosis.status import InstallationStatus
from schemas.servers import certificates

NO_ANSWER = "does not answer"
STATUS_PAGES = {"Xero": "status.xero.com", "Slack": "status.slack.com"}


def _state_of_calls(problem: str) -> str:
    """The state in words of `unreachable: details`, as in the heartbeat of a worker that calls Xero or Slack."""
    return f"{NO_ANSWER}: {problem.partition(': ')[2]}"


# of the servers that processes report: the state in words of `code: details`
STATE_OF: dict[str, Callable[[str], str]] = {
    "RabbitMQ": rabbitmq.state_of, "mail": mail.state_of, **dict.fromkeys(STATUS_PAGES, _state_of_calls),
}  # fmt: skip


def with_reports(status: InstallationStatus) -> dict[str, str]:
    """The states of the servers. For a server that is ok, or was not probed, a process that cannot use it reports why."""
    servers = dict(status.servers)
    for process in status.processes:
        for name, problem in process.problems.items():
            if (state_of := STATE_OF.get(name)) is not None and process.alive and servers.get(name, "ok") == "ok":
                servers[name] = state_of(problem)
    if "RabbitMQ" in servers and status.servers.get("RabbitMQ", "ok") == "ok" and servers["RabbitMQ"] != "ok":
        servers["RabbitMQ"] = _of_all_that_use_rabbitmq(status)
    return servers


def _of_all_that_use_rabbitmq(status: InstallationStatus) -> str:
    """The states that relays and workers report, each with the processes that report it unless all of them do."""
    users = [*status.alive("relay"), *status.alive("work")]
    reported: dict[str, str] = {}  # by code: the state in words
    by: dict[str, list[str]] = {}  # by code: the processes
    for process in users:
        if (problem := process.problems.get("RabbitMQ")) is not None:
            code = problem.partition(":")[0]
            reported.setdefault(code, rabbitmq.state_of(problem))
            by.setdefault(code, []).append(f"the {NAMES[process.kind]} {process.process}")
    return "; ".join(
        state if len(by[code]) == len(users) else f"{state}{rabbitmq.SEEN_BY}{', '.join(by[code])} alone)"
        for code, state in reported.items()
    )


def of_certificates(status: InstallationStatus) -> list[Finding]:
    """The certificates that end soon, or have ended, as relays report them."""
    found: dict[str, tuple[str, str]] = {}  # by certificate: code and details
    for process in status.alive("relay"):
        for name, problem in process.problems.items():
            code, _, details = problem.partition(": ")
            if code in (certificates.ENDS, certificates.ENDED):
                found[name] = code, details
    return [
        Finding(
            f"A certificate {'has ended' if code == certificates.ENDED else 'ends soon'}: the {name} at {details}.",
            "who verifies it refuses the connection then: relays and workers wait, or the API answers 503",
            "renew it there; of a file that AMQP_URL or DATABASE_URL names, restart Stint after that",
        )
        for name, (code, details) in sorted(found.items())
    ]


def of_hosts(status: InstallationStatus) -> list[Finding]:
    """The hosts that the relays cannot use, while others of the same server can be used."""
    relays = status.alive("relay")
    findings = []
    for name, (setting, why, do) in _HOSTS.items():
        reported: dict[str, str] = {}  # by relay: the hosts that it cannot use, in words
        for relay in relays:
            problem = relay.problems.get(f"host of {name}")
            if problem:
                reported[relay.process] = problem.partition(": ")[2]
        if reported:
            hosts = "; ".join(dict.fromkeys(reported.values()))
            by = "" if len(reported) == len(relays) else f" (seen by the relay {', '.join(reported)} alone)"
            findings.append(Finding(f"A host of {name} cannot be used: {hosts}{by}.", why, f"{do} {setting} and restart Stint"))
    return findings


_HOSTS = {
    "RabbitMQ": (
        "AMQP_URL",
        "the others carry all messages; when one more is lost, queues may have no majority, and work waits in Postgres",
        "start RabbitMQ there, or restore the network to it: rabbitmqctl cluster_status on another host shows whether it is "
        "back. If it is gone permanently: docs/three-hosts.md, Replace a host; remove it from",
    ),
    "Postgres": (
        "DATABASE_URL",
        "the host that accepts writes is there; if it is lost, a failover may have nowhere to go",
        "start Postgres there, or restore the network to it (with Patroni, patronictl list shows it), or cure what its answer "
        "says. If it is gone permanently: docs/three-hosts.md, Replace a host; remove it from",
    ),
}


def of_cluster(status: InstallationStatus) -> list[Finding]:
    """What relays are told by RabbitMQ's management API, or why it tells nothing."""
    reported: dict[tuple[str, str], str] = {}  # by name and code: the details of the first relay that reports it
    for relay in status.alive("relay"):
        for name, problem in relay.problems.items():
            code, _, details = problem.partition(": ")
            if name in rabbitmq.OF_CLUSTER:
                reported.setdefault((name, code), details)
    return [rabbitmq.of_cluster(name, code, details) for (name, code), details in sorted(reported.items(), key=_order)]


def _order(reported: tuple[tuple[str, str], str]) -> int:
    """Causes first."""
    return list(rabbitmq.OF_CLUSTER).index(reported[0][0])


def of_server(name: str, state: str, cure: str | None) -> Finding:
    """The finding for a server whose `state` is not ok. `cure`: what to do, if that is known."""
    if name == "RabbitMQ":
        return rabbitmq.of_rabbitmq(state)
    if name == "mail":
        return mail.of_mail(state)
    if state == "lacks migrations":
        return Finding("The database lacks migrations.", "a newer version of Stint runs on it", "./stint migrate")
    if state.startswith("has refused"):
        return Finding(
            f"{name} {state}.",
            "these bills are approved but not in Xero; they will not be retried automatically",
            "fix what `xero.error` of each bill says, then send them again: docs/xero.md, Sending failed bills again",
        )
    if name in STATUS_PAGES and state.startswith(NO_ANSWER):
        return Finding(
            f"{name} {state}.",
            "what goes there is tried again: bills until it answers, confirmations and reminders for about an hour",
            f"if it lasts, look at {STATUS_PAGES[name]}, and whether the hosts of the workers reach it",
        )
    if name == "API" and state.startswith("has too few"):
        return Finding(
            f"API {state}.",
            "the others answer all requests, more slowly; if one more ends, nobody may be left",
            "wait a minute if it has just started; else its log says why it ended: logs/api-1.log, logs/api-2.log … in the "
            "state directory",
        )
    if name == "API" and state.startswith("is not ready"):
        return Finding(
            f"API {state}.",
            "requests are answered 503 until it is",
            "while it is busy, find what its connections do: docs/operations.md, API is not ready; else fix what it names",
        )
    if name == "Slack" and state.startswith("takes no posts"):
        return Finding(
            f"Slack {state}.",
            "outages are told by mail alone, or to nobody",
            "set OPS_SLACK_CHANNEL to the id of a channel that the app is in, and restart Stint; or restore that one, or "
            "invite the app to it: then this ends with the next post, or after a week",
        )
    why, do = {
        "Postgres": (
            "the API answers 503 and workers wait; nothing is lost",
            cure or "start it, or fix DATABASE_URL and restart Stint",
        ),
        "API": ("no client is served", "./stint up, or ./stint api; its log says why it ended"),
        "user pool": (
            "users who are disabled or deleted there keep Slack and mails in the meantime; nobody loses access",
            _cure_of_user_pool(state),
        ),
        "Xero": (
            "approved bills wait; they are sent automatically once Stint has access",
            cure or "an admin connects Xero: docs/xero.md",
        ),
        "Slack": (
            "confirmations and reminders wait; they are posted automatically once Slack gives access",
            cure or "docs/operations.md, Slack",
        ),
    }[name]
    return Finding(f"{name} {state}.", why, do)


def _cure_of_user_pool(state: str) -> str:
    """Of `was last read 40 s ago: REASON`; the reason is missing while no worker reads the pool."""
    if "it refuses the call" in state or "no credentials" in state:
        return (
            "let the credentials of AWS that the workers for mail have allow cognito-idp:ListUsers and AdminGetUser on the "
            "pool COGNITO_USER_POOL_ID; after a change of settings, restart Stint"
        )
    if NO_ANSWER in state or "not complete in time" in state:
        return "restore the network from the workers for mail to the pool; they read it again within ten seconds"
    return "start a worker for the queue mail: ./stint work --queues mail; if one runs, its log says why it reads nothing"

"""What is wrong with the installation, why that matters, and what to do about it."""

from dataclasses import dataclass

from schemas.diagnosis.status import InstallationStatus
from schemas.messages import QUEUES
from schemas.outbox.metrics import QueueDepth

LATE_SECONDS = 60.0  # a message that is due for longer is reported


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, what follows from it, and what to do."""

    what: str
    why: str
    do: str


def diagnose(status: InstallationStatus) -> list[Finding]:
    """What is wrong. A cause comes before its consequences."""
    findings = [
        _of_server(name, state, status.cures.get(name))
        for name, state in status.servers.items()
        if state not in ("ok", "not set")
    ]
    if status.servers.get("Postgres") != "ok":  # all that follows is read from Postgres
        return findings
    if not status.alive("relay"):
        consequence = "no message is sent to RabbitMQ, rescued or replayed"
        findings.append(Finding("No relay is alive.", consequence, "./stint up runs one; or ./stint relay"))
    findings += _of_other_queues(status)
    findings += [finding for queue in status.queues if (finding := _of_queue(status, queue))]
    if status.dead:
        findings.append(
            Finding(
                f"Dead letters: {status.dead:,}, in {status.groups} groups.",
                "retries are exhausted or pointless; they will not be retried automatically",
                "./stint dead shows the errors; fix the cause, then ./stint dead replay --group G --canary 1 --reason '…'",
            )
        )
    if status.unrecognized:
        findings.append(
            Finding(
                f"Unrecognized messages arrived from RabbitMQ: {status.unrecognized:,}.",
                "another program publishes to Stint's queues, or they are older than Postgres (a restore) or this version",
                "./stint dead list and show; once you know who sent them, ./stint dead discard ID --reason '…'",
            )
        )
    for clock in status.wrong_clocks:
        findings.append(
            Finding(
                f"A clock is wrong: {clock}.",
                "Postgres's decides the times of hours and tokens; others those of logs, and which requests of Slack are old",
                "let chrony or systemd-timesyncd set the clock of that host; then restart the process that is named",
            )
        )
    findings += _of_bills_in_xero(status)
    if emails := status.timers_without_access:
        findings.append(
            Finding(
                f"Timers run of users who have no access any more: {', '.join(emails[:5])}{' …' if len(emails) > 5 else ''}.",
                "their time grows, and the bills of these days cannot be approved",
                "./stint user remove EMAIL --stop-timer, or an admin: POST /api/active-timers/USER_ID/stop with endTime",
            )
        )
    return findings


def _of_bills_in_xero(status: InstallationStatus) -> list[Finding]:
    findings = []
    if strays := status.stray_entries:
        findings.append(
            Finding(
                f"Xero has {len(strays):,} time entries with the mark of a bill that are not the bill's entry: {strays[0]}.",
                "the same hours may be invoiced twice",
                "compare them in Xero with the bill's entry, and delete there what is too many: docs/xero.md, Alerts",
            )
        )
    if status.xero_differs:
        findings.append(
            Finding(
                f"Bills differ from their time entries in Xero: {status.xero_differs:,}.",
                "somebody has changed or deleted these entries in Xero; Stint overwrites nothing of that unasked",
                "GET /api/time-bills?xeroStatus=differs shows both; an admin sends each bill again, or accepts what is there: "
                "docs/xero.md, Changes by hand",
            )
        )
    for waiting in status.xero_waiting:
        findings.append(
            Finding(
                f"Approved bills wait for Xero: {waiting.count:,}, of {', '.join(waiting.customers)}.",
                waiting.error,
                "what the reason says; these bills are sent automatically after that",
            )
        )
    return findings


def _of_other_queues(status: InstallationStatus) -> list[Finding]:
    """The queues that a relay has found at RabbitMQ with another type, or other arguments, than it would declare, and those
    that it cannot use."""
    return [
        Finding(f"{found}.", *_consequence_and_cure(found))
        for found in sorted({each for relay in status.alive("relay") for each in relay.other_queues})
    ]


def _consequence_and_cure(found: str) -> tuple[str, str]:
    if " cannot be used: " in found:
        return "its messages wait in Postgres; those of other queues flow", "start the node of RabbitMQ that has the queue"
    if " is of the type " in found:
        return (
            "it is used as it is; a classic queue is lost with its node, and a quorum queue is slower on a single node",
            "set STINT_QUEUE_TYPE to what it is, or have it created again: docs/operations.md, A queue differs",
        )
    return (
        "it is used as it is, and RabbitMQ does what its arguments say: it may drop messages, which are sent again after "
        "STINT_SENT_SECONDS, or refuse them, which stops all queues",
        "have it created again: docs/operations.md, A queue differs",
    )


def _of_queue(status: InstallationStatus, queue: QueueDepth) -> Finding | None:
    if queue.name not in QUEUES:
        if not queue.ready:
            return None
        return Finding(
            f"{queue.ready:,} messages are for a queue that this version does not know: {queue.name}.",
            "another version of Stint enqueued them, or somebody wrote them into the database",
            "start the relay and the workers of that version; no others process them",
        )
    if not status.alive("work", queue.name):
        return Finding(
            f"No worker is alive for the queue {queue.name}.",
            f"{queue.ready + queue.sent:,} messages wait for one",
            f"./stint up runs them; or ./stint work --queues {queue.name}",
        )
    if queue.oldest_due_seconds > LATE_SECONDS:
        return Finding(
            f"Messages of {queue.name} wait too long: the oldest for {queue.oldest_due_seconds:,.0f} s.",
            f"{queue.ready:,} are ready, {queue.sent:,} are in RabbitMQ, {queue.calling:,} make an external call",
            f"read the worker's log for errors; without errors, start one more: ./stint work --queues {queue.name}",
        )
    return None


def _of_server(name: str, state: str, cure: str | None) -> Finding:
    if state == "lacks migrations":
        return Finding("The database lacks migrations.", "a newer version of Stint runs on it", "./stint migrate")
    if state.startswith("has refused"):
        return Finding(
            f"{name} {state}.",
            "these bills are approved but not in Xero; they will not be retried automatically",
            "fix what `xero.error` of each bill says, then send them again: docs/xero.md, Sending failed bills again",
        )
    if name == "API" and state.startswith("has "):
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
    why, do = {
        "Postgres": (
            "the API answers 503 and workers wait; nothing is lost",
            "start it, or fix DATABASE_URL and restart Stint",
        ),
        "RabbitMQ": (
            "the API works as usual; the work that it accepts waits in Postgres",
            "start it, or fix AMQP_URL and restart Stint",
        ),
        "API": ("no client is served", "./stint up, or ./stint api; its log says why it ended"),
        "user pool": (
            "users who are disabled or deleted there keep Slack and mails in the meantime; nobody loses access",
            "look at a worker for the queue mail, and at the credentials and the address of the pool",
        ),
        "Xero": (
            "approved bills wait; they are sent automatically once Stint has access",
            cure or "an admin connects Xero: docs/xero.md",
        ),
        "Slack": (
            "confirmations and reminders wait; they are posted automatically once Slack gives access",
            cure or "docs/operations.md, Slack",
        ),
        "mail": (
            "each mail is retried for about an hour, then it is a dead letter",
            "start the mail server, or fix SMTP_URL and restart Stint",
        ),
    }[name]
    return Finding(f"{name} {state}.", why, do)

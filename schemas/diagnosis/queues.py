"""What is wrong with the queues, and with the workers of each."""

from schemas.diagnosis.finding import Finding
from schemas.diagnosis.status import InstallationStatus
from schemas.messages import QUEUES
from schemas.outbox.heartbeats import Process
from schemas.outbox.metrics import QueueDepth

LATE_SECONDS = 60.0  # a message that is due for longer is reported
FULL = 400  # with as many messages of a queue at RabbitMQ, the others wait for workers, not for the relay


def of_other_queues(status: InstallationStatus) -> list[Finding]:
    """The queues that a relay would have declared with another type or other arguments, and those that it cannot use."""
    found: set[str] = set()  # several relays may have found the same
    for relay in status.alive("relay"):
        found.update(relay.other_queues)
    return [Finding(f"{text}.", *_consequence_and_cure(text)) for text in sorted(found)]


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


def of_queue(status: InstallationStatus, queue: QueueDepth) -> Finding | None:
    """What keeps the messages of a queue waiting, if anything does."""
    if queue.name not in QUEUES:
        if not queue.ready:
            return None
        return Finding(
            f"Messages are for a queue that this version does not know: {queue.ready:,} for {queue.name}.",
            "another version of Stint enqueued them, or somebody wrote them into the database",
            "start the relay and the workers of that version; no others process them",
        )
    waiting = status.waiting(queue.name)
    if waiting and not status.alive("work", queue.name):
        return _of_waiting(queue, waiting)
    if not status.alive("work", queue.name):
        return Finding(
            f"No worker is alive for the queue {queue.name}.",
            f"messages that wait for one: {queue.ready + queue.sent:,}",
            f"./stint up runs them; or ./stint work --queues {queue.name}",
        )
    if queue.oldest_due_seconds > LATE_SECONDS:
        state, do = _where_the_oldest_is(queue)
        return Finding(
            f"Messages of {queue.name} wait too long: the oldest for {queue.oldest_due_seconds:,.0f} s.",
            f"the oldest {state}; {queue.ready:,} are ready, {queue.sent:,} are in RabbitMQ or with a worker, "
            f"{queue.calling:,} make an external call",
            do,
        )
    return None


def _of_waiting(queue: QueueDepth, waiting: list[Process]) -> Finding | None:
    """Of a queue whose workers cannot take its messages. Why they cannot use RabbitMQ is a finding of its own."""
    missing = {each.process: each.problems["queues"].partition(": ")[2] for each in waiting if "queues" in each.problems}
    if not missing:
        return None
    return Finding(
        f"No worker takes messages of the queue {queue.name}: {', '.join(missing)} waits for its queues: "
        f"{'; '.join(dict.fromkeys(missing.values()))}.",
        f"messages that wait for one: {queue.ready + queue.sent:,}",
        "start a relay, which declares the queues; if one runs, let AMQP_URL of both name the same RabbitMQ and virtual host",
    )


def _where_the_oldest_is(queue: QueueDepth) -> tuple[str, str]:
    """In words, and what to do about it."""
    another = f"without errors, start one more: ./stint work --queues {queue.name}"
    oldest = queue.oldest_seconds
    if oldest.ready == oldest.unfinished and queue.sent < FULL:
        return "waits for the relay", "the relay's log says why it is not sent; a problem of RabbitMQ is a finding of its own"
    if oldest.calling == oldest.unfinished:
        return "waits for another server's answer", f"read the worker's log for errors of that server; {another}"
    return "waits for a worker", f"read the worker's log for errors; {another}"

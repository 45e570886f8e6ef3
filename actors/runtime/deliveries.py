"""A delivery from RabbitMQ, and the checks of its row in `messages` before a handler runs.

A message that ends the process of its worker is poison (docs/decisions/0005-poison.md). RabbitMQ delivers all messages of such
a worker again, with the flag `redelivered`. One of them may be the cause, so all of them are *suspected*.

A suspected message may not start at once: its `can_start` is False. First `commit_start` commits that its handler starts. It
lets only one suspected message run at a time. If the worker dies again, this commit proves which message was running. Then the
crash counts as a failed attempt of this message.
"""

import threading
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from actors.runtime.failures import record_failure
from schemas.messages import Message, parse_body
from schemas.outbox import outbox
from schemas.outbox.dead_letters import unrecognized_messages
from schemas.outbox.failed_attempts import Failure
from schemas.outbox.outbox import Record, State
from schemas.postgres.connection import Connection


@dataclass(frozen=True)
class Delivery:
    """What RabbitMQ has delivered to this worker."""

    id: UUID  # of a row in `messages`
    delivery_number: int  # counts how often the row was published
    actor: str
    queue: str
    redelivered: bool  # whether a consumer had it before
    body: bytes  # of the raw message
    headers: dict[str, Any]  # of the raw message


@dataclass(frozen=True)
class LockedMessage:
    """A locked row that this delivery may process, and its body as the handler's message."""

    record: Record
    message: Message
    can_start: bool  # False for a suspected message, until `commit_start` has committed that it starts


async def lock_for_delivery(
    conn: Connection, delivery: Delivery, *, worker: str, base_seconds: float, started: bool = False
) -> LockedMessage | None:
    """Locks the delivery's row and checks it. Returns None if there is nothing to do:

    - it is a duplicate delivery;
    - no message has this id, actor and queue, which is recorded as an unrecognized message;
    - its handler has ended a worker, which is recorded as a failed attempt.

    `started` is True if `commit_start` has just returned True for this delivery. Raises InvalidBody.
    """
    record = await outbox.lock(conn, delivery.id)
    if record is None or (record.actor, record.queue) != (delivery.actor, delivery.queue):
        reason = "no message of ours has this id, actor and queue"
        await unrecognized_messages.record_unrecognized(
            conn, queue=delivery.queue, reason=reason, body=delivery.body, headers=delivery.headers
        )
        return None
    if not record.is_delivery(delivery.delivery_number):
        return None
    if delivery.redelivered and not started and record.started_delivery == record.delivery_number:
        await _record_crash(conn, record, worker=worker, base_seconds=base_seconds)
        return None
    not_suspected = record.started_delivery is None and not delivery.redelivered
    return LockedMessage(record, parse_body(record.actor, record.body), can_start=started or not_suspected)


async def _record_crash(conn: Connection, record: Record, *, worker: str, base_seconds: float) -> None:
    """Counts the worker's crash as a failed attempt.

    The first crash that is proven counts twice, because the crash before it, which made the message suspected, was not counted.
    So a message that ends its worker each time is dead after max_attempts crashes.
    """
    failure = Failure(
        error_class="WorkerDied",
        error="the worker died while its handler ran",
        traceback="",
        worker=worker,
        crash=True,
    )
    state = await record_failure(conn, record, failure, base_seconds=base_seconds)
    if record.crashes == 0 and state is State.ready and (again := await outbox.lock(conn, record.id)) is not None:
        await record_failure(conn, again, failure, base_seconds=base_seconds)


# In each process, one suspected message runs at a time. If two ran at the same time and the worker died, both would get a
# failed attempt. So a message that is not poison could become dead.
poison_lock = threading.Lock()
SUSPECT_RETRY_SECONDS = 0.5  # until the next try, while another suspected message is running


async def commit_start(conn: Connection, delivery: Delivery) -> bool:
    """Commits that the handler of a suspected message starts now, if no other suspected message runs in this process.

    If the worker dies, the next delivery can attribute the crash to this message alone.

    True: the caller owns `poison_lock` and must release it. False: another suspected message runs, so this one is rescheduled.
    The thread does not wait, because other messages need it.
    """
    acquired = poison_lock.acquire(blocking=False)
    try:
        async with conn.transaction():
            record = await outbox.lock(conn, delivery.id)
            if record is not None and record.is_delivery(delivery.delivery_number):
                if acquired:
                    await outbox.mark_started(conn, record.id)
                else:
                    await outbox.reschedule_suspect(conn, record.id, seconds=SUSPECT_RETRY_SECONDS)
    except BaseException:
        if acquired:
            poison_lock.release()
        raise
    return acquired

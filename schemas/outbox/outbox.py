"""The transactional outbox. A message is a row in `messages`, which is written in the transaction that needs its work done.

Postgres decides which messages are done. RabbitMQ only carries references to rows.

    ready → sent → done              the relay publishes it, a worker handles it in one transaction
    sent → calling → done            for an external call: a lease instead of a transaction that stays open during the call
    sent | calling → ready           a failed attempt, with backoff (schemas/outbox/failed_attempts.py)
    sent | calling → dead            max_attempts is reached, or a retry cannot help
    dead → ready, dead ⇄ discarded   a person replays or discards it (schemas/outbox/dead_letters/actions.py)

Every transition first locks the row by its id and then checks its state. `UPDATE … WHERE id = … AND state = 'sent'` would not
see the new state if another transaction is just setting it. (The relay and the rescuer skip locked rows instead.)
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from schemas.messages import Message
from schemas.postgres.connection import Connection

# An empty notification wakes the relays, one per transaction. It may be lost: relays poll as well.
CHANNEL = "stint_ready"

# The message whose handler is running. Messages that the handler enqueues get it as their cause_id.
cause: ContextVar[UUID | None] = ContextVar("cause", default=None)


class State(StrEnum):
    ready = "ready"
    sent = "sent"
    calling = "calling"
    done = "done"
    dead = "dead"
    discarded = "discarded"


async def enqueue(
    conn: Connection,
    message: Message,
    *,
    created_by: UUID | None = None,
    available_at: datetime | None = None,
    done: bool = False,
) -> UUID:
    """Writes a message in the caller's transaction, and returns its id. This, or `enqueue_many`, is the only way to send one.

    It is handled at `available_at`; without one, as soon as possible. `done`: there is nothing to do for it. The row is written
    all the same, so that a client cannot find that out by measuring how long its request takes.
    """
    (message_id,) = await _insert(conn, [message], created_by=created_by, available_at=available_at, done=done)
    return message_id


async def enqueue_many(conn: Connection, messages: Sequence[Message], *, created_by: UUID | None = None) -> list[UUID]:
    """Writes messages in the caller's transaction, in one statement, and returns their ids, in no particular order."""
    return await _insert(conn, messages, created_by=created_by)


async def _insert(
    conn: Connection,
    messages: Sequence[Message],
    *,
    created_by: UUID | None,
    available_at: datetime | None = None,
    done: bool = False,
) -> list[UUID]:
    """Writes messages as enqueue_message.sql does, which other SQL functions call.

    It does not call that function: while the database lacks it, work that has begun before must be able to end, such as an
    external call.
    """
    return await conn.values(
        f"""
        WITH new AS (
            INSERT INTO messages (id, actor, queue, body, max_attempts, created_by, cause_id, available_at, state, done_at)
            SELECT gen_random_uuid(), actor, queue, body, max_attempts, %(created_by)s, %(cause)s,
                   coalesce(%(available_at)s, now() - make_interval(secs => priority)),
                   CASE WHEN %(done)s THEN 'done' ELSE 'ready' END, CASE WHEN %(done)s THEN now() END
            FROM unnest(
                %(actors)s::text[], %(queues)s::text[], %(bodies)s::jsonb[], %(attempts)s::int[], %(priorities)s::float[]
            ) AS m (actor, queue, body, max_attempts, priority)
            RETURNING id
        )
        SELECT id, pg_notify('{CHANNEL}', '') FROM new
        """,
        {
            "created_by": created_by,
            "cause": cause.get(),
            "available_at": available_at,
            "done": done,
            "actors": [message.actor for message in messages],
            "queues": [message.queue for message in messages],
            "bodies": [message.model_dump_json() for message in messages],
            "attempts": [message.max_attempts for message in messages],
            "priorities": [message.priority_seconds for message in messages],
        },
    )


@dataclass(frozen=True)
class Record:
    """A row of `messages`, as a worker needs it. `body` is not validated yet."""

    id: UUID
    actor: str
    queue: str
    body: dict[str, Any]
    state: State
    delivery_number: int
    attempts: int
    max_attempts: int
    crashes: int
    replays: int
    granted_attempts: int | None  # by the last replay; None: DEFAULT_MAX_ATTEMPTS
    started_delivery: int | None  # None: not suspected to be poison; otherwise see `mark_started`
    lease_token: UUID | None

    def is_delivery(self, delivery_number: int) -> bool:
        """Whether the delivery with this number is the current one. Any other is a duplicate."""
        return self.state is State.sent and self.delivery_number == delivery_number

    def is_leased(self, token: UUID) -> bool:
        """Whether the lease with this token is still valid."""
        return self.state is State.calling and self.lease_token == token


async def lock(conn: Connection, message_id: UUID) -> Record | None:
    """The row, locked until the transaction ends. None: no message has this id."""
    row = await conn.maybe(
        """
        SELECT id, actor, queue, body, state, delivery_number, attempts, max_attempts, crashes, replays, granted_attempts,
               started_delivery, lease_token
        FROM messages WHERE id = %s FOR UPDATE
        """,
        (message_id,),
    )
    if row is None:
        return None
    id_, actor, queue, body, state, *rest = row
    return Record(id_, actor, queue, body, State(state), *rest)


async def complete(conn: Connection, message_id: UUID) -> None:
    """Marks a locked message as done, in the transaction of its effect. SQL functions call complete_message.sql instead."""
    await conn.execute(
        """
        UPDATE messages SET state = 'done', done_at = clock_timestamp(), lease_token = NULL, lease_until = NULL, error = NULL
        WHERE id = %s
        """,
        (message_id,),
    )


async def reschedule(conn: Connection, message_id: UUID, *, seconds: float) -> None:
    """Reschedules a locked message `seconds` from now without counting an attempt."""
    await conn.execute(
        f"""
        WITH message AS (
            UPDATE messages
            SET state = 'ready', lease_token = NULL, lease_until = NULL,
                available_at = clock_timestamp() + make_interval(secs => %s)
            WHERE id = %s
        )
        SELECT pg_notify('{CHANNEL}', '') WHERE %s <= 0
        """,
        (seconds, message_id, seconds),
    )


async def mark_started(conn: Connection, message_id: UUID) -> None:
    """Records that the handler of a suspected message starts now. If the worker dies, the next delivery can attribute the
    crash.

    A message is suspected if a worker died while it had the message: it may be poison (actors/runtime/deliveries.py).
    """
    await conn.execute("UPDATE messages SET started_delivery = delivery_number WHERE id = %s", (message_id,))


async def reschedule_suspect(conn: Connection, message_id: UUID, *, seconds: float) -> None:
    """Reschedules a locked message that is suspected to be poison, because another suspected message runs.

    It stays suspected, and no attempt is counted.
    """
    # coalesce: any value means suspected, and 0 is the number of no delivery, since they are counted from 1
    await conn.execute(
        """
        UPDATE messages SET state = 'ready', started_delivery = coalesce(started_delivery, 0),
            available_at = clock_timestamp() + make_interval(secs => %s)
        WHERE id = %s
        """,
        (seconds, message_id),
    )


async def lease(conn: Connection, record: Record, *, seconds: float) -> UUID:
    """Changes a locked message from `sent` to `calling` for `seconds`, and returns the token of the lease."""
    token = uuid4()
    await conn.execute(
        """
        UPDATE messages SET state = 'calling', lease_token = %s, lease_until = clock_timestamp() + make_interval(secs => %s)
        WHERE id = %s
        """,
        (token, seconds, record.id),
    )
    return token


async def states(conn: Connection, message_ids: list[UUID]) -> dict[UUID, State]:
    """The states of these messages, by id."""
    rows = await conn.all("SELECT id, state FROM messages WHERE id = ANY(%s)", (message_ids,))
    return {message_id: State(state) for message_id, state in rows}


@dataclass(frozen=True)
class OwnMessage:
    """The state of a message, for the user who has caused it. `error` is that of the last failed attempt, and may contain
    secrets."""

    id: UUID
    state: State
    attempts: int
    error: str | None
    done_at: datetime | None

    @property
    def is_settled(self) -> bool:
        """Whether nothing more happens to it automatically."""
        return self.state in (State.done, State.dead, State.discarded)


async def find_own(conn: Connection, message_id: UUID, *, actor: str, created_by: UUID) -> OwnMessage | None:
    """The message of that actor, if this user has caused it."""
    return await conn.maybe(
        "SELECT id, state, attempts, error, done_at FROM messages WHERE id = %s AND actor = %s AND created_by = %s",
        (message_id, actor, created_by),
        row=OwnMessage,
    )

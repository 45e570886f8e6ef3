"""The ledger: one row per promised piece of work, from promise to done. Postgres is the truth; RabbitMQ carries references.

    ready → sent → done          the relay sends, a worker handles in one transaction
    sent → calling → done        call-outs: a lease instead of a transaction held across the call
    sent | calling → ready       a failed attempt, with backoff (schemas/failures.py)
    sent | calling → dead        the allowance is used up, or no retry could help
    dead → ready, dead ⇄ discarded   a person replays it, or puts it away (schemas/letter_moves.py)

Every transition locks the row by its id first and then looks: `UPDATE … WHERE id = … AND state = 'sent'` would not wait for
another transaction that is just setting `sent`, but miss it. (Claiming and sweeping skip locked rows instead.)
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from schemas.database import Connection
from schemas.messages import Message

# One empty notification per transaction, to wake the relays; their poll is the truth.
CHANNEL = "stint_ready"

# The message whose handler is running: whatever that handler puts was caused by it.
cause: ContextVar[UUID | None] = ContextVar("cause", default=None)


class State(StrEnum):
    ready = "ready"
    sent = "sent"
    calling = "calling"
    done = "done"
    dead = "dead"
    discarded = "discarded"


async def put(
    conn: Connection,
    message: Message,
    *,
    created_by: UUID | None = None,
    available_at: datetime | None = None,
) -> UUID:
    """Promises a piece of work in the caller's transaction, and returns its id. The only way to send anything.

    `available_at` times it for later.
    """
    message_id = uuid4()
    await conn.execute(
        f"""
        WITH message AS (
            INSERT INTO messages (id, actor, queue, body, allowance, created_by, cause_id, available_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, coalesce(%s, now() - make_interval(secs => %s)))
        )
        SELECT pg_notify('{CHANNEL}', '')
        """,
        (
            message_id, message.actor, message.queue, message.model_dump_json(), message.allowance,
            created_by, cause.get(), available_at, message.ahead_seconds,
        ),
    )  # fmt: skip
    return message_id


async def put_all(conn: Connection, messages: Sequence[Message], *, created_by: UUID | None = None) -> None:
    """Promises many at once, in the caller's transaction and in one statement."""
    await conn.execute(
        f"""
        WITH promised AS (
            INSERT INTO messages (id, actor, queue, body, allowance, created_by, cause_id, available_at)
            SELECT gen_random_uuid(), actor, queue, body, allowance, %s, %s, now() - make_interval(secs => ahead)
            FROM unnest(%s::text[], %s::text[], %s::jsonb[], %s::int[], %s::float[]) AS m (actor, queue, body, allowance, ahead)
        )
        SELECT pg_notify('{CHANNEL}', '')
        """,
        (
            created_by, cause.get(),
            [message.actor for message in messages], [message.queue for message in messages],
            [message.model_dump_json() for message in messages], [message.allowance for message in messages],
            [message.ahead_seconds for message in messages],
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Record:
    """A row of `messages`, as a worker needs it. `body` is what was put, not yet checked against its model."""

    id: UUID
    actor: str
    queue: str
    body: dict[str, Any]
    state: State
    publication: int
    attempts: int
    allowance: int
    crashes: int
    replays: int
    begun: int | None
    lease_token: UUID | None

    def is_delivery(self, publication: int) -> bool:
        """Whether a delivery of that publication is the one to work on; any other is a duplicate."""
        return self.state is State.sent and self.publication == publication

    def is_leased(self, token: UUID) -> bool:
        return self.state is State.calling and self.lease_token == token


async def lock(conn: Connection, message_id: UUID) -> Record | None:
    """The row, locked until the transaction ends; waits for whoever holds it. None: no message of ours has that id."""
    cursor = await conn.execute(
        """
        SELECT id, actor, queue, body, state, publication, attempts, allowance, crashes, replays, begun, lease_token
        FROM messages WHERE id = %s FOR UPDATE
        """,
        (message_id,),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    id_, actor, queue, body, state, *rest = row
    return Record(id_, actor, queue, body, State(state), *rest)


async def settle(conn: Connection, message_id: UUID) -> None:
    """Marks a locked message done; commits with its effect or not at all."""
    await conn.execute(
        """
        UPDATE messages SET state = 'done', done_at = clock_timestamp(), lease_token = NULL, lease_until = NULL, error = NULL
        WHERE id = %s
        """,
        (message_id,),
    )


async def put_off(conn: Connection, message_id: UUID, *, seconds: float) -> None:
    """Makes a locked message ready again for so much later, at no cost: its turn has not come yet, or is not over."""
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


async def mark_begun(conn: Connection, message_id: UUID) -> None:
    """Notes that the handler of a message under suspicion is about to begin: should the worker die now, the next delivery
    knows whose doing it was."""
    await conn.execute("UPDATE messages SET begun = publication WHERE id = %s", (message_id,))


async def postpone(conn: Connection, message_id: UUID, *, seconds: float) -> None:
    """Makes a locked message under suspicion ready again for a little later, at no cost: another one is having its turn."""
    await conn.execute(
        """
        UPDATE messages SET state = 'ready', begun = coalesce(begun, 0),
            available_at = clock_timestamp() + make_interval(secs => %s)
        WHERE id = %s
        """,
        (seconds, message_id),
    )


async def lease(conn: Connection, record: Record, *, seconds: float) -> UUID:
    """Turns a locked `sent` message into `calling`, for that long, and returns the token that settles it."""
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
    """Where these messages stand."""
    cursor = await conn.execute("SELECT id, state FROM messages WHERE id = ANY(%s)", (message_ids,))
    return {message_id: State(state) for message_id, state in await cursor.fetchall()}

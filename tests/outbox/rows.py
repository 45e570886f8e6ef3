"""Rows of the outbox in a database without workers, for tests that call one function of it at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID, uuid4

from actors.runtime.deliveries import Delivery
from schemas.postgres.connection import Connection

T = TypeVar("T")
ACTOR, QUEUE = "recompute_bills", "bills"


def over(url: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Runs `work` with a connection to the database."""

    async def run() -> T:
        async with connected(url) as conn:
            return await work(conn)

    return asyncio.run(run())


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection that waits at most 0.3 s for a lock."""
    async with await Connection.connect(url, autocommit=True, options="-c lock_timeout=300") as conn:
        yield conn


async def message(conn: Connection, state: str = "ready", **columns: Any) -> UUID:
    """A message in this state, with the columns that the state needs. Values of `columns` are SQL."""
    needed = {
        "sent": {"sent_at": "now()", "delivery_number": "1"},
        "calling": {"lease_token": "gen_random_uuid()", "lease_until": "now() + interval '1 minute'", "delivery_number": "1"},
        "done": {"done_at": "now()"},
    }
    values = {"actor": f"'{ACTOR}'", "queue": f"'{QUEUE}'", "body": f"""'{{"bill_ids": ["{uuid4()}"]}}'""", "max_attempts": "5"}
    values |= needed.get(state, {}) | columns
    found: UUID = await conn.value(
        f"INSERT INTO messages (id, state, {', '.join(values)}) VALUES (gen_random_uuid(), %s, {', '.join(values.values())})"
        " RETURNING id",
        (state,),
    )
    return found


async def states(conn: Connection, *message_ids: UUID) -> list[str]:
    """The states of these messages, in this order."""
    found = dict(await conn.all("SELECT id, state FROM messages WHERE id = ANY(%s)", (list(message_ids),)))
    return [found[message_id] for message_id in message_ids]


def delivery(
    message_id: UUID, number: int = 1, *, redelivered: bool = False, actor: str = ACTOR, queue: str = QUEUE
) -> Delivery:
    """A delivery of the message, as RabbitMQ makes it."""
    return Delivery(message_id, number, actor, queue, redelivered=redelivered, body=b"raw", headers={})

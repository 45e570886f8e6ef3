"""Finds a pooler that assigns connections to Postgres per transaction, as PgBouncer does in its transaction mode.

Stint needs connections that keep their session: notifications (LISTEN), advisory locks that show whether a relay lives, and
limits on the time of statements. A pooler in session mode keeps them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg

from schemas.postgres.connection import Connection

ROUNDS = 2
SECONDS = 3.0  # for all of it; a session pooler without free connections lets the second one wait
POOLED = (
    "DATABASE_URL leads to a pooler that assigns connections per transaction (PgBouncer: pool_mode = transaction), and "
    "Stint needs sessions of its own: set pool_mode = session, or let DATABASE_URL lead to Postgres itself"
)


class PooledTransactions(Exception):
    """A pooler assigns connections per transaction; the text says so and what to do."""

    def __init__(self) -> None:
        super().__init__(f"{POOLED}.")


async def is_pooled(connect: Callable[[], Awaitable[Connection]]) -> bool:
    """Whether transactions of one connection run in sessions of different servers processes, or those of two connections in the
    same one. Neither can happen without such a pooler, so True is certain. False also if it takes longer than SECONDS. Raises
    psycopg.Error if Postgres is not reachable."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS), await connect() as one, await connect() as other:
            return await _share_sessions(one, other)
    return False


async def _share_sessions(one: Connection, other: Connection) -> bool:
    """A pooler gives the next transaction the session that was released last, or first, or any: the transactions here are
    consecutive, and one is open while another begins, so each of these shows."""
    of_one, of_other = await _session(one), await _session(other)
    if of_one == of_other:
        return True
    for _ in range(ROUNDS):
        for held, free in ((one, other), (other, one)):
            async with held.transaction():
                if {held: await _session(held), free: await _session(free)} != {one: of_one, other: of_other}:
                    return True
    return False


async def _session(conn: Connection) -> int:
    """The process of Postgres that runs this connection's session."""
    cursor = await conn.execute("SELECT pg_backend_pid()", prepare=False)
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def refuse_pooler(database_url: str) -> None:
    """Raises PooledTransactions. Accepts an unreachable database, since the parts of Stint wait for theirs."""
    with suppress(psycopg.Error):
        if await is_pooled(lambda: Connection.connect(database_url, autocommit=True, connect_timeout=2)):
            raise PooledTransactions

"""Limits on what strangers may ask for. They are kept in Postgres, so that they hold across all API processes.

Each is an allowance of `burst` that fills up again by one every so many seconds (the generic cell rate algorithm, which needs
one row a key and no history).
"""

import math
from dataclasses import dataclass
from typing import Any

from schemas.database import Connection
from schemas.errors import TooMany


@dataclass(frozen=True)
class Limit:
    """So many at once, and then one every `seconds`."""

    name: str
    burst: int
    seconds: float


async def take(conn: Connection, limit: Limit, whose: str = "") -> None:
    """Uses one up, in the caller's transaction; raises TooMany, and uses up nothing, when there is none left."""
    key = f"{limit.name}:{whose}"
    parameters = {"key": key, "seconds": limit.seconds, "burst": limit.burst}
    await _refuse(conn, parameters)  # an attack's many refused requests only read: they queue for no row
    cursor = await conn.execute(
        """
        INSERT INTO rate_limits AS r (key, whole_at) VALUES (%(key)s, clock_timestamp() + make_interval(secs => %(seconds)s))
        ON CONFLICT (key) DO UPDATE
        SET whole_at = greatest(r.whole_at, clock_timestamp()) + make_interval(secs => %(seconds)s)
        WHERE r.whole_at <= clock_timestamp() + make_interval(secs => %(seconds)s * (%(burst)s - 1))
        RETURNING key
        """,
        parameters,
    )
    if await cursor.fetchone() is None:  # others were faster, in the meantime
        await _refuse(conn, parameters)
        raise _too_many(1)


async def _refuse(conn: Connection, parameters: dict[str, Any]) -> None:
    """Raises TooMany when the allowance is used up."""
    cursor = await conn.execute(
        """
        SELECT extract(epoch FROM whole_at - clock_timestamp())::float - %(seconds)s * (%(burst)s - 1)
        FROM rate_limits WHERE key = %(key)s
        """,
        parameters,
    )
    row = await cursor.fetchone()
    if row is not None and row[0] > 0:
        raise _too_many(max(1, math.ceil(row[0])))


def _too_many(seconds: int) -> TooMany:
    return TooMany(f"That was asked for too often; try again in {_spoken(seconds)}.", seconds=seconds)


async def has_room(conn: Connection, limit: Limit, whose: str = "") -> bool:
    """Uses one up if there is one left; whether there was."""
    try:
        await take(conn, limit, whose)
    except TooMany:
        return False
    return True


def _spoken(seconds: int) -> str:
    return f"{seconds} seconds" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"


async def prune(conn: Connection, *, rows: int) -> None:
    """Forgets limits that are whole again, some at a time."""
    await conn.execute(
        """
        DELETE FROM rate_limits WHERE key IN (
            SELECT key FROM rate_limits WHERE whole_at < clock_timestamp() ORDER BY whole_at LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (rows,),
    )

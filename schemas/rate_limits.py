"""Rate limits, inbound and outbound, shared by all processes (GCRA in Postgres).

GCRA is the generic cell rate algorithm: it needs one row per key and no history.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Network, ip_network
from typing import Any

from schemas.errors import RateLimited
from schemas.postgres.connection import Connection

SITE_BITS = 48


@dataclass(frozen=True)
class Limit:
    """Allows `burst` uses at once, and then one use every `seconds`."""

    name: str
    burst: int
    seconds: float


async def consume(conn: Connection, limit: Limit, key: str = "") -> None:
    """Counts one use of the limit, in the caller's transaction. Raises RateLimited, and counts nothing, if it is exhausted.
    `key`: a client, an address or a customer; each has a limit of its own."""
    parameters = {"key": f"{limit.name}:{key}", "seconds": limit.seconds, "burst": limit.burst}
    await _raise_if_exhausted(conn, parameters)  # many refused requests only read, so they do not wait for the row's lock
    consumed = await conn.maybe(
        """
        INSERT INTO rate_limits AS r (key, refilled_at) VALUES (%(key)s, clock_timestamp() + make_interval(secs => %(seconds)s))
        ON CONFLICT (key) DO UPDATE
        SET refilled_at = greatest(r.refilled_at, clock_timestamp()) + make_interval(secs => %(seconds)s)
        WHERE r.refilled_at <= clock_timestamp() + make_interval(secs => %(seconds)s * (%(burst)s - 1))
        RETURNING key
        """,
        parameters,
    )
    if consumed is None:  # concurrent requests have used it up since the check
        await _raise_if_exhausted(conn, parameters)
        raise rate_limited(1)


async def _raise_if_exhausted(conn: Connection, parameters: dict[str, Any]) -> None:
    wait_seconds = await conn.value(
        """
        SELECT extract(epoch FROM refilled_at - clock_timestamp())::float - %(seconds)s * (%(burst)s - 1)
        FROM rate_limits WHERE key = %(key)s
        """,
        parameters,
    )
    if wait_seconds is not None and wait_seconds > 0:
        raise rate_limited(max(1, math.ceil(wait_seconds)))


def rate_limited(seconds: int) -> RateLimited:
    """The error of an exhausted limit."""
    wait = f"{seconds} {'second' if seconds == 1 else 'seconds'}" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"
    return RateLimited(f"Too many requests of this kind; try again in {wait}.", seconds=seconds)


async def reserve(conn: Connection, limit: Limit, key: str = "") -> datetime:
    """Reserves the next free time under the limit, and returns it. Ignores the burst. Valid once the caller's transaction
    commits."""
    reserved: datetime = await conn.value(
        """
        INSERT INTO rate_limits AS r (key, refilled_at) VALUES (%(key)s, clock_timestamp() + make_interval(secs => %(seconds)s))
        ON CONFLICT (key) DO UPDATE
        SET refilled_at = greatest(r.refilled_at, clock_timestamp()) + make_interval(secs => %(seconds)s)
        RETURNING refilled_at - make_interval(secs => %(seconds)s)
        """,
        {"key": f"{limit.name}:{key}", "seconds": limit.seconds},
    )
    return reserved


async def pause(conn: Connection, limit: Limit, key: str = "", *, seconds: float) -> None:
    """Allows no use of the limit within the next `seconds`, because the other system asked for that. Then one use every
    `limit.seconds` is free, without a burst."""
    await conn.execute(
        """
        INSERT INTO rate_limits AS r (key, refilled_at) VALUES (%(key)s, clock_timestamp() + make_interval(secs => %(seconds)s))
        ON CONFLICT (key) DO UPDATE SET refilled_at = greatest(r.refilled_at, excluded.refilled_at)
        """,
        {"key": f"{limit.name}:{key}", "seconds": seconds + limit.seconds * (limit.burst - 1)},
    )


async def try_consume(conn: Connection, limit: Limit, key: str = "") -> bool:
    """As `consume`, but returns False if the limit is exhausted."""
    try:
        await consume(conn, limit, key)
    except RateLimited:
        return False
    return True


def site_of(client: str) -> str | None:
    """The /48 of a client with IPv6, None for any other. Who has one has 65,536 networks of /64, each a client."""
    with suppress(ValueError):
        network = ip_network(client)
        if isinstance(network, IPv6Network) and network.prefixlen > SITE_BITS:
            return str(network.supernet(new_prefix=SITE_BITS))
    return None

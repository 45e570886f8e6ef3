"""Xero's rate limits for one organisation: concurrent calls, calls per minute, calls per day. All processes keep them together.

Each call takes a slot, which is a row of `xero_calls`. The call may reach Xero at any moment between `acquire` and its end. So
it counts until one minute after its end; for the limit of the day, until one day after it. With a limit of 60 calls per minute,
the 61st call is admitted a minute after the end of the first one. Then no minute of Xero's own clock contains both.

If a process crashes during a call, its slot expires at the deadline of the call.

If no slot is free, the caller reserves a later one. Reserved slots have an interval between them. So of a thousand messages
that wait, not all run again at the same time to find 60 slots. New callers queue behind the reserved slots.
"""

from dataclasses import dataclass
from uuid import UUID

from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero.client_errors import RateLimited

DAY_SECONDS = 86_400
CONCURRENCY_SPACING_SECONDS = 0.2  # between two reserved slots while only the limit of concurrent calls is reached


@dataclass(frozen=True)
class NoSlot:
    """No call may start now: try again in `seconds`."""

    seconds: float


async def acquire(
    conn: Connection, tenant_id: str, settings: Settings, *, seconds: float, skip_queue: bool = False
) -> UUID | NoSlot:
    """Takes a slot for a call that ends within `seconds`, and returns its id. If none is free, it reserves a later slot.

    With `skip_queue`, the reserved slots of others do not count. It is for a caller that has waited for its own slot, and for a
    call that a person waits for.

    The organisation's row is locked until the transaction ends.
    """
    await conn.execute("SELECT 1 FROM xero_tenants WHERE tenant_id = %s FOR NO KEY UPDATE", (tenant_id,))
    slot, wait_seconds = await conn.one(
        """
        WITH usage AS (
            SELECT clock_timestamp() AS now, t.reserved_until, greatest(t.paused_until,
                (SELECT ends_at FROM xero_calls WHERE tenant_id = %(tenant)s
                 ORDER BY ends_at DESC OFFSET %(minute)s - 1 LIMIT 1) + make_interval(secs => %(minute_seconds)s),
                (SELECT ends_at FROM xero_calls WHERE tenant_id = %(tenant)s
                 ORDER BY ends_at DESC OFFSET %(day)s - 1 LIMIT 1) + make_interval(secs => %(day_seconds)s)) AS free_at,
                (SELECT count(*) FROM xero_calls
                 WHERE tenant_id = %(tenant)s AND NOT finished AND ends_at > clock_timestamp()) AS in_flight
            FROM xero_tenants t WHERE t.tenant_id = %(tenant)s
        ), slot AS (
            INSERT INTO xero_calls (tenant_id, ends_at) SELECT %(tenant)s, now + make_interval(secs => %(seconds)s) FROM usage
            WHERE free_at <= now AND in_flight < %(concurrent)s AND (reserved_until <= now OR %(skip_queue)s)
            RETURNING id
        ), reservation AS (
            UPDATE xero_tenants t SET reserved_until = greatest(now, free_at, usage.reserved_until) + make_interval(
                secs => CASE WHEN free_at > now THEN %(spacing)s ELSE least(%(concurrency_spacing)s, %(spacing)s) END)
            FROM usage WHERE t.tenant_id = %(tenant)s AND NOT EXISTS (SELECT FROM slot)
            RETURNING extract(epoch FROM t.reserved_until - usage.now)::float AS seconds
        )
        SELECT (SELECT id FROM slot), (SELECT seconds FROM reservation)
        """,
        {
            "tenant": tenant_id,
            "seconds": seconds,
            "skip_queue": skip_queue,
            "concurrent": settings.xero_calls_at_once,
            "minute": settings.xero_calls_per_minute,
            "minute_seconds": settings.stint_xero_minute_seconds,
            "day": settings.xero_calls_per_day,
            "day_seconds": DAY_SECONDS,
            "spacing": settings.stint_xero_minute_seconds / settings.xero_calls_per_minute,
            "concurrency_spacing": CONCURRENCY_SPACING_SECONDS,
        },
    )
    return slot if slot is not None else NoSlot(max(0.05, wait_seconds or 1.0))


async def release(conn: Connection, slot: UUID, *, succeeded: bool = False) -> None:
    """Records that the call has ended, and whether Xero did what it asked for."""
    await conn.execute(
        "UPDATE xero_calls SET finished = true, ends_at = clock_timestamp(), succeeded = %s WHERE id = %s", (succeeded, slot)
    )


async def pause(conn: Connection, tenant_id: str, limited: RateLimited) -> None:
    """Admits no call until the time that Xero's answer 429 names. The limit is that of the whole organisation."""
    await conn.execute(
        """
        UPDATE xero_tenants
        SET pause_reason = %(limit)s, paused_until = clock_timestamp() + make_interval(secs => %(seconds)s)
        WHERE tenant_id = %(tenant)s AND paused_until < clock_timestamp() + make_interval(secs => %(seconds)s)
        """,
        {"tenant": tenant_id, "limit": limited.limit, "seconds": limited.seconds},
    )

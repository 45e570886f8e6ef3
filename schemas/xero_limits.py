"""Xero's limits for one organisation, kept by all processes together: calls at once, in any minute, in any day.

A call may reach Xero at any moment between being let in here and its end. So it takes up its place until its end, and a minute
more: of sixty-one calls in a row, the last is let in a minute after the first was over, and no minute of Xero's holds both.
Who dies in the middle of a call gives its place back when the call must be over.

Who finds no place is told when its turn comes, each a little after the one before: a thousand that wait are not woken to find
out one by one that there is room for sixty. Whoever comes while others wait stands in line behind them.
"""

from dataclasses import dataclass
from uuid import UUID

from schemas.database import Connection
from schemas.settings import Settings

DAY_SECONDS = 86_400
SOON_SECONDS = 0.2  # between two turns where only calls at once are in the way


@dataclass(frozen=True)
class Turn:
    """No place now; ask again in so many seconds."""

    seconds: float


async def enter(conn: Connection, tenant_id: str, settings: Settings, *, seconds: float, waited: bool = False) -> UUID | Turn:
    """Takes a place for a call that is over within so many seconds, or a turn in the line. `waited`: who asks has stood in
    line, or need not. The organisation is locked until the caller's transaction ends."""
    await conn.execute("SELECT 1 FROM xero_tenants WHERE tenant_id = %s FOR NO KEY UPDATE", (tenant_id,))
    cursor = await conn.execute(
        """
        WITH room AS (
            SELECT clock_timestamp() AS now, t.booked_until, greatest(t.paused_until,
                (SELECT until FROM xero_calls WHERE tenant_id = %(tenant)s ORDER BY until DESC OFFSET %(minute)s - 1 LIMIT 1)
                    + make_interval(secs => %(minute_seconds)s),
                (SELECT until FROM xero_calls WHERE tenant_id = %(tenant)s ORDER BY until DESC OFFSET %(day)s - 1 LIMIT 1)
                    + make_interval(secs => %(day_seconds)s)) AS free_at,
                (SELECT count(*) FROM xero_calls WHERE tenant_id = %(tenant)s AND NOT over AND until > clock_timestamp())
                    AS inside
            FROM xero_tenants t WHERE t.tenant_id = %(tenant)s
        ), place AS (
            INSERT INTO xero_calls (tenant_id, until) SELECT %(tenant)s, now + make_interval(secs => %(seconds)s) FROM room
            WHERE free_at <= now AND inside < %(at_once)s AND (booked_until <= now OR %(waited)s)
            RETURNING id
        ), turn AS (
            UPDATE xero_tenants t SET booked_until = greatest(now, free_at, room.booked_until)
                + make_interval(secs => CASE WHEN free_at > now THEN %(spacing)s ELSE least(%(soon)s, %(spacing)s) END)
            FROM room WHERE t.tenant_id = %(tenant)s AND NOT EXISTS (SELECT FROM place)
            RETURNING extract(epoch FROM t.booked_until - room.now)::float AS seconds
        )
        SELECT (SELECT id FROM place), (SELECT seconds FROM turn)
        """,
        {
            "tenant": tenant_id,
            "seconds": seconds,
            "waited": waited,
            "at_once": settings.xero_calls_at_once,
            "minute": settings.xero_calls_per_minute,
            "minute_seconds": settings.stint_xero_minute_seconds,
            "day": settings.xero_calls_per_day,
            "day_seconds": DAY_SECONDS,
            "spacing": settings.stint_xero_minute_seconds / settings.xero_calls_per_minute,
            "soon": SOON_SECONDS,
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    place, turn = row
    return place if place is not None else Turn(max(0.05, turn or 1.0))


async def leave(conn: Connection, place: UUID) -> None:
    """The call is over."""
    await conn.execute("UPDATE xero_calls SET over = true, until = clock_timestamp() WHERE id = %s", (place,))


async def pause(conn: Connection, tenant_id: str, *, seconds: float) -> None:
    """Nobody calls for so long: Xero said so to one, and means all."""
    await conn.execute(
        """
        UPDATE xero_tenants SET paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => %s))
        WHERE tenant_id = %s
        """,
        (seconds, tenant_id),
    )


async def prune(conn: Connection, *, rows: int) -> None:
    """Forgets calls that no limit looks at any more, some at a time."""
    await conn.execute(
        """
        DELETE FROM xero_calls WHERE id IN (
            SELECT id FROM xero_calls WHERE until < clock_timestamp() - interval '2 days' LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (rows,),
    )

"""Planning the message of the day: each admin gets the time bills to approve, once on each working day.

A row of `slack_approval_days` is inserted in the transaction that enqueues a day's messages, so that the day has them once,
also if several relays plan it at the same time.
"""

from datetime import date

from schemas.messages import PostApprovals
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.approvals import pending, people


async def plan(conn: Connection, settings: Settings) -> int:
    """Enqueues today's messages if it is time, and nobody has done that yet. Returns how many."""
    if settings.slack_bot_token is None or settings.stint_approvals_time == "off":
        return 0
    async with conn.transaction():
        day = await _start_day(conn, settings)
        if day is None or not await pending.is_any_pending(conn, zone=settings.stint_timezone):
            return 0
        messages = [PostApprovals(user_id=admin.id, day=day) for admin in await people.list_admins(conn, settings=settings)]
        if messages:
            await outbox.enqueue_many(conn, messages)
        return len(messages)


async def _start_day(conn: Connection, settings: Settings) -> date | None:
    """The present day, if it is a working day, STINT_APPROVALS_TIME has come, and the day was not started before."""
    day: date | None = await conn.value(
        """
        INSERT INTO slack_approval_days (day)
        SELECT local::date FROM (SELECT clock_timestamp() AT TIME ZONE %(zone)s AS local) clock
        WHERE local::time >= %(time)s::time AND extract(isodow FROM local)::int = ANY(%(days)s)
          AND NOT EXISTS (SELECT FROM slack_approval_days WHERE day = local::date)
        ON CONFLICT (day) DO NOTHING RETURNING day
        """,
        {"zone": settings.stint_timezone, "time": settings.stint_approvals_time, "days": settings.working_days},
    )
    return day

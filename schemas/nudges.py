"""Nudges: whose timer has run for hours is asked in Slack whether that is right. The ledger is the clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from schemas import ledger
from schemas.database import Connection
from schemas.messages import NudgeOwner
from schemas.settings import SettingsMissing, settings


async def plan(conn: Connection, timer_id: UUID, *, user_id: UUID, start_time: datetime) -> None:
    """Promises a look at the timer for when it will have run that long, where there is a Slack to ask in."""
    if (hours := _hours()) is not None:
        due = start_time + timedelta(hours=hours)
        await ledger.put(conn, NudgeOwner(timer_id=timer_id, user_id=user_id), created_by=user_id, available_at=due)


def _hours() -> float | None:
    """How long a timer runs before its owner is asked; None where there is no Slack to ask in."""
    try:
        known = settings()
    except SettingsMissing:  # a timer can be started without a process's settings, too
        return None
    return known.stint_nudge_hours if known.slack_bot_token is not None else None


async def plan_again(conn: Connection, timer_id: UUID, *, user_id: UUID, hours: float) -> None:
    """Promises another look, that many hours from now."""
    cursor = await conn.execute("SELECT now() + make_interval(secs => %s)", (hours * 3600,))
    row = await cursor.fetchone()
    assert row is not None
    await ledger.put(conn, NudgeOwner(timer_id=timer_id, user_id=user_id), created_by=user_id, available_at=row[0])


@dataclass(frozen=True)
class Overdue:
    """A timer that still runs: whose, on what, since when. It is not `due` yet when its start was set to a later time."""

    email: str
    task_id: UUID
    start_time: datetime
    seconds: int
    due: bool


async def look(conn: Connection, message: NudgeOwner, *, hours: float) -> Overdue | None:
    """What the nudge is about, or None when that timer is over, or its owner has no access any more."""
    cursor = await conn.execute(
        """
        SELECT u.email, r.task_id, r.start_time, extract(epoch FROM now() - r.start_time)::bigint,
               r.start_time + make_interval(secs => %(seconds)s) <= now()
        FROM timers r JOIN users u ON u.id = r.user_id
        WHERE r.user_id = %(user)s AND r.id = %(timer)s AND u.revoked_at IS NULL
        """,
        {"user": message.user_id, "timer": message.timer_id, "seconds": hours * 3600},
    )
    row = await cursor.fetchone()
    return None if row is None else Overdue(*row)

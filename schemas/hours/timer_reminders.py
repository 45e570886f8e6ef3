"""Reminders in Slack about timers that have run for hours: the owner is asked whether that is intended. Each reminder is a
message in the outbox whose `available_at` is its due time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from schemas.messages import NudgeOwner
from schemas.outbox import outbox
from schemas.postgres.connection import Connection


async def schedule(conn: Connection, timer_id: UUID, *, user_id: UUID, start_time: datetime, hours: float) -> None:
    """Enqueues a reminder for the time when the timer will have run that many hours."""
    await _enqueue(conn, timer_id, user_id, start_time + timedelta(hours=hours))


async def schedule_next(conn: Connection, timer_id: UUID, *, user_id: UUID, hours: float) -> None:
    """Enqueues another reminder, that many hours from now."""
    due: datetime = await conn.value("SELECT now() + make_interval(secs => %s)", (hours * 3600,))
    await _enqueue(conn, timer_id, user_id, due)


async def _enqueue(conn: Connection, timer_id: UUID, user_id: UUID, due: datetime) -> None:
    await outbox.enqueue(conn, NudgeOwner(timer_id=timer_id, user_id=user_id), created_by=user_id, available_at=due)


@dataclass(frozen=True)
class LongRunningTimer:
    """A timer that is still running; `email` is its owner's. It is not `due` yet if its start was changed to a later time."""

    email: str
    task_id: UUID
    start_time: datetime
    seconds: int
    due: bool


async def get_timer(conn: Connection, message: NudgeOwner, *, hours: float) -> LongRunningTimer | None:
    """The timer that the reminder is about. None when it is not running any more, or its owner's access is revoked."""
    return await conn.maybe(
        """
        SELECT u.email, r.task_id, r.start_time, extract(epoch FROM now() - r.start_time)::bigint AS seconds,
               r.start_time + make_interval(secs => %(seconds)s) <= now() AS due
        FROM timers r JOIN users u ON u.id = r.user_id
        WHERE r.user_id = %(user)s AND r.id = %(timer)s AND u.revoked_at IS NULL
        """,
        {"user": message.user_id, "timer": message.timer_id, "seconds": hours * 3600},
        row=LongRunningTimer,
    )

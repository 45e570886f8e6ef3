"""When a timer that somebody forgot to stop probably ended: at the person's last activity in Stint, or when their working day
ended."""

from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.identity import working_hours
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.typed import times

END_OF_DAY = time(17)
_LEAST = timedelta(minutes=1)  # no button stops a timer at its start


@dataclass(frozen=True)
class RunningSince:
    """A running timer, and what tells when it probably ended. `last_activity`: the latest change of the timer, or the latest
    task or time entry that the person created, after its start; None if there is none. `day_end`: when their working day ends.
    """

    timer_id: UUID
    start: datetime
    now: datetime
    last_activity: datetime | None
    day_end: time = END_OF_DAY

    def ends(self, zone: ZoneInfo) -> list[tuple[str, datetime]]:
        """The likely ends, in whole minutes, each with its reason."""
        found: list[tuple[str, datetime]] = []
        day_end = times.latest(self.day_end, zone, now=self.now)
        for reason, end in (("your last activity in Stint", self.last_activity), ("the end of the working day", day_end)):
            if end is None:
                continue
            end = end.replace(second=0, microsecond=0)
            if self.start + _LEAST <= end < self.now and end not in [other for _, other in found]:
                found.append((reason, end))
        return found


async def read(conn: Connection, user_id: UUID, timer_id: UUID, *, settings: Settings) -> RunningSince | None:
    """The user's timer; None if it is not running any more."""
    found = await conn.maybe(
        """
        SELECT r.id AS timer_id, r.start_time AS start, now() AS now, greatest(
            CASE WHEN r.version > 1 AND r.updated_at > r.start_time THEN r.updated_at END,
            (SELECT max(created_at) FROM time_entries WHERE user_id = r.user_id AND updated_at > r.start_time
                AND created_at > r.start_time),
            (SELECT max(created_at) FROM tasks WHERE created_by = r.user_id AND assignee_id IS NULL AND deleted_at IS NULL
                AND created_at > r.start_time)
        ) AS last_activity
        FROM timers r WHERE r.user_id = %s AND r.id = %s
        """,
        (user_id, timer_id),
        row=RunningSince,
    )
    if found is None:
        return None
    calendar = await working_hours.read_calendar(conn, user_id, settings=settings)
    return replace(found, day_end=calendar.end)

"""Which times a time entry may have: start, end and duration must agree, they lie between the year 2000 and tomorrow
(schemas/hours/entry_rules.py), and entries of one user should not overlap."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import Field

from schemas.base import Whole
from schemas.errors import Conflict, Invalid
from schemas.hours.entry_rules import Horizon
from schemas.postgres.connection import Connection

# of an entry that a person writes; a timer may have run for longer, since a stop is never refused
MAX_DURATION = timedelta(days=31)

Duration = Annotated[Whole, Field(ge=0, le=int(MAX_DURATION.total_seconds()), description="whole seconds")]
# a timer may have made the entry longer than MAX_DURATION, but never longer than ten years
ChangedDuration = Annotated[Whole, Field(ge=0, le=315_360_000, description="whole seconds")]


def resolve_new(
    start: datetime,
    end: datetime | None,
    seconds: int | None,
    *,
    horizon: Horizon,
    previous_duration: timedelta = MAX_DURATION,
) -> tuple[datetime, datetime]:
    """Start and end of an entry, from its start and its end, its duration, or both. An entry that a timer made longer than
    MAX_DURATION can be moved or shortened, but not made longer than its `previous_duration`. Raises Invalid."""
    if end is None and seconds is None:
        raise Invalid("endTime", "Send endTime or duration.")
    horizon.check("startTime", start)
    end = end if end is not None else start + timedelta(seconds=seconds or 0)
    if seconds is not None and end - start != timedelta(seconds=seconds):
        raise Invalid("duration", "startTime, endTime and duration do not agree; leave one of them out.")
    if end < start:
        raise Invalid("endTime", "The entry would end before it starts.")
    horizon.check("endTime", end)
    if end - start > max(MAX_DURATION, previous_duration):
        raise Invalid("endTime", f"An entry can be at most {MAX_DURATION.days} days long; create several entries.")
    return start, end


def resolve_changed(
    previous: tuple[datetime, datetime],
    start: datetime | None,
    end: datetime | None,
    seconds: int | None,
    *,
    horizon: Horizon,
) -> tuple[datetime, datetime]:
    """Start and end of an entry whose start and end were `previous`. A new start or a new end alone keeps the other one; a new
    duration alone keeps the start. Raises Invalid."""
    if start is None and end is None and seconds is None:
        raise Invalid("", "Send at least one of taskId, startTime, endTime and duration.")
    if seconds is None:
        start, end = start or previous[0], end or previous[1]
    elif start is None:
        start = end - timedelta(seconds=seconds) if end is not None else previous[0]
    return resolve_new(start, end, seconds, horizon=horizon, previous_duration=previous[1] - previous[0])


async def refuse_overlap(conn: Connection, entry_id: UUID, user_id: UUID, start: datetime, end: datetime) -> None:
    """Raises Conflict with the ids of the user's other entries that overlap these times."""
    overlapping = await conn.values(
        """
        SELECT id FROM time_entries
        WHERE id IN (SELECT id FROM overlapping_entries(%(user)s, %(start)s, %(end)s)) AND id <> %(id)s
        ORDER BY start_time, id LIMIT 20
        """,
        {"user": user_id, "start": start, "end": end, "id": entry_id},
    )
    if overlapping:
        raise Conflict(
            "The new times overlap other entries of the same user; to accept that, send allowOverlap: true.",
            overlaps=[str(overlapping_id) for overlapping_id in overlapping],
        )

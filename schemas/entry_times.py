"""Which start and end a time entry may have, and what a start, an end and a duration say together."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from schemas.base import Whole
from schemas.errors import Invalid

# an entry that a person writes; a timer may have run for longer, since a stop is never refused
LONGEST = timedelta(days=31)

Duration = Annotated[Whole, Field(ge=0, le=int(LONGEST.total_seconds()), description="whole seconds")]
# a timer may have made it longer than may be written by hand; ten years are out of the question
ChangedDuration = Annotated[Whole, Field(ge=0, le=315_360_000, description="whole seconds")]


def of_new(
    start: datetime, end: datetime | None, seconds: int | None, *, lasted: timedelta = LONGEST
) -> tuple[datetime, datetime]:
    """Start and end from a start and an end, a duration, or both. `lasted` is how long the entry was before: one that a timer
    made longer than may be written by hand can be moved, or cut, but not made longer. Raises Invalid."""
    if end is None and seconds is None:
        raise Invalid("endTime", "Send endTime or duration.")
    end = end if end is not None else start + timedelta(seconds=seconds or 0)
    if seconds is not None and end - start != timedelta(seconds=seconds):
        raise Invalid("duration", "startTime, endTime and duration do not agree; leave one of them out.")
    if end < start:
        raise Invalid("endTime", "The entry would end before it starts.")
    if start.year < 1900 or end.year > 9000:
        raise Invalid("duration", "The entry would leave the years from 1900 to 9000.")
    if end - start > max(LONGEST, lasted):
        raise Invalid("endTime", f"An entry lasts {LONGEST.days} days at most; make several of it.")
    return start, end


def of_changed(
    before: tuple[datetime, datetime], start: datetime | None, end: datetime | None, seconds: int | None
) -> tuple[datetime, datetime]:
    """Start and end of an entry that had others: a start or an end alone keeps the other, a duration alone the start. Raises
    Invalid."""
    if start is None and end is None and seconds is None:
        raise Invalid("", "Send at least one of startTime, endTime and duration.")
    if seconds is None:
        start, end = start or before[0], end or before[1]
    elif start is None:
        start = end - timedelta(seconds=seconds) if end is not None else before[0]
    return of_new(start, end, seconds, lasted=before[1] - before[0])

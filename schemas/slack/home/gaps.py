"""Gaps of a working day: times between its first start and its last end, within the working hours, for which nothing is
recorded."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from schemas.identity.work_calendar import WorkCalendar

DAYS_BACK = 14
SHORTEST = timedelta(minutes=15)  # shorter ones are no gaps

Span = tuple[datetime, datetime]


def find(spans: Iterable[Span], day: Span, hours: Span) -> list[Span]:
    """The gaps of a day within its working hours, the earliest first; all of these hours if nothing is recorded. `spans` are
    the recorded times. One that began before the day covers its part of it, and does not begin it."""
    begins, ends = day
    recorded = sorted((start, min(end, ends)) for start, end in spans if start < ends and end > begins)
    starts = [start for start, _ in recorded if start >= begins]
    if not starts:
        return [hours]
    found: list[Span] = []
    covered = starts[0]
    for start, end in recorded:
        first, last = max(covered, hours[0]), min(start, hours[1])
        if last - first >= SHORTEST:
            found.append((first, last))
        covered = max(covered, end)
    return found


def last_working_day(today: date, calendar: WorkCalendar) -> date | None:
    """The last working day before today; None if there was none in the last two weeks."""
    days = (today - timedelta(days=n) for n in range(1, DAYS_BACK + 1))
    return next((day for day in days if calendar.is_working_day(day)), None)

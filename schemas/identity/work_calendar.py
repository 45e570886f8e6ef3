"""When a person works: working days, their start and end, and how many hours are planned. Pure calculations over dates; a day
is one of the person's time zone."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def known_zone(name: object) -> str | None:
    """The name if it is a time zone of the tz database, else None."""
    if not isinstance(name, str):
        return None
    try:
        return ZoneInfo(name[:100]).key
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a directory, such as "Europe"
        return None


@dataclass(frozen=True)
class WorkCalendar:
    """A person's working hours, with the firm's values where they have none of their own. `days` are the numbers of working
    days, 1 is Monday; `days_off` are pairs of the first and the last day."""

    zone: ZoneInfo
    days: frozenset[int]
    start: time
    end: time
    seconds_a_day: int
    reminders: bool
    days_off: tuple[tuple[date, date], ...] = ()

    def is_working_day(self, day: date) -> bool:
        """Whether the person works on that day."""
        return day.isoweekday() in self.days and not any(first <= day <= last for first, last in self.days_off)

    def planned_seconds(self, first: date, last: date | None = None) -> int:
        """How many seconds are planned for the day, or for the days from the first to the last one. The days of a week so far
        are those from `monday(today)` to today."""
        days = ((last or first) - first).days + 1
        return self.seconds_a_day * sum(self.is_working_day(first + timedelta(days=n)) for n in range(days))

    def starts_at(self, day: date) -> datetime:
        """When the working hours of that day start, in UTC."""
        return datetime.combine(day, self.start, self.zone).astimezone(UTC)

    def ends_at(self, day: date) -> datetime:
        """When they end, in UTC."""
        return datetime.combine(day, self.end, self.zone).astimezone(UTC)

    def day_of(self, at: datetime) -> date:
        """The day of that moment."""
        return at.astimezone(self.zone).date()

    def first_working_day(self, day: date) -> date | None:
        """The first working day of the week in which the day is; None if there is none."""
        week = (monday(day) + timedelta(days=n) for n in range(7))
        return next((day for day in week if self.is_working_day(day)), None)


def monday(day: date) -> date:
    """The Monday of the week in which the day is."""
    return day - timedelta(days=day.weekday())

"""Times as people type them into forms: in the firm's time zone, without an offset."""

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator

from schemas.errors import Invalid
from schemas.hours.entry_times import MAX_DURATION
from schemas.slack.typed import durations

EXAMPLE = "2026-03-02T09:30"


def _parse_local(text: object) -> datetime:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or not 1900 < found.year < 8999:
        raise ValueError(f"type a day and a time, for example {EXAMPLE}")
    return found.replace(microsecond=0)


def _parse_hours(text: object) -> int:
    found = durations.parse(str(text)[:50]) or durations.parse_number(str(text)[:50])
    if found is None or found.rest:
        raise ValueError("type hours and minutes, for example 1:30")
    if found.seconds > MAX_DURATION.total_seconds():
        raise ValueError(f"type at most {MAX_DURATION.days} days, and log several entries")
    return found.seconds


LocalTime = Annotated[datetime, BeforeValidator(_parse_local)]
Hours = Annotated[int, BeforeValidator(_parse_hours)]  # seconds


def to_utc(local: datetime, zone: str, name: str) -> str:
    """The time as the API gets it. Of a time that clocks show twice it is the first one. Raises Invalid, with the name of the
    field, for a time that clocks skip."""
    time = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    if (shown := time.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) != local:
        raise Invalid(
            name, f"There is no {local:%H:%M} on this day: clocks are set forward then. Type {shown:%H:%M} or another time."
        )
    return time.isoformat()


def to_local(time: datetime, zone: str) -> str:
    """The time as a form shows it; without seconds if there are none."""
    local = time.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return local.isoformat(timespec="seconds" if local.second else "minutes")


def is_same(local: datetime, time: datetime, zone: str) -> bool:
    """Whether the typed time is the one that the form showed: then it is not sent, since a time that clocks show twice would
    change."""
    return local.isoformat() == datetime.fromisoformat(to_local(time, zone)).isoformat()


def as_hours(seconds: int) -> str:
    """`1:30`, as `Hours` reads it."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}"

"""Working days and their moments: time zones, changes of the clocks, days off, and the firm's values."""

from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from schemas.identity.work_calendar import WorkCalendar, monday
from schemas.settings import Settings
from tests.support.installation import SECRET_KEY

TUESDAY = date(2026, 12, 1)


def calendar(zone: str = "Europe/Berlin", **more: Any) -> WorkCalendar:
    values: dict[str, Any] = {
        "zone": ZoneInfo(zone), "days": frozenset({1, 2, 3, 4, 5}), "start": time(9), "end": time(17),
        "seconds_a_day": 8 * 3600, "reminders": True,
    }  # fmt: skip
    return WorkCalendar(**values | more)


@pytest.mark.parametrize(
    ("zone", "day", "end", "in_utc"),
    [
        ("Europe/Berlin", TUESDAY, time(17), "2026-12-01T16:00"),
        ("Europe/Berlin", date(2026, 7, 1), time(17), "2026-07-01T15:00"),
        ("Europe/Berlin", date(2026, 3, 27), time(17), "2026-03-27T16:00"),  # the clocks change on the 29th
        ("Europe/Berlin", date(2026, 3, 30), time(17), "2026-03-30T15:00"),
        ("Europe/Berlin", date(2026, 3, 29), time(2, 30), "2026-03-29T01:30"),  # a time that this day does not have
        ("Europe/Berlin", date(2026, 10, 25), time(2, 30), "2026-10-25T00:30"),  # one that it has twice: the first
        ("America/New_York", date(2026, 11, 2), time(17), "2026-11-02T22:00"),
        ("America/Los_Angeles", TUESDAY, time(17), "2026-12-02T01:00"),
        ("Asia/Tokyo", TUESDAY, time(8, 30), "2026-11-30T23:30"),
        ("Pacific/Kiritimati", TUESDAY, time(9), "2026-11-30T19:00"),
        ("Pacific/Pago_Pago", TUESDAY, time(17), "2026-12-02T04:00"),
        ("Australia/Lord_Howe", TUESDAY, time(17), "2026-12-01T06:00"),  # its clocks change by half an hour
        ("Asia/Kathmandu", TUESDAY, time(17), "2026-12-01T11:15"),
    ],
)  # fmt: skip
def test_a_working_day_ends_at_the_time_of_the_persons_clock(zone: str, day: date, end: time, in_utc: str) -> None:
    found = calendar(zone, end=end).ends_at(day)
    assert found == datetime.fromisoformat(in_utc).replace(tzinfo=UTC)
    assert calendar(zone).day_of(found) == day


def test_a_day_off_is_no_working_day_and_has_no_planned_hours() -> None:
    off = ((date(2026, 12, 24), date(2026, 12, 31)), (TUESDAY, TUESDAY))
    works = calendar(days_off=off)
    assert [works.is_working_day(date(2026, 12, day)) for day in (1, 2, 5, 23, 24, 31)] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
    assert works.planned_seconds(TUESDAY) == 0
    assert works.planned_seconds(date(2026, 12, 2)) == 8 * 3600
    assert works.planned_seconds(monday(TUESDAY), date(2026, 12, 6)) == 4 * 8 * 3600
    assert works.planned_seconds(monday(TUESDAY), TUESDAY) == 8 * 3600
    assert works.planned_seconds(date(2026, 12, 21), date(2027, 1, 3)) == 4 * 8 * 3600


def test_a_week_begins_on_monday_and_its_first_working_day_is_the_persons() -> None:
    assert monday(TUESDAY) == monday(date(2026, 12, 6)) == date(2026, 11, 30)
    assert calendar().first_working_day(TUESDAY) == date(2026, 11, 30)
    assert calendar(days=frozenset({3, 7})).first_working_day(TUESDAY) == date(2026, 12, 2)
    assert calendar(days_off=((date(2026, 11, 1), TUESDAY),)).first_working_day(TUESDAY) == date(2026, 12, 2)
    assert calendar(days_off=((date(2026, 11, 1), date(2026, 12, 31)),)).first_working_day(TUESDAY) is None


def known(**more: Any) -> Settings:
    return Settings(database_url="", secret_key=SECRET_KEY, **more)


@pytest.mark.parametrize("value", ["09:00", "17:00-09:00", "09:00-09:00", "9:00-17:00", "09:00-24:00", "off", "off-off", "-"])
def test_other_working_hours_are_refused(value: str) -> None:
    assert known(stint_working_hours="08:30 - 17:00").stint_working_hours == "08:30 - 17:00"
    with pytest.raises(ValidationError, match="09:00-17:00"):
        known(stint_working_hours=value)


@pytest.mark.parametrize("value", ["0", "-8", "24.5", "7.7", "eight", "nan", "inf"])
def test_other_hours_a_day_are_refused(value: str) -> None:
    assert [known(stint_hours_a_day=hours).stint_hours_a_day for hours in ("7.5", "24")] == [7.5, 24]
    with pytest.raises(ValidationError, match="stint_hours_a_day"):
        known(stint_hours_a_day=value)

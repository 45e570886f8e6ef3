"""Days are in the firm's time zone, also when its clocks change: days of 23 and 25 hours, and days with two midnights."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.support.answers import Json, at, problem
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation

# zone, day, its hours
CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29), 23),
    ("Europe/Berlin", date(2026, 10, 25), 25),
    ("America/New_York", date(2026, 3, 8), 23),
    ("America/New_York", date(2026, 11, 1), 25),
    # clocks change at midnight: midnight does not exist or exists twice, or the hour before it exists twice
    ("America/Havana", date(2026, 3, 8), 23),
    ("America/Havana", date(2026, 11, 1), 25),
    ("Atlantic/Azores", date(2026, 10, 25), 25),
    ("Africa/Cairo", date(2026, 10, 29), 25),
    ("Pacific/Apia", date(2026, 6, 1), 24),
]


def midnight(zone: str, day: date) -> datetime:
    """The first moment of that day, found by computing the day of each moment before it."""
    moment = datetime.combine(day, time(), UTC) - timedelta(hours=15)
    while moment.astimezone(ZoneInfo(zone)).date() < day:
        moment += timedelta(minutes=15)
    return moment


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(("zone", "day", "hours"), CHANGES)
def test_entries_around_a_clock_change_are_billed_and_listed_on_their_day(
    zone: str, day: date, hours: int, given: Given, stint: Installation, another: Another
) -> None:
    by = given.person()
    task = given.task(by)
    start, end = midnight(zone, day), midnight(zone, day + timedelta(days=1))
    assert end - start == timedelta(hours=hours)
    before, after = day - timedelta(days=1), day + timedelta(days=1)
    # entries of a minute: at the end of the day before, through the day, more of them at its ends, and at the start of the next
    within = {start + timedelta(hours=hour) for hour in range(hours)}
    within |= {start + timedelta(minutes=15 * number) for number in range(9)}
    within |= {end - timedelta(minutes=15 * number) for number in range(1, 9)}
    moments = dict.fromkeys([*within, end - timedelta(seconds=1)], day)
    moments |= {start - timedelta(seconds=1): before, end: after}

    with at(another(STINT_TIMEZONE=zone), by.token) as client:

        def logged(moment: datetime) -> Json:
            body = {"taskId": task["id"], "startTime": iso(moment), "duration": 60, "allowOverlap": True}
            answer = client.post("/api/time-entries", json=body)
            assert answer.status_code == 201, answer.text
            entry: Json = answer.json()
            return entry

        entries = {logged(moment)["id"]: when for moment, when in moments.items()}
        given.settled()

        def found(**days: date) -> set[str]:
            parameters = {"userId": by.id, "limit": "1000"} | {name: str(value) for name, value in days.items()}
            return {entry["id"] for entry in client.get("/api/time-entries", params=parameters).json()["items"]}

        def on(*days: date) -> set[str]:
            return {entry_id for entry_id, when in entries.items() if when in days}

        bills = {bill["date"]: bill["seconds"] for bill in by.get("/api/time-bills", userId=by.id)["items"]}
        assert bills == {str(when): 60 * len(on(when)) for when in (before, day, after)}
        assert found(startDate=day, endDate=day) == on(day)
        assert found(startDate=before, endDate=before) == on(before)
        assert found(startDate=after, endDate=after) == on(after)
        assert found(startDate=day) == on(day, after)
        assert found(endDate=day) == on(before, day)
        assert found(startDate=before, endDate=after) == set(entries)
    stint.verify()


@pytest.mark.parametrize(("zone", "day", "hours"), CHANGES[:4])
def test_a_whole_day_has_23_or_25_hours(zone: str, day: date, hours: int, given: Given, another: Another) -> None:
    by = given.person()
    task = given.task(by)
    body = {
        "taskId": task["id"],
        "startTime": iso(midnight(zone, day)),
        "endTime": iso(midnight(zone, day + timedelta(days=1))),
    }
    with at(another(STINT_TIMEZONE=zone), by.token) as client:
        entry = client.post("/api/time-entries", json=body).json()
        assert entry["duration"] == hours * 3600
        # the last hour belongs to the day, the next day does not
        last_hour = {"taskId": task["id"], "startTime": iso(midnight(zone, day) + timedelta(hours=hours - 1)), "duration": 60}
        assert problem(client.post("/api/time-entries", json=last_hour), 409)["overlaps"] == [entry["id"]]
        next_day = {"taskId": task["id"], "startTime": body["endTime"], "duration": 60}
        assert client.post("/api/time-entries", json=next_day).status_code == 201
    given.settled()
    bills = {bill["date"]: bill["minutes"] for bill in by.get("/api/time-bills", userId=by.id)["items"]}
    assert bills == {str(day): hours * 60, str(day + timedelta(days=1)): 1}


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_stop_after_midnight_is_billed_on_the_day_of_its_start(zone: str, own: Installation) -> None:
    own.environment["STINT_TIMEZONE"] = zone
    own.start().wait_until_ready()
    given = Given(own)
    by = given.admin()
    task = given.task(by)
    yesterday = datetime.now(ZoneInfo(zone)).date() - timedelta(days=1)
    start = midnight(zone, yesterday + timedelta(days=1)) - timedelta(minutes=1)
    answer = by.http.put("/api/active-timers/me", json={"taskId": task["id"], "startTime": iso(start)})
    assert answer.status_code == 201

    stopped = by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)

    assert stopped["endTime"] >= iso(start + timedelta(minutes=1))
    assert (stopped["timeBill"]["date"], stopped["timeBill"]["seconds"]) == (str(yesterday), stopped["duration"])
    assert by.get("/api/time-entries", startDate=str(yesterday), endDate=str(yesterday))["items"] == [stopped["entry"]]
    assert by.get("/api/time-entries", startDate=str(yesterday + timedelta(days=1)))["items"] == []
    own.verify()
    given.close()

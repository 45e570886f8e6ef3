"""Changing time entries: the accepted times, the refused ones, and the sums of both bills."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.answers import at, problem, refused_fields
from tests.support.given import Given, Json
from tests.support.installation import Installation

DAY = "2026-03-02T"
TIMES = ("startTime", "endTime", "duration")
# changes of an entry from 9:00 to 10:00
COMBINATIONS = [
    ({"startTime": f"{DAY}08:30:00Z"}, ("08:30:00", "10:00:00", 5400)),
    ({"endTime": f"{DAY}09:20:00Z"}, ("09:00:00", "09:20:00", 1200)),
    ({"duration": 90}, ("09:00:00", "09:01:30", 90)),
    ({"duration": 0}, ("09:00:00", "09:00:00", 0)),
    ({"startTime": f"{DAY}07:00:00Z", "endTime": f"{DAY}07:00:30Z"}, ("07:00:00", "07:00:30", 30)),
    ({"startTime": f"{DAY}11:00:00Z", "duration": 60}, ("11:00:00", "11:01:00", 60)),
    ({"endTime": f"{DAY}11:00:00Z", "duration": 3600}, ("10:00:00", "11:00:00", 3600)),
    ({"startTime": f"{DAY}08:00:00Z", "endTime": f"{DAY}08:10:00Z", "duration": 600}, ("08:00:00", "08:10:00", 600)),
    ({"startTime": f"{DAY}10:30:00+02:00", "duration": 60}, ("08:30:00", "08:31:00", 60)),
    ({"startTime": f"{DAY}08:30:00.999999Z"}, ("08:30:00", "10:00:00", 5400)),
    ({"endTime": f"{DAY}10:00:00Z"}, ("09:00:00", "10:00:00", 3600)),
]


@pytest.mark.parametrize(("change", "expected"), COMBINATIONS)
def test_times_can_be_sent_in_any_combination(change: Json, expected: tuple[str, str, int], given: Given) -> None:
    by = given.person()
    entry = given.entry(by)

    changed = by.patch(f"/api/time-entries/{entry['id']}", change)

    start, end, duration = expected
    assert [changed[name] for name in TIMES] == [f"{DAY}{start}Z", f"{DAY}{end}Z", duration]
    assert changed["version"] == entry["version"] + 1
    given.settled()
    assert by.get(f"/api/time-bills/{changed['timeBillId']}")["seconds"] == duration


@pytest.mark.parametrize(("change", "field"), [
    ({"startTime": f"{DAY}08:00:00Z", "endTime": f"{DAY}09:00:00Z", "duration": 3599}, "duration"),
    ({"startTime": f"{DAY}10:00:01Z"}, "endTime"),
    ({"endTime": f"{DAY}08:59:59Z"}, "endTime"),
    ({"startTime": f"{DAY}12:00:00Z", "endTime": f"{DAY}11:00:00Z"}, "endTime"),
    ({"endTime": "2026-04-02T09:00:01Z"}, "endTime"),
    ({}, ""),
    ({"allowOverlap": True}, ""),
    ({"version": 1}, ""),
    ({"startTime": None, "endTime": None, "duration": None}, ""),
])  # fmt: skip
def test_contradictory_times_are_422(change: Json, field: str, given: Given) -> None:
    by = given.person()
    entry = given.entry(by)
    if "version" in change:
        change = {"version": entry["version"]}
    assert refused_fields(by.http.patch(f"/api/time-entries/{entry['id']}", json=change)) == [field]
    assert by.get(f"/api/time-entries/{entry['id']}") == entry


def test_an_overlap_is_409_and_names_the_entries(given: Given) -> None:
    by, other = given.people(2)
    task = given.task(by)
    first = given.entry(by, task, start=f"{DAY}09:00:00Z")
    second = given.entry(by, task, start=f"{DAY}10:00:00Z")  # adjacent, no overlap
    given.entry(other, task, start=f"{DAY}09:00:00Z")  # another user's hours do not overlap
    third = given.entry(by, task, start=f"{DAY}12:00:00Z")
    given.entry(by, task, start=f"{DAY}13:00:00Z")

    for change, overlaps in (
        ({"startTime": f"{DAY}10:59:59Z"}, [second["id"]]),
        ({"startTime": f"{DAY}09:59:59Z"}, [first["id"], second["id"]]),
        ({"startTime": f"{DAY}09:30:00Z", "duration": 0}, [first["id"]]),
    ):
        refused = problem(by.http.patch(f"/api/time-entries/{third['id']}", json=change), 409)
        assert refused["overlaps"] == overlaps
        assert "allowOverlap" in refused["detail"]
    by.patch(f"/api/time-entries/{third['id']}", {"startTime": f"{DAY}11:00:00Z"})
    accepted = by.patch(f"/api/time-entries/{third['id']}", {"startTime": f"{DAY}09:59:59Z", "allowOverlap": True})
    assert accepted["startTime"] == f"{DAY}09:59:59Z"


def test_a_stale_version_is_409_with_the_current_entry(given: Given) -> None:
    by = given.person()
    entry = given.entry(by)
    changed = by.patch(f"/api/time-entries/{entry['id']}", {"duration": 60, "version": entry["version"]})
    refused = problem(
        by.http.patch(f"/api/time-entries/{entry['id']}", json={"duration": 90, "version": entry["version"]}), 409
    )
    assert refused["current"] == changed


def test_of_twenty_parallel_changes_with_one_version_one_succeeds(given: Given) -> None:
    by = given.person()
    entry = given.entry(by)

    def change(number: int) -> int:
        body = {"duration": 60 * number, "version": entry["version"]}
        return by.http.patch(f"/api/time-entries/{entry['id']}", json=body).status_code

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(change, range(20))) == [200] + [409] * 19


def test_only_the_owner_and_admins_may_change_an_entry(given: Given) -> None:
    by, other = given.people(2)
    entry = given.entry(by)
    problem(other.http.patch(f"/api/time-entries/{entry['id']}", json={"duration": 60}), 403)
    assert given.admin().patch(f"/api/time-entries/{entry['id']}", {"duration": 60})["duration"] == 60
    problem(by.http.patch(f"/api/time-entries/{given.new_id()}", json={"duration": 60}), 404)


def test_an_entry_on_an_approved_bill_is_locked(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = given.approved_bill(by, admin)
    entry = by.get("/api/time-entries", timeBillId=bill["id"])["items"][0]
    assert entry["locked"] is True
    for person in (by, admin):
        for change in ({"duration": 60}, {"startTime": "2026-03-05T09:00:00Z", "endTime": "2026-03-05T10:00:00Z"}):
            refused = problem(person.http.patch(f"/api/time-entries/{entry['id']}", json=change), 409)
            assert refused["timeBillId"] == bill["id"]
    assert by.get(f"/api/time-entries/{entry['id']}") == entry
    assert by.get(f"/api/time-bills/{bill['id']}") == bill


def test_a_change_of_the_day_moves_the_entry_to_that_days_bill(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    stays = given.entry(by, task, start=f"{DAY}09:00:00Z", minutes=30)
    moves = given.entry(by, task, start=f"{DAY}12:00:00Z", minutes=45)
    there = given.entry(by, task, start="2026-03-03T09:00:00Z", minutes=15)
    assert stays["timeBillId"] == moves["timeBillId"] != there["timeBillId"]

    moved = by.patch(f"/api/time-entries/{moves['id']}", {"startTime": "2026-03-03T23:30:00Z", "duration": 45 * 60})

    assert moved["timeBillId"] == there["timeBillId"]
    given.settled()
    old, new = (by.get(f"/api/time-bills/{entry['timeBillId']}") for entry in (stays, there))
    assert (old["date"], old["minutes"], new["date"], new["minutes"]) == ("2026-03-02", 30, "2026-03-03", 60)
    stint.verify()


def test_the_day_is_the_day_of_the_start_in_the_firms_time_zone(
    given: Given, new_york: Installation, stint: Installation
) -> None:
    by = given.person()
    task = given.task(by)
    entries = [given.entry(by, task, start=f"2026-03-03T{hour}:00:00Z", minutes=60) for hour in ("06", "08")]
    with at(new_york, by.token) as client:

        def day_of(entry: Json, start: str) -> str:
            change = {"startTime": start, "duration": 3600, "allowOverlap": True}
            changed = client.patch(f"/api/time-entries/{entry['id']}", json=change)
            assert changed.status_code == 200, changed.text
            given.settled()
            return str(client.get(f"/api/time-bills/{changed.json()['timeBillId']}").json()["date"])

        assert day_of(entries[0], "2026-03-03T04:59:59Z") == "2026-03-02"
        assert day_of(entries[0], "2026-03-03T05:00:00Z") == "2026-03-03"
        assert day_of(entries[0], "2026-03-08T04:59:59Z") == "2026-03-07"
        # daylight saving time starts that night: from the next day on, midnight is at 4:00 UTC
        assert day_of(entries[1], "2026-03-09T03:59:59Z") == "2026-03-08"
        assert day_of(entries[1], "2026-03-09T04:00:00Z") == "2026-03-09"
        totals = client.get("/api/time-bills", params={"userId": by.id}).json()["items"]
        assert {bill["date"]: bill["seconds"] for bill in totals if bill["seconds"]} == {"2026-03-07": 3600, "2026-03-09": 3600}
    stint.verify()


def test_a_change_by_the_owner_makes_a_rejected_bill_pending(given: Given) -> None:
    by, admin = given.person(), given.admin()
    entry = given.entry(by)
    bill = f"/api/time-bills/{entry['timeBillId']}"
    admin.patch(bill, {"status": "rejected", "rejectionNote": "too long"})

    by.patch(f"/api/time-entries/{entry['id']}", {"duration": 1200})
    given.settled()
    after = by.get(bill)
    assert (after["status"], after["rejectionNote"], after["minutes"]) == ("pending", None, 20)

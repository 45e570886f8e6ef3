"""Logging time by hand: what is accepted, what is refused, and that a repeated request creates one entry."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation

DAY = "2026-03-02T"


def post(by: Person, task: Json, start: str = f"{DAY}09:00:00Z", **more: Any) -> httpx2.Response:
    return by.http.post("/api/time-entries", json={"taskId": task["id"], "startTime": start} | more)


def seconds_of(by: Person, entry: Json) -> int:
    return int(by.get(f"/api/time-bills/{entry['timeBillId']}")["seconds"])


@pytest.mark.parametrize("times", [
    {"endTime": f"{DAY}10:30:00Z"},
    {"duration": 5400},
    {"endTime": f"{DAY}10:30:00Z", "duration": 5400},
    {"endTime": f"{DAY}12:30:00+02:00", "duration": None},
    {"endTime": f"{DAY}10:30:00.999Z"},
])  # fmt: skip
def test_time_is_logged_with_an_end_or_a_duration(times: Json, given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    answer = post(by, task, notes="by hand", **times)
    assert answer.status_code == 201, answer.text
    entry = answer.json()
    expected = {
        "taskId": task["id"], "userId": by.id, "customerId": task["customerId"], "pillarId": task["pillarId"],
        "startTime": f"{DAY}09:00:00Z", "endTime": f"{DAY}10:30:00Z", "duration": 5400, "notes": "by hand", "locked": False,
        "flags": [], "version": 1,
    }  # fmt: skip
    assert {name: entry[name] for name in expected} == expected
    given.settled()
    assert by.get(f"/api/time-entries/{entry['id']}") == entry
    bill = by.get(f"/api/time-bills/{entry['timeBillId']}")
    assert (bill["date"], bill["seconds"], bill["status"]) == ("2026-03-02", 5400, "pending")
    stint.verify()


def test_an_entry_can_have_no_duration(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    empty = post(by, task, duration=0).json()
    assert (empty["duration"], empty["startTime"]) == (0, empty["endTime"])
    within = post(by, task, start=f"{DAY}08:59:00Z", duration=120)  # overlaps: an entry without a duration counts, too
    assert problem(within, 409)["overlaps"] == [empty["id"]]
    assert post(by, task, duration=3600).status_code == 201  # adjacent
    given.settled()
    assert seconds_of(by, empty) == 3600


def test_an_entry_by_hand_has_at_most_31_days(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    assert post(by, task, duration=31 * 86400).status_code == 201
    assert refused_fields(post(by, task, endTime="2026-04-02T09:00:01Z")) == ["endTime"]


def test_a_repeated_request_returns_the_same_entry(given: Given, stint: Installation) -> None:
    by = given.person()
    task, entry_id = given.task(by), given.new_id()
    answers = [post(by, task, id=entry_id, duration=60) for _ in range(3)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
    assert answers[0].json()["id"] == entry_id
    given.settled()
    assert seconds_of(by, answers[0].json()) == 60
    for other in ({"duration": 61}, {"duration": 60, "notes": "x"}, {"endTime": f"{DAY}09:01:00Z"}):
        problem(post(by, task, id=entry_id, **other), 409)
    changed = by.patch(f"/api/time-entries/{entry_id}", {"duration": 90})
    assert post(by, task, id=entry_id, duration=60).json() == changed  # the entry as it is now
    by.delete(f"/api/time-entries/{entry_id}")
    problem(post(by, task, id=entry_id, duration=60), 409)
    assert stint.value("SELECT count(*) FROM time_entries WHERE user_id = %s", by.id) == 1


def test_an_id_of_another_users_entry_is_taken(given: Given) -> None:
    by, other = given.people(2)
    admin, task, entry_id = given.admin(), given.task(by), given.new_id()
    entry = post(by, task, id=entry_id, duration=60).json()
    problem(post(other, task, id=entry_id, duration=60), 409)
    problem(post(admin, task, id=entry_id, duration=60), 409)
    problem(post(admin, task, id=entry_id, duration=60, userId=other.id), 409)
    assert by.get(f"/api/time-entries/{entry_id}")["userId"] == entry["userId"] == by.id


def test_an_id_of_a_timer_or_of_an_unfinished_stop_is_taken(idle: Installation) -> None:
    given = Given(idle)
    by, other = given.people(2)
    admin, task = given.admin(), given.task(by)
    timer = by.post(f"/api/tasks/{task['id']}/start")
    for state in ("running", "ready", "sent", "dead", "discarded"):
        if state == "ready":
            by.post(f"/api/tasks/{task['id']}/stop", status=202)
        elif state != "running":
            with idle.sql() as conn:
                conn.execute(
                    "UPDATE messages SET state = %s, sent_at = now() WHERE body->>'entry_id' = %s", (state, timer["id"])
                )
        for person in (by, other, admin):
            problem(post(person, task, id=timer["id"], duration=60), 409)
        problem(post(admin, task, id=timer["id"].upper(), duration=60, userId=other.id), 409)
    assert idle.value("SELECT count(*) FROM time_entries WHERE id = %s", timer["id"]) == 0
    discarded = by.post(f"/api/tasks/{task['id']}/start")["id"]
    by.delete("/api/active-timers/me")
    assert post(by, task, id=discarded, duration=60).status_code == 201  # a discarded timer creates no entry
    given.close()


def test_concurrent_requests_with_one_id_create_one_entry(given: Given, stint: Installation) -> None:
    by = given.person()
    task, entry_id = given.task(by), given.new_id()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(by, task, id=entry_id, duration=60), range(20)))
    assert {answer.status_code for answer in answers} == {201} and len({answer.text for answer in answers}) == 1
    given.settled()
    assert seconds_of(by, answers[0].json()) == 60
    stint.verify()


def test_of_concurrent_requests_of_several_people_with_one_id_one_succeeds(given: Given, stint: Installation) -> None:
    people = given.people(8)
    task, entry_id = given.task(people[0]), given.new_id()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda person: post(person, task, id=entry_id, duration=60), people))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    given.settled()
    # a refused request leaves no bill
    assert stint.value("SELECT count(*) FROM time_bills WHERE customer_id = %s", task["customerId"]) == 1
    stint.verify()


def test_an_overlap_is_409_and_names_the_entries(given: Given) -> None:
    by, other = given.people(2)
    task = given.task(by)
    first, second = (post(by, task, start=f"{DAY}{hour}:00:00Z", duration=3600).json() for hour in ("09", "10"))
    assert post(other, task, duration=7200).status_code == 201  # another user's hours
    for start, duration, overlaps in (
        ("09:59:59", 1, [first["id"]]),
        ("09:59:59", 2, [first["id"], second["id"]]),
        ("08:00:00", 86400, [first["id"], second["id"]]),
        ("10:30:00", 0, [second["id"]]),
    ):
        refused = problem(post(by, task, start=f"{DAY}{start}Z", duration=duration), 409)
        assert refused["overlaps"] == overlaps
    for start, duration in (("08:00:00", 3600), ("11:00:00", 3600), ("10:00:00", 0)):  # adjacent
        assert post(by, task, start=f"{DAY}{start}Z", duration=duration).status_code == 201
    accepted = post(by, task, start=f"{DAY}09:30:00Z", duration=3600, allowOverlap=True)
    assert accepted.status_code == 201
    by.delete(f"/api/time-entries/{second['id']}")
    overlaps = problem(post(by, task, start=f"{DAY}10:10:00Z", duration=60), 409)["overlaps"]
    assert overlaps == [accepted.json()["id"]]  # a deleted entry does not overlap


def test_a_timers_entry_of_more_than_a_month_overlaps(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    long = given.stopped(by, task)["entry"]
    with stint.sql() as conn:  # impossible over the API
        conn.execute(
            "UPDATE time_entries SET start_time = end_time - interval '100 days', version = 9 WHERE id = %s", (long["id"],)
        )
    now = by.get(f"/api/time-entries/{long['id']}")
    inside = f"{now['startTime'][:10]}T23:59:59Z"
    assert problem(post(by, task, start=inside, duration=60), 409)["overlaps"] == [long["id"]]
    assert problem(post(by, task, start=f"{now['endTime'][:8]}01T00:00:00Z", duration=60), 409)["overlaps"] == [long["id"]]
    assert post(by, task, start=now["endTime"], duration=60).status_code == 201
    path, start = f"/api/time-entries/{long['id']}", datetime.fromisoformat(now["startTime"])
    shorter = by.patch(path, {"endTime": (start + timedelta(days=50)).isoformat()})  # it can be shortened, but not made longer
    assert shorter["duration"] == 50 * 86400
    longer = {"endTime": (start + timedelta(days=50, seconds=1)).isoformat(), "version": shorter["version"]}
    assert refused_fields(by.http.patch(path, json=longer)) == ["endTime"]
    by.delete(path)
    given.settled()
    stint.verify()


def test_of_concurrent_overlapping_requests_one_succeeds(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda number: post(by, task, start=f"{DAY}09:0{number}:00Z", duration=3600), range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    given.settled()
    stint.verify()


def test_an_admin_logs_time_for_any_consultant(given: Given) -> None:
    by, other, admin = given.person(), given.person(), given.admin()
    task = given.task(by)
    entry = post(admin, task, duration=60, userId=by.id).json()
    assert entry["userId"] == by.id
    assert post(by, task, start=f"{DAY}10:00:00Z", duration=60, userId=by.id.upper()).status_code == 201
    problem(post(other, task, duration=60, userId=by.id), 403)
    assert problem(post(admin, task, duration=60, userId=by.id), 409)["overlaps"] == [entry["id"]]
    for user in (given.new_id(), given.person("customer_user", task["customerId"]).id):
        assert refused_fields(post(admin, task, duration=60, userId=user)) == ["userId"]
    problem(post(given.person("customer_admin", task["customerId"]), task, duration=60), 403)


def test_no_time_can_be_logged_on_an_archived_task(given: Given) -> None:
    by = given.person()
    task = given.task(by, status="archived")
    problem(post(by, task, duration=60), 409)
    by.put(f"/api/tasks/{task['id']}", {"status": "done"})
    assert post(by, task, duration=60).status_code == 201


def test_late_time_for_an_approved_bill_opens_a_second_one(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    first = given.logged(by, task)
    given.settled()
    approved = admin.patch(f"/api/time-bills/{first['timeBillId']}", {"status": "approved"})
    late = [post(by, task, start=f"{DAY}{hour}:00:00Z", duration=600).json() for hour in (15, 16)]
    given.settled()
    assert late[0]["timeBillId"] == late[1]["timeBillId"] != approved["id"]
    assert seconds_of(by, late[0]) == 1200
    assert by.get(f"/api/time-bills/{approved['id']}") == approved
    stint.verify()


@pytest.mark.parametrize("whose", ["owner", "admin"])
def test_late_time_for_a_rejected_bill_makes_it_pending(whose: str, given: Given) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    first = given.logged(by, task)
    given.settled()
    admin.patch(f"/api/time-bills/{first['timeBillId']}", {"status": "rejected", "rejectionNote": "no"})
    late = post({"owner": by, "admin": admin}[whose], task, start=f"{DAY}15:00:00Z", duration=600, userId=by.id).json()
    given.settled()
    bill = by.get(f"/api/time-bills/{late['timeBillId']}")
    assert (bill["id"], bill["status"], bill["rejectionNote"], bill["seconds"]) == (first["timeBillId"], "pending", None, 4200)


def test_a_very_long_entry_of_a_timer_can_be_shortened_by_its_duration(given: Given, stint: Installation) -> None:
    by = given.person()
    entry = given.entry(by)
    days = 40
    with stint.sql() as conn:
        conn.execute(
            "UPDATE time_entries SET end_time = start_time + make_interval(days => %s) WHERE id = %s", (days, entry["id"])
        )
    path = f"/api/time-entries/{entry['id']}"
    assert by.patch(path, {"duration": 35 * 86_400})["duration"] == 35 * 86_400
    assert refused_fields(by.http.patch(path, json={"duration": 36 * 86_400})) == ["endTime"]

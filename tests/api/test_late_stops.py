"""A stop with a body: a timer that somebody forgot to stop ends when the work ended."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person


def ago(seconds: float = 0, **more: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds, **more)).strftime("%Y-%m-%dT%H:%M:%SZ")


def running(given: Given, by: Person, *, hours: float, notes: str = "logs") -> tuple[Json, Json]:
    """A task, and its timer that was started `hours` ago."""
    task = given.task(by)
    timer = by.http.put(
        "/api/active-timers/me", json={"taskId": task["id"], "startTime": ago(hours=hours), "notes": notes}
    ).json()
    return task, timer


def test_a_forgotten_timer_ends_when_the_client_says(given: Given) -> None:
    by = given.person()
    task, timer = running(given, by, hours=24)
    end = (datetime.fromisoformat(timer["startTime"]) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")

    stopped = by.post(f"/api/tasks/{task['id']}/stop", {"endTime": end, "notes": "mailboxes"}, status=200, wait=10)

    assert (stopped["endTime"], stopped["duration"]) == (end, 7200)
    assert (stopped["entry"]["duration"], stopped["entry"]["notes"]) == (7200, "mailboxes")
    assert stopped["timeBill"]["seconds"] == 7200
    problem(by.http.get("/api/active-timers/me"), 404)


@pytest.mark.parametrize("body", [None, {}, {"endTime": None, "notes": None}])
def test_without_an_end_the_timer_ends_now_and_keeps_its_notes(body: Json | None, given: Given) -> None:
    by = given.person()
    task, _ = running(given, by, hours=1)
    stopped = by.post(f"/api/tasks/{task['id']}/stop", body, status=200, wait=10)
    assert 3600 <= stopped["duration"] <= 3630
    assert stopped["entry"]["notes"] == "logs"


def test_an_end_a_little_in_the_future_is_now_and_can_be_repeated(given: Given) -> None:
    by = given.person()
    task, _ = running(given, by, hours=1)
    body = {"endTime": ago(-40)}
    stopped = by.post(f"/api/tasks/{task['id']}/stop", body, status=202)
    assert 3600 <= stopped["duration"] <= 3630
    assert by.post(f"/api/tasks/{task['id']}/stop", body, status=202) == stopped


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"endTime": "1 hour after the start, in the past"}, "endTime"),
        ({"endTime": 1767225600}, "endTime"),
        ({"endTime": "2026-03-02T09:00:00"}, "endTime"),
        ({"end": "2026-03-02T09:00:00Z"}, "end"),
        ({"duration": 7200}, "duration"),
        ({"startTime": "2026-03-02T09:00:00Z"}, "startTime"),
        ({"notes": "a" * 10_001}, "notes"),
    ],
)
def test_a_stop_with_a_wrong_body_is_422_and_the_timer_runs_on(body: Json, field: str, given: Given) -> None:
    by = given.person()
    task, timer = running(given, by, hours=2)
    assert refused_fields(by.http.post(f"/api/tasks/{task['id']}/stop", json=body)) == [field]
    assert by.get("/api/active-timers/me")["id"] == timer["id"]


def test_an_end_before_the_start_or_in_the_future_is_422_and_the_timer_runs_on(given: Given) -> None:
    by = given.person()
    task, timer = running(given, by, hours=2)
    for end in (ago(hours=2, seconds=60), ago(-90), "1970-01-01T00:00:00Z", "9000-01-01T00:00:00Z"):
        assert refused_fields(by.http.post(f"/api/tasks/{task['id']}/stop", json={"endTime": end})) == ["endTime"]
    assert by.get("/api/active-timers/me")["id"] == timer["id"]
    assert by.post(f"/api/tasks/{task['id']}/stop", {"endTime": timer["startTime"]}, status=202)["duration"] == 0


def test_a_repeated_stop_with_other_values_is_409_and_not_ignored(given: Given) -> None:
    by = given.person()
    task, _ = running(given, by, hours=4)
    path, end = f"/api/tasks/{task['id']}/stop", ago(hours=2)
    stopped = by.post(path, {"endTime": end, "notes": "mine"}, status=202)
    repeats: list[Json | None] = [None, {"endTime": end}, {"notes": "mine"}, {"endTime": end, "notes": "mine"}]
    for same in repeats:
        assert by.post(path, same, status=202) == stopped
    for other in ({"endTime": ago(hours=1)}, {"notes": "yours"}, {"endTime": end, "notes": ""}):
        refused = problem(by.http.post(path, json=other), 409)
        assert refused["current"] == stopped and stopped["entryId"] in refused["detail"]
    given.settled()
    assert by.get(f"/api/time-entries/{stopped['entryId']}")["notes"] == "mine"


def test_concurrent_late_stops_leave_one_entry(given: Given) -> None:
    by = given.person()
    task, timer = running(given, by, hours=6)
    ends = [ago(hours=hour) for hour in range(1, 5)]

    def stop(number: int) -> Any:
        return by.http.post(f"/api/tasks/{task['id']}/stop", json={"endTime": ends[number % 4]})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(stop, range(20)))
    first = next(answer.json() for answer in answers if answer.status_code == 202)
    assert sorted(answer.status_code for answer in answers) == [202] * 5 + [409] * 15
    assert all(answer.json() == first for answer in answers if answer.status_code == 202)
    given.settled()
    [entry] = by.get("/api/time-entries", userId=by.id)["items"]
    assert (entry["id"], entry["endTime"]) == (timer["id"], first["endTime"])

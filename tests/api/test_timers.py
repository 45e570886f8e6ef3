"""Timers: at most one runs per user, also with concurrent requests, and every stop becomes one entry."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise

import httpx2

from tests.support.answers import at, problem, until_free
from tests.support.given import Given, Json
from tests.support.installation import Installation, eventually

TIMER = {"id", "userId", "taskId", "startTime", "notes", "updatedAt", "version"}
STOP = {"entryId", "taskId", "startTime", "endTime", "duration"}


def seconds(row: Json) -> float:
    return (datetime.fromisoformat(row["endTime"]) - datetime.fromisoformat(row["startTime"])).total_seconds()


def statuses(answers: list[httpx2.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


def test_starting_a_running_task_again_returns_its_timer(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    timer = by.post(f"/api/tasks/{task['id']}/start", {"notes": "reading logs"}, status=201)
    again = by.post(f"/api/tasks/{task['id']}/start", {"notes": "ignored"}, status=200)
    assert again == timer
    assert set(timer) == TIMER | {"stopped"}
    assert (timer["notes"], timer["stopped"], timer["taskId"], timer["userId"]) == ("reading logs", None, task["id"], by.id)


def test_starting_another_task_stops_the_running_timer(given: Given) -> None:
    by = given.person()
    first, second = given.task(by), given.task(by)
    timer = by.post(f"/api/tasks/{first['id']}/start", {"notes": "logs"})

    started = by.post(f"/api/tasks/{second['id']}/start", status=201)

    stopped = started["stopped"]
    assert set(stopped) == STOP
    assert (stopped["entryId"], stopped["taskId"], stopped["startTime"]) == (timer["id"], first["id"], timer["startTime"])
    assert started["startTime"] >= stopped["endTime"]
    given.settled()
    entry = by.get(f"/api/time-entries/{timer['id']}")
    assert {name: entry[name] for name in ("startTime", "endTime", "duration", "notes")} == {
        name: stopped[name] for name in ("startTime", "endTime", "duration")
    } | {"notes": "logs"}
    assert by.post(f"/api/tasks/{first['id']}/stop", status=202) == stopped
    assert by.get("/api/active-timers/me")["taskId"] == second["id"]


def test_a_stop_without_a_timer_is_409(given: Given) -> None:
    by, other = given.people(2)
    task = given.task(by)
    problem(by.http.post(f"/api/tasks/{task['id']}/stop"), 409)
    other.post(f"/api/tasks/{task['id']}/start")
    problem(by.http.post(f"/api/tasks/{task['id']}/stop"), 409)  # another user's timer
    assert other.get("/api/active-timers/me")["taskId"] == task["id"]


def test_a_repeated_stop_gives_the_same_answer_until_the_task_is_started_again(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    by.post(f"/api/tasks/{task['id']}/start")
    first = by.post(f"/api/tasks/{task['id']}/stop", status=202)
    done = by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)
    assert set(done) == STOP | {"entry", "timeBill"}
    assert {name: done[name] for name in STOP} == first
    assert done["entry"]["timeBillId"] == done["timeBill"]["id"]
    assert by.post(f"/api/tasks/{task['id']}/stop", status=202) == first

    again = by.post(f"/api/tasks/{task['id']}/start", status=201)
    assert again["id"] != first["entryId"]
    assert by.post(f"/api/tasks/{task['id']}/stop", status=202)["entryId"] == again["id"]


def test_a_stop_returns_the_facts_of_the_entry(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    by.post(f"/api/tasks/{task['id']}/start")
    stop = by.post(f"/api/tasks/{task['id']}/stop", status=202, wait=0)
    assert set(stop) == STOP
    assert stop["duration"] == seconds(stop) >= 0
    problem(by.http.get("/api/active-timers/me"), 404)  # at once, even before the entry exists
    given.settled()
    entry = by.get(f"/api/time-entries/{stop['entryId']}")
    assert {name: entry[name] for name in ("startTime", "endTime", "duration")} == {
        name: stop[name] for name in ("startTime", "endTime", "duration")
    }


def test_a_wait_ends_with_202_without_workers(idle: Installation) -> None:
    given = Given(idle)
    by = given.person()
    task = given.task(by)
    by.post(f"/api/tasks/{task['id']}/start")
    start = time.monotonic()
    stop = by.post(f"/api/tasks/{task['id']}/stop", status=202, wait=0.5)
    assert 0.5 <= time.monotonic() - start < 3
    assert set(stop) == STOP
    assert idle.value("SELECT count(*) FROM time_entries WHERE task_id = %s", task["id"]) == 0
    given.close()


def test_a_repeated_stop_whose_message_was_pruned_does_not_wait_for_it(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    stopped = given.stopped(by, task)
    message = "DELETE FROM messages WHERE actor = 'stop_timer' AND body->>'entry_id' = %s RETURNING 1"
    assert stint.rows(message, stopped["entryId"]) == [(1,)]
    again = by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=9)
    assert again["entry"]["id"] == again["entryId"] == stopped["entryId"]


def test_a_waiting_request_uses_no_connection(idle: Installation) -> None:
    given = Given(idle)
    people = given.people(20)  # more than the API has connections
    task = given.task(people[0])
    for person in people:
        person.post(f"/api/tasks/{task['id']}/start")
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(person.post, f"/api/tasks/{task['id']}/stop", status=202, wait=8) for person in people]
        eventually(lambda: idle.value("SELECT count(*) FROM timers WHERE task_id = %s", task["id"]) == 0)
        people[0].get("/api/me")  # fails if the waiting requests use all connections
        assert not any(waiter.done() for waiter in waiting)
        assert len({waiter.result()["entryId"] for waiter in waiting}) == 20
    given.close()


def test_fifty_parallel_starts_leave_one_timer(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: until_free(lambda: by.http.post(f"/api/tasks/{task['id']}/start")), range(50)))
    assert statuses(answers) == [200] * 49 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert stint.value("SELECT count(*) FROM timers WHERE user_id = %s", by.id) == 1


def test_fifty_parallel_starts_of_several_tasks_leave_one_timer_and_no_overlap(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    tasks = [given.task(by, customer)["id"] for _ in range(10)]

    with ThreadPoolExecutor(50) as pool:
        paths = [f"/api/tasks/{tasks[number % 10]}/start" for number in range(50)]
        answers = list(pool.map(lambda path: until_free(lambda: by.http.post(path)), paths))

    assert set(statuses(answers)) <= {200, 201}
    started = [answer.json() for answer in answers if answer.status_code == 201]
    stopped = [timer["stopped"] for timer in started if timer["stopped"]]
    assert len(stopped) == len(started) - 1
    running = by.get("/api/active-timers/me")
    given.settled()
    entries = by.get("/api/time-entries", userId=by.id)["items"]
    assert sorted(entry["id"] for entry in entries) == sorted(stop["entryId"] for stop in stopped)
    assert {running["id"]} == {timer["id"] for timer in started} - {entry["id"] for entry in entries}
    in_order = sorted(entries, key=lambda entry: (entry["startTime"], entry["endTime"]))
    assert all(entry["duration"] == seconds(entry) >= 0 for entry in in_order)
    assert all(before["endTime"] <= after["startTime"] for before, after in pairwise([*in_order, running | {"endTime": ""}]))
    stint.verify()


def test_fifty_parallel_stops_leave_one_entry_and_one_answer(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    by.post(f"/api/tasks/{task['id']}/start")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: until_free(lambda: by.http.post(f"/api/tasks/{task['id']}/stop")), range(50)))
    assert statuses(answers) == [202] * 50
    assert len({answer.text for answer in answers}) == 1
    given.settled()
    assert stint.value("SELECT count(*) FROM time_entries WHERE user_id = %s", by.id) == 1
    assert stint.value("SELECT count(*) FROM messages WHERE actor = 'stop_timer' AND created_by = %s", by.id) == 1


def test_concurrent_starts_and_stops_lose_no_time(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    tasks = [given.task(by, customer)["id"] for _ in range(3)]

    def act(number: int) -> httpx2.Response:
        verb = "stop" if number % 3 == 2 else "start"
        return until_free(lambda: by.http.post(f"/api/tasks/{tasks[number % len(tasks)]}/{verb}"))

    with ThreadPoolExecutor(16) as pool:
        assert set(statuses(list(pool.map(act, range(90))))) <= {200, 201, 202, 409}
    given.settled()
    stopped = stint.rows("SELECT body->>'entry_id' FROM messages WHERE created_by = %s AND actor = 'stop_timer'", by.id)
    created = stint.rows("SELECT id::text FROM time_entries WHERE user_id = %s", by.id)
    assert sorted(stopped) == sorted(created)
    assert len(created) > 3
    stint.verify()


def test_a_stop_after_midnight_in_new_york_is_on_the_day_of_its_start(given: Given, new_york: Installation) -> None:
    by = given.person()
    entry = given.entry(by, start="2026-03-03T03:30:00Z")
    with at(new_york, by.token) as client:  # in New York it is 22:30 of the day before
        assert client.get("/api/time-entries", params={"userId": by.id, "endDate": "2026-03-02"}).json()["items"] == [entry]
        assert client.get("/api/time-entries", params={"userId": by.id, "startDate": "2026-03-03"}).json()["items"] == []
    assert by.get("/api/time-entries", userId=by.id, startDate="2026-03-03")["items"] == [entry]

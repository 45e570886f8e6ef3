"""The active timer by its user's id: PUT starts or changes it, DELETE discards it; no time is lost, and at most one runs."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation

ME = "/api/active-timers/me"


def ago(seconds: float = 0, **more: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds, **more)).strftime("%Y-%m-%dT%H:%M:%SZ")


def put_timer(by: Person, task: Json, owner: str = "me", **more: Any) -> httpx2.Response:
    return by.http.put(f"/api/active-timers/{owner}", json={"taskId": task["id"]} | more)


def start_timer(by: Person, task: Json, **more: Any) -> Json:
    answer = put_timer(by, task, **more)
    assert answer.status_code == 201, answer.text
    timer: Json = answer.json()
    return timer


def without_stopped(timer: Json) -> Json:
    return {name: value for name, value in timer.items() if name != "stopped"}


def test_a_put_starts_a_timer_and_a_repeated_put_changes_nothing(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    timer = start_timer(by, task, notes="logs")
    assert (timer["taskId"], timer["userId"], timer["notes"], timer["version"]) == (task["id"], by.id, "logs", 1)
    assert timer["stopped"] is None and ago(5) <= timer["startTime"] <= ago()
    for more in ({}, {"notes": "logs"}, {"startTime": timer["startTime"]}, {"notes": None, "startTime": None, "version": 1}):
        again = put_timer(by, task, **more)
        assert (again.status_code, again.json()) == (200, timer)
    assert by.post(f"/api/tasks/{task['id']}/start", {"notes": "ignored"}, status=200) == timer
    assert put_timer(by, task, owner=by.id.upper()).json() == timer
    assert by.get(ME) == by.get(f"/api/active-timers/{by.id}") == without_stopped(timer)


def test_notes_and_start_can_be_changed_separately(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    timer = start_timer(by, task, notes="logs")
    earlier, fraction = ago(600), ago(500)[:-1] + ".999999Z"
    changes: list[Json] = [{"notes": "mailboxes"}, {"startTime": earlier}, {"notes": ""}]
    changes.append({"startTime": fraction, "notes": "both", "version": 4})
    for version, change in enumerate(changes, start=2):
        answer = put_timer(by, task, **change)
        assert answer.status_code == 200
        expected = timer | change | {"version": version, "updatedAt": answer.json()["updatedAt"]}
        timer = expected | {"startTime": expected["startTime"].replace(".999999", "")}
        assert answer.json() == timer
    stopped = by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)
    assert (stopped["startTime"], stopped["entry"]["notes"]) == (timer["startTime"], "both")
    assert 500 <= stopped["duration"] <= 530


def test_another_task_stops_the_first_now_or_at_the_start_of_the_second(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    one, other, third = (given.task(by, customer) for _ in range(3))
    first = start_timer(by, one, startTime=ago(hours=2), notes="one")
    an_hour_ago = ago(hours=1)

    second = start_timer(by, other, startTime=an_hour_ago)
    third_timer = start_timer(by, third)

    stops = [second["stopped"], third_timer["stopped"]]
    assert [stop["entryId"] for stop in stops] == [first["id"], second["id"]]
    assert (stops[0]["startTime"], stops[0]["endTime"]) == (first["startTime"], an_hour_ago)
    assert stops[1]["startTime"] == an_hour_ago and ago(10) <= stops[1]["endTime"] <= third_timer["startTime"]
    for task, stop in zip((one, other), stops, strict=True):
        assert by.post(f"/api/tasks/{task['id']}/stop", status=202) == stop  # a repeated stop gets the same answer
    given.settled()
    entries = [by.get(f"/api/time-entries/{stop['entryId']}") for stop in stops]
    facts = ("startTime", "endTime", "duration")
    assert [{name: entry[name] for name in facts} for entry in entries] == [
        {name: stop[name] for name in facts} for stop in stops
    ]
    assert entries[0]["notes"] == "one"
    stint.verify()


@pytest.mark.parametrize("seconds", [7200, 9000])
def test_a_second_timer_that_starts_before_the_first_takes_no_time_from_it(seconds: int, given: Given) -> None:
    by = given.person()
    one, other = given.task(by), given.task(by)
    start = ago(7200)
    start_timer(by, one, startTime=start)
    timer = start_timer(by, other, startTime=start if seconds == 7200 else ago(seconds))
    assert timer["stopped"]["startTime"] == start and timer["stopped"]["endTime"] >= ago(10)
    assert timer["stopped"]["duration"] >= 7200
    given.settled()
    assert by.get(f"/api/time-entries/{timer['stopped']['entryId']}")["duration"] == timer["stopped"]["duration"]


def test_an_impossible_start_is_422_and_changes_nothing(given: Given) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    impossible = (ago(-90), ago(days=31, seconds=60), "1970-01-01T00:00:00Z", "9000-01-01T00:00:00Z")
    for start in impossible:
        assert refused_fields(put_timer(by, task, startTime=start)) == ["startTime"]
    problem(by.http.get(ME), 404)
    timer = start_timer(by, task)
    for start in impossible:
        for requested in (task, other):
            assert refused_fields(put_timer(by, requested, startTime=start, notes="no")) == ["startTime"]
    assert by.get(ME) == without_stopped(timer)


def test_a_start_a_little_in_the_future_is_now(given: Given) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    for requested, moment in ((task, ago(-30)), (other, ago(-50))):
        timer = start_timer(by, requested, startTime=moment)
        assert ago(10) <= timer["startTime"] <= ago() < moment
    changed = put_timer(by, other, startTime=ago(-30)).json()
    assert changed["startTime"] <= ago()
    assert by.post(f"/api/tasks/{other['id']}/stop", status=202)["duration"] >= 0
    assert start_timer(by, task, startTime=ago(days=31, seconds=-60))["version"] == 1


def test_a_timer_that_runs_for_more_than_a_month_can_still_be_changed_and_stopped(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    timer = start_timer(by, task)
    with stint.sql() as conn:
        conn.execute("UPDATE timers SET start_time = start_time - interval '40 days' WHERE user_id = %s", (by.id,))
    now = by.get(ME)
    # a client that sends the whole row back changes its notes only
    changed = put_timer(by, task, notes="long ago", startTime=now["startTime"], version=now["version"])
    assert (changed.status_code, changed.json()["notes"], changed.json()["startTime"]) == (200, "long ago", now["startTime"])
    stopped = by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)
    assert stopped["entryId"] == timer["id"] and stopped["duration"] >= 40 * 86400 and stopped["entry"]["flags"] == ["long"]


def test_only_an_admin_may_change_another_users_timer(given: Given) -> None:
    by, other = given.people(2)
    admin, task = given.admin(), given.task(by)
    problem(put_timer(other, task, owner=by.id), 403)
    timer = put_timer(admin, task, owner=by.id)
    assert (timer.status_code, timer.json()["userId"]) == (201, by.id)
    assert put_timer(admin, task, owner=by.id, notes="yours").status_code == 200
    problem(admin.http.get(ME), 404)
    problem(put_timer(other, task, owner=by.id, notes="mine"), 403)
    problem(other.http.delete(f"/api/active-timers/{by.id}"), 403)
    for role in ("customer_admin", "customer_user"):
        user = given.person(role, task["customerId"])
        for owner in ("me", user.id, by.id):
            problem(put_timer(user, task, owner=owner), 403)
            problem(user.http.get(f"/api/active-timers/{owner}"), 403)
            problem(user.http.delete(f"/api/active-timers/{owner}"), 403)
    assert by.get(ME)["notes"] == "yours"
    admin.delete(f"/api/active-timers/{by.id}")
    problem(by.http.get(ME), 404)


def test_only_consultants_have_timers(given: Given, stint: Installation) -> None:
    admin = given.admin()
    task = given.task(admin)
    customers = [given.person(role, task["customerId"]) for role in ("customer_admin", "customer_user")]
    for owner in (given.new_id(), task["id"], *(user.id for user in customers)):
        problem(put_timer(admin, task, owner=owner), 404)
        problem(admin.http.delete(f"/api/active-timers/{owner}"), 404)
    assert refused_fields(put_timer(admin, task, owner="nobody")) == ["owner"]
    assert stint.value("SELECT count(*) FROM timers WHERE task_id = %s", task["id"]) == 0


def test_an_unknown_task_is_422_and_an_archived_one_409(given: Given) -> None:
    by = given.person()
    task, archived = given.task(by), given.task(by, status="archived")
    for _ in range(2):  # without a timer, and with one
        assert refused_fields(put_timer(by, {"id": given.new_id()})) == ["taskId"]
        problem(put_timer(by, archived), 409)
        timer = put_timer(by, task).json()
    assert by.get(ME) == without_stopped(timer)


def test_a_stale_version_is_409_with_the_running_timer(given: Given) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    assert problem(put_timer(by, task, version=1), 409)["current"] is None
    timer = start_timer(by, task)
    put_timer(by, task, notes="logs", version=1)
    for requested in (task, other):
        refused = problem(put_timer(by, requested, notes="mine", version=1), 409)
        assert refused["current"] == by.get(ME) and refused["current"]["id"] == timer["id"]
    assert start_timer(by, other, version=2)["stopped"]["entryId"] == timer["id"]


def test_a_discarded_timer_leaves_no_entry(given: Given, stint: Installation) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    problem(by.http.delete(ME), 404)
    timer = start_timer(by, task, startTime=ago(3600))
    by.delete(ME)
    problem(by.http.delete(ME), 404)
    problem(by.http.get(ME), 404)
    problem(by.http.post(f"/api/tasks/{task['id']}/stop"), 409)
    assert start_timer(by, other)["stopped"] is None
    given.settled()
    problem(by.http.get(f"/api/time-entries/{timer['id']}"), 404)
    assert stint.value("SELECT count(*) FROM messages WHERE created_by = %s", by.id) == 0


def test_a_timer_that_is_discarded_by_its_id_and_version_is_the_one_that_was_seen(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    seen = start_timer(by, task)
    changed = put_timer(by, task, notes="Logs").json()
    for stale in ({"timerId": seen["id"], "version": 1}, {"version": 1}, {"timerId": task["id"]}):
        refused = problem(by.http.delete(ME, params=stale), 409)
        assert refused["current"] == by.get(ME) and refused["current"]["id"] == seen["id"], stale
    problem(by.http.delete(ME, params={"timerId": "x"}), 422)
    by.http.delete(ME, params={"timerId": changed["id"], "version": changed["version"]}).raise_for_status()
    problem(by.http.get(ME), 404)


def test_after_a_discarded_restart_the_earlier_stop_cannot_be_repeated(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    stopped = given.stopped(by, task)
    start_timer(by, task)
    by.delete(ME)
    problem(by.http.post(f"/api/tasks/{task['id']}/stop"), 409)
    assert by.get(f"/api/time-entries/{stopped['entryId']}") == stopped["entry"]


@pytest.mark.parametrize("seed", range(2))
def test_with_concurrent_requests_one_timer_runs_and_no_stop_is_lost(seed: int, given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    customer = given.customer(by)
    tasks = [given.task(by, customer) for _ in range(3)]

    def act(number: int) -> httpx2.Response:
        pick = random.Random(seed * 1000 + number)
        who, task = pick.choice([by, by, admin]), pick.choice(tasks)
        match pick.choice(["put", "put", "put", "start", "stop", "delete"]):
            case "put":
                more: Json = pick.choice([{}, {"notes": str(number)}, {"startTime": ago(pick.randrange(4000))}, {"version": 1}])
                return put_timer(who, task, owner=by.id, **more)
            case "delete":
                return who.http.delete(f"/api/active-timers/{by.id}")
            case verb:
                return by.http.post(f"/api/tasks/{task['id']}/{verb}")

    for round_number in range(4):
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(act, range(round_number * 20, round_number * 20 + 20)))
        assert {answer.status_code for answer in answers} <= {200, 201, 202, 204, 404, 409}, [
            answer.text for answer in answers if answer.status_code >= 500
        ]
        assert stint.value("SELECT count(*) FROM timers WHERE user_id = %s", by.id) <= 1
    given.settled()
    stopped = stint.rows("SELECT body->>'entry_id' FROM messages WHERE actor = 'stop_timer' AND created_by = %s", by.id)
    created = stint.rows("SELECT id::text FROM time_entries WHERE user_id = %s", by.id)
    assert sorted(stopped) == sorted(created)
    total = stint.value("SELECT sum(duration) FROM time_entries WHERE user_id = %s", by.id)
    assert stint.value("SELECT sum(seconds) FROM time_bills WHERE user_id = %s", by.id) == total
    stint.verify()


def test_an_admin_can_log_the_time_of_a_user_who_has_left(given: Given, stint: Installation) -> None:
    gone, admin = given.person(), given.admin()
    task, another = given.task(admin), given.task(admin)
    timer = gone.post(f"/api/tasks/{task['id']}/start")
    with stint.sql() as conn:
        conn.execute("UPDATE users SET revoked_at = now() WHERE id = %s", (gone.id,))
    problem(gone.http.post(f"/api/tasks/{task['id']}/stop"), 401)

    answer = admin.http.put(f"/api/active-timers/{gone.id}", json={"taskId": another["id"]})

    assert answer.status_code == 201
    assert answer.json()["stopped"]["entryId"] == timer["id"]
    assert admin.http.delete(f"/api/active-timers/{gone.id}").status_code == 204
    body = {"taskId": task["id"], "userId": gone.id, "startTime": "2026-03-02T09:00:00Z", "duration": 60}
    assert admin.post("/api/time-entries", body)["userId"] == gone.id
    given.settled()
    assert [item["id"] for item in admin.get("/api/tasks/internal-users", limit=1000)["items"]].count(gone.id) == 0

"""Timers that were started or stopped offline, pushed by POST /api/sync: no time worked is lost between two devices."""

from uuid import uuid4

import pytest

from tests.support.answers import problem
from tests.support.given import Given
from tests.support.installation import Installation
from tests.sync.pushing import SOMEONE, ago, op, outcomes, pushed, run, stopped


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """`verify` reads all rows."""
    return stint_apart


def test_a_timer_that_ran_offline_keeps_its_own_times(given: Given) -> None:
    by = given.person()
    task, timer = given.task(by), str(uuid4())
    times = ago(50), ago(20)
    (start,) = pushed(by, run("timer.start", task, timer, times[0], notes="offline"))
    assert by.get("/api/active-timers/me") == start["current"]
    assert (start["current"]["id"], start["current"]["startTime"]) == (timer, times[0])
    (stop,) = pushed(by, run("timer.stop", task, timer, *times))
    assert stop["current"] == {
        "entryId": timer, "taskId": task["id"], "startTime": times[0], "endTime": times[1], "duration": 1800,
    }  # fmt: skip
    assert stopped(by, timer, given) == times
    problem(by.http.get("/api/active-timers/me"), 404)
    # now it is an entry: the same stop under another opId is applied, a different stop is a conflict
    assert outcomes(pushed(by, run("timer.stop", task, timer, *times))) == ["applied"]
    (late,) = pushed(by, run("timer.stop", task, timer, times[0], ago(10)))
    assert (late["outcome"], late["current"]["endTime"]) == ("conflict", times[1])
    assert outcomes(pushed(by, run("timer.start", task, timer, times[0]))) == ["conflict"]


def test_a_stop_alone_makes_the_entry_and_is_never_refused_for_overlap(given: Given) -> None:
    by = given.person()
    task, timers = given.task(by), [str(uuid4()) for _ in range(3)]
    times = ago(50), ago(20)
    by.put(f"/api/tasks/{task['id']}", {"status": "archived"})
    assert outcomes(pushed(by, *(run("timer.stop", task, timer, *times) for timer in timers))) == ["applied"] * 3
    assert [stopped(by, timer, given) for timer in timers] == [times] * 3
    given.stint.verify()


def test_a_timer_started_offline_does_not_stop_a_timer_that_the_client_did_not_know(given: Given) -> None:
    by = given.person()
    task, other, timer = given.task(by), given.task(by), str(uuid4())
    running = by.put("/api/active-timers/me", {"taskId": task["id"], "startTime": ago(90)}, status=201)
    for started_at, of in ((ago(120), other), (ago(60), other), (ago(60), task)):
        (result,) = pushed(by, run("timer.start", of, timer, started_at))
        assert (result["outcome"], result["current"]["id"]) == ("conflict", running["id"])
    # its stop creates the entry all the same, and the other timer runs on
    times = ago(60), ago(30)
    assert outcomes(pushed(by, run("timer.stop", other, timer, *times))) == ["applied"]
    assert stopped(by, timer, given) == times
    assert by.get("/api/active-timers/me")["startTime"] == running["startTime"]
    # a client that knows of it stops it, and starts the next one
    switch = ago(10)
    switching = [
        run("timer.stop", task, running["id"], running["startTime"], switch),
        run("timer.start", other, str(uuid4()), switch),
    ]
    assert outcomes(pushed(by, *switching)) == ["applied", "applied"]
    assert stopped(by, running["id"], given) == (running["startTime"], switch)


def test_a_timer_that_another_client_changed_is_a_conflict_and_runs_on(given: Given) -> None:
    by = given.person()
    task, other = given.task(by), given.task(by)
    timer = by.post(f"/api/tasks/{task['id']}/start", {"notes": "as it began"})
    moved = by.put("/api/active-timers/me", {"taskId": task["id"], "startTime": ago(60)})
    end = ago(1)
    for operation in (
        run("timer.stop", task, timer["id"], ago(30), end),
        run("timer.stop", task, timer["id"], moved["startTime"], end, base=1),
        run("timer.stop", task, timer["id"], moved["startTime"], end, notes="mine"),
        run("timer.stop", other, timer["id"], moved["startTime"], end),
        run("timer.start", task, timer["id"], ago(30)),
    ):
        (result,) = pushed(by, operation)
        assert (result["outcome"], result["current"]) == ("conflict", by.get("/api/active-timers/me"))
    # with the timer's current version, the client's values are used
    known = run("timer.stop", task, timer["id"], ago(45), end, base=moved["version"], notes="mine")
    assert outcomes(pushed(by, known)) == ["applied"]
    assert stopped(by, timer["id"], given) == (known["data"]["startTime"], end)
    assert by.get(f"/api/time-entries/{timer['id']}")["notes"] == "mine"


def test_an_offline_stop_after_an_online_one_is_a_conflict(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    timer = by.put("/api/active-timers/me", {"taskId": task["id"], "startTime": ago(60)}, status=201)
    receipt = by.post(f"/api/tasks/{task['id']}/stop", status=202)
    (result,) = pushed(by, run("timer.stop", task, timer["id"], timer["startTime"], ago(30)))
    assert (result["outcome"], result["current"]["endTime"]) == ("conflict", receipt["endTime"])
    given.settled()
    by.delete(f"/api/time-entries/{timer['id']}")
    (result,) = pushed(by, run("timer.stop", task, timer["id"], timer["startTime"], ago(30)))
    assert (result["outcome"], result["current"]) == ("conflict", {"id": timer["id"], "deleted": True})


@pytest.mark.parametrize("operation", [
    ("timer.stop", [-5, -10], "endTime"),      # ends in the future
    ("timer.stop", [10, 20], "endTime"),       # before it starts
    ("timer.start", [-5], "startTime"),
    ("timer.start", [60 * 24 * 32], "startTime"),
    ("timer.stop", [60 * 24 * 3651, 0], "startTime"),
])  # fmt: skip
def test_impossible_times_are_rejected(operation: tuple[str, list[float], str], given: Given) -> None:
    by = given.person()
    kind, minutes, field = operation
    (result,) = pushed(by, run(kind, given.task(by), str(uuid4()), *map(ago, minutes)))
    assert (result["outcome"], result["errors"][0]["path"]) == ("rejected", field)


def test_a_stop_from_a_clock_that_is_a_little_fast_is_applied(given: Given) -> None:
    by = given.person()
    task, timer = given.task(by), str(uuid4())
    assert outcomes(pushed(by, run("timer.stop", task, timer, ago(10), ago(-0.5)))) == ["applied"]
    given.settled()
    assert by.get(f"/api/time-entries/{timer}")["endTime"] <= ago(-0.1)


def test_a_stop_on_a_deleted_task_is_a_conflict(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    by.delete(f"/api/customers/{task['customerId']}")
    (result,) = pushed(by, run("timer.stop", task, str(uuid4()), ago(50), ago(20)))
    assert (result["outcome"], result["current"]) == ("conflict", {"id": task["id"], "deleted": True})
    (result,) = pushed(by, run("timer.stop", {"id": SOMEONE}, str(uuid4()), ago(50), ago(20)))
    assert (result["outcome"], result["errors"][0]["path"]) == ("rejected", "taskId")


def test_an_edit_may_follow_its_stop_at_once(given: Given, idle: Installation) -> None:
    """No worker runs for this API: the stop's message is not handled, and the next operation creates the entry."""
    waiting = Given(idle)
    by = waiting.person()
    task, timer = waiting.task(by), str(uuid4())
    times = ago(50), ago(20)
    results = pushed(
        by,
        run("timer.stop", task, timer, *times),
        run("timer.stop", task, timer, *times),
        op("entry.notes", 1, id=timer, notes="right after"),
        op("entry.patch", 1, id=timer, startTime=ago(40)),
    )
    assert outcomes(results) == ["applied"] * 4
    assert by.get(f"/api/time-entries/{timer}")["notes"] == "right after"
    states = idle.rows("SELECT state FROM messages WHERE actor = 'stop_timer' AND body->>'entry_id' = %s", timer)
    assert states == [("done",)]
    waiting.close()

"""POST /api/sync: what a client did while it was offline. Each operation once, none takes another along, no hour is lost."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as generated
from hypothesis import strategies as st

from tests.api.answers import Json, problem, refused_fields
from tests.api.test_sync import fresh
from tests.given import Given, Person
from tests.installation import Installation, eventually

SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"


def op(kind: str, base: int | None = None, op_id: str | None = None, **data: Any) -> Json:
    return {"opId": op_id or str(uuid4()), "kind": kind, "baseVersion": base, "data": data}


def pushed(by: Person, *operations: Json) -> list[Json]:
    """The operations' results."""
    results: list[Json] = by.post("/api/sync", {"operations": operations}, status=200)["results"]
    assert [result["opId"] for result in results] == [operation["opId"] for operation in operations]
    for operation, result in zip(operations, results, strict=True):
        assert ("mine" in result) == (result["outcome"] != "applied")
        assert result.get("mine", operation["data"]) == operation["data"]
        assert ("detail" in result) == (result["outcome"] != "applied")
    return results


def outcomes(results: list[Json]) -> list[str]:
    return [result["outcome"] for result in results]


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def run(kind: str, task: Json, timer_id: str, *times: str, base: int | None = None, **more: Any) -> Json:
    """A timer's start or stop."""
    named = dict(zip(("startTime", "endTime"), times, strict=False))
    return op(kind, base, id=timer_id, taskId=task["id"], **named, **more)


def test_each_kind_does_what_its_route_does(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    task, timer, entry = str(uuid4()), str(uuid4()), str(uuid4())
    since = fresh(by).since

    answer = by.post(
        "/api/sync",
        {
            "lastSyncTimestamp": since,
            "operations": [
                op("task.put", id=task, title="Mend it", customerId=customer["id"], source="desktop"),
                op("task.put", 1, id=task, title="Mended"),
                op("timer.start", id=timer, taskId=task, startTime=ago(50)),
                op("timer.stop", 1, id=timer, taskId=task, startTime=ago(50), endTime=ago(20), notes="offline"),
                op("entry.put", id=entry, taskId=task, startTime=ago(300), duration=600),
                op("entry.patch", 1, id=entry, duration=1200),
                op("entry.notes", 1, id=entry, notes="by hand"),
                op("entry.notes", id=entry, append="a line"),
                op("entry.delete", 1, id=timer),
            ],
        },
        status=200,
    )

    assert outcomes(answer["results"]) == ["applied"] * 9
    assert [row["title"] for row in answer["tasks"]] == ["Mended"]
    assert by.get(f"/api/tasks/{task}")["source"] == "desktop"
    assert {"id": timer, "deleted": True} in answer["timeEntries"]
    found = by.get(f"/api/time-entries/{entry}")
    assert (found["duration"], found["notes"]) == (1200, "by hand\na line")
    assert answer["results"][7]["current"] | {"updatedAt": "", "locked": False} == found | {"updatedAt": ""}
    given.settled()
    given.stint.verify()


def test_the_same_operation_again_gets_the_same_answer_and_has_no_effect(given: Given) -> None:
    by = given.person()
    entry = given.logged(by)
    operations = [
        op("entry.notes", id=entry["id"], append="once"),
        op("entry.patch", 7, id=entry["id"], duration=60),
        op("entry.patch", 1, id=given.logged(by)["id"], duration=-1),
    ]
    first = pushed(by, *operations)
    assert outcomes(first) == ["applied", "conflict", "rejected"]
    assert pushed(by, *operations, *operations[:1]) == [*first, first[0]]
    assert by.get(f"/api/time-entries/{entry['id']}")["notes"] == "once"


def test_an_op_id_with_another_body_is_rejected(given: Given) -> None:
    by, other = given.people(2)
    entry, others = given.logged(by), given.logged(other)
    operation = op("entry.notes", id=entry["id"], append="once")
    (first,) = pushed(by, operation)
    for change in ({"data": {"id": entry["id"], "append": "other"}}, {"baseVersion": 1}, {"kind": "entry.patch"}):
        (result,) = pushed(by, operation | change)
        assert (result["outcome"], result["errors"][0]["path"]) == ("rejected", "opId")
    assert pushed(by, operation) == [first]
    # of another user it is another operation
    assert outcomes(pushed(other, op("entry.notes", op_id=operation["opId"], id=others["id"], append="mine"))) == ["applied"]


def test_requests_with_the_same_operation_at_once_have_one_effect(given: Given) -> None:
    by = given.person()
    entry = given.logged(by)
    for number in range(5):
        operation = op("entry.notes", id=entry["id"], append=f"line {number}")
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _, operation=operation: pushed(by, operation), range(4)))
        assert all(answer == answers[0] for answer in answers)
    assert by.get(f"/api/time-entries/{entry['id']}")["notes"] == "\n".join(f"line {number}" for number in range(5))


def test_one_that_fails_takes_no_other_along(given: Given) -> None:
    by = given.person()
    entry = given.logged(by)
    results = pushed(
        by,
        op("entry.notes", id=entry["id"], append="first"),
        op("entry.notes", 99, id=entry["id"], notes="stale"),
        op("nonsense", id=entry["id"]),
        op("entry.notes", id=entry["id"], append="last"),
    )
    assert outcomes(results) == ["applied", "conflict", "rejected", "applied"]
    assert by.get(f"/api/time-entries/{entry['id']}")["notes"] == "first\nlast"


def test_a_conflict_hands_back_both_versions(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    entry, gone = given.logged(by, task), given.logged(by, task, start="2026-03-03T09:00:00Z")
    by.put(f"/api/tasks/{task['id']}", {"title": "Theirs"})
    by.post(f"/api/time-entries/{entry['id']}/notes", {"notes": "theirs"}, status=200)
    by.delete(f"/api/time-entries/{gone['id']}")

    results = pushed(
        by,
        op("task.put", 1, id=task["id"], title="Mine"),
        op("task.put", id=task["id"], title="Mine", customerId=task["customerId"]),
        op("entry.notes", 1, id=entry["id"], notes="mine"),
        op("entry.patch", 1, id=entry["id"], duration=60),
        op("entry.delete", 1, id=entry["id"]),
        op("entry.patch", 1, id=gone["id"], duration=60),
        op("entry.notes", id=gone["id"], append="mine"),
        op("entry.put", id=entry["id"], taskId=task["id"], startTime=ago(90), duration=60),
    )

    assert outcomes(results) == ["conflict"] * 8
    assert [result["current"].get("title") for result in results[:2]] == ["Theirs", "Theirs"]
    assert [result["current"].get("notes") for result in results[2:5]] == ["theirs"] * 3
    assert [result["current"] for result in results[5:7]] == [{"id": gone["id"], "deleted": True}] * 2
    assert results[7]["current"]["notes"] == "theirs"


def test_what_is_deleted_twice_is_deleted(given: Given) -> None:
    by, other = given.people(2)
    entry = given.logged(by)
    by.delete(f"/api/time-entries/{entry['id']}")
    assert outcomes(pushed(by, op("entry.delete", 1, id=entry["id"]))) == ["applied"]
    assert outcomes(pushed(other, op("entry.delete", 1, id=entry["id"]))) == ["rejected"]


def test_changes_queued_one_after_another_may_name_the_version_before_the_first(given: Given) -> None:
    by = given.person()
    entry = given.logged(by)
    changes = [op("entry.patch", 1, id=entry["id"], duration=60 * number) for number in (1, 2, 3)]
    assert outcomes(pushed(by, *changes[:2])) == ["applied", "applied"]
    # the answer was lost: they come again, with one more
    assert outcomes(pushed(by, *changes)) == ["applied"] * 3
    assert by.get(f"/api/time-entries/{entry['id']}")["duration"] == 180
    by.post(f"/api/time-entries/{entry['id']}/notes", {"append": "theirs"}, status=200)
    # but what somebody else has written meanwhile is not passed over, nor built upon
    more, most = op("entry.patch", 1, id=entry["id"], duration=240), op("entry.delete", 5, id=entry["id"])
    assert outcomes(pushed(by, *changes, more, most)) == ["applied"] * 3 + ["conflict"] * 2


def test_an_entry_on_an_approved_bill_is_a_conflict_that_names_the_bill(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = given.approved_bill(by, admin)
    entry = by.get("/api/time-entries", timeBillId=bill["id"])["items"][0]
    for operation in (
        op("entry.patch", entry["version"], id=entry["id"], duration=60),
        op("entry.notes", id=entry["id"], append="a line"),
        op("entry.delete", entry["version"], id=entry["id"]),
    ):
        (result,) = pushed(by, operation)
        assert (result["outcome"], result["timeBillId"], result["current"]) == ("conflict", bill["id"], entry)


def test_overlaps_are_a_conflict_that_names_them(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    there = given.logged(by, task)
    new = {"id": str(uuid4()), "taskId": task["id"], "startTime": there["startTime"], "duration": 60}
    (result,) = pushed(by, op("entry.put", **new))
    assert (result["outcome"], result["overlaps"], result["current"]) == ("conflict", [there["id"]], None)
    assert outcomes(pushed(by, op("entry.put", **new, allowOverlap=True))) == ["applied"]


def test_another_users_hours_are_refused_in_the_words_of_the_routes(given: Given) -> None:
    by, other = given.people(2)
    task = given.task(other)
    entry = given.logged(other, task)
    path = f"/api/time-entries/{entry['id']}"
    pairs = [
        (op("entry.patch", 1, id=entry["id"], duration=60), by.http.patch(path, json={"duration": 60})),
        (op("entry.notes", id=entry["id"], append="x"), by.http.post(f"{path}/notes", json={"append": "x"})),
        (op("entry.delete", 1, id=entry["id"]), by.http.delete(path)),
        (op("entry.patch", 1, id=SOMEONE, duration=60), by.http.patch(f"/api/time-entries/{SOMEONE}", json={"duration": 60})),
        (op("task.put", 1, id=SOMEONE, title="A"), by.http.put(f"/api/tasks/{SOMEONE}", json={"title": "A"})),
    ]
    for operation, answer in pairs:
        (result,) = pushed(by, operation)
        assert (result["outcome"], result["detail"]) == ("rejected", answer.json()["detail"])
    whose = {"taskId": task["id"], "startTime": ago(60), "duration": 60, "userId": other.id}
    (result,) = pushed(by, op("entry.put", id=str(uuid4()), **whose))
    assert (result["outcome"], result["detail"]) == ("rejected", by.http.post("/api/time-entries", json=whose).json()["detail"])
    timer = other.post(f"/api/tasks/{task['id']}/start")
    for kind, times in (("timer.start", [ago(5)]), ("timer.stop", [ago(5), ago(4)])):
        for taken in (timer["id"], entry["id"]):
            (result,) = pushed(by, run(kind, task, taken, *times))
            assert (result["outcome"], result["current"]) == ("conflict", None)
    assert other.get("/api/active-timers/me")["id"] == timer["id"] and other.get(path) == entry
    admin = given.admin()
    assert outcomes(pushed(admin, op("entry.patch", 1, id=entry["id"], duration=60))) == ["applied"]


def stopped(by: Person, entry_id: str, given: Given) -> tuple[str, str]:
    given.settled()
    entry = by.get(f"/api/time-entries/{entry_id}")
    return entry["startTime"], entry["endTime"]


def test_a_timer_that_ran_offline_brings_its_own_times(given: Given) -> None:
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
    # from here on it is an entry; the same stop under another opId is done already, another one is a conflict
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


def test_a_timer_started_offline_does_not_stop_one_it_knew_nothing_of(given: Given) -> None:
    by = given.person()
    task, other, timer = given.task(by), given.task(by), str(uuid4())
    running = by.put("/api/active-timers/me", {"taskId": task["id"], "startTime": ago(90)}, status=201)
    for begun, of in ((ago(120), other), (ago(60), other), (ago(60), task)):
        (result,) = pushed(by, run("timer.start", of, timer, begun))
        assert (result["outcome"], result["current"]["id"]) == ("conflict", running["id"])
    # its hours come with its stop all the same, and those of the other go on
    times = ago(60), ago(30)
    assert outcomes(pushed(by, run("timer.stop", other, timer, *times))) == ["applied"]
    assert stopped(by, timer, given) == times
    assert by.get("/api/active-timers/me")["startTime"] == running["startTime"]
    # who knows of it stops it, and starts the next
    switch = ago(10)
    switching = [
        run("timer.stop", task, running["id"], running["startTime"], switch),
        run("timer.start", other, str(uuid4()), switch),
    ]
    assert outcomes(pushed(by, *switching)) == ["applied", "applied"]
    assert stopped(by, running["id"], given) == (running["startTime"], switch)


def test_a_timer_that_was_changed_from_elsewhere_is_a_conflict_and_runs_on(given: Given) -> None:
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
    # with the version that it is of, what the client says is what counts
    known = run("timer.stop", task, timer["id"], ago(45), end, base=moved["version"], notes="mine")
    assert outcomes(pushed(by, known)) == ["applied"]
    assert stopped(by, timer["id"], given) == (known["data"]["startTime"], end)
    assert by.get(f"/api/time-entries/{timer['id']}")["notes"] == "mine"


def test_an_offline_stop_after_an_online_one_is_handed_back(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    timer = by.put("/api/active-timers/me", {"taskId": task["id"], "startTime": ago(60)}, status=201)
    promised = by.post(f"/api/tasks/{task['id']}/stop", status=202)
    (result,) = pushed(by, run("timer.stop", task, timer["id"], timer["startTime"], ago(30)))
    assert (result["outcome"], result["current"]["endTime"]) == ("conflict", promised["endTime"])
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
def test_times_that_cannot_be_are_rejected(operation: tuple[str, list[float], str], given: Given) -> None:
    by = given.person()
    kind, minutes, field = operation
    (result,) = pushed(by, run(kind, given.task(by), str(uuid4()), *map(ago, minutes)))
    assert (result["outcome"], result["errors"][0]["path"]) == ("rejected", field)


def test_a_clock_that_is_a_little_fast_is_no_reason_to_refuse(given: Given) -> None:
    by = given.person()
    task, timer = given.task(by), str(uuid4())
    assert outcomes(pushed(by, run("timer.stop", task, timer, ago(10), ago(-0.5)))) == ["applied"]
    given.settled()
    assert by.get(f"/api/time-entries/{timer}")["endTime"] <= ago(-0.1)


def test_hours_on_a_task_that_was_deleted_are_handed_back(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    by.delete(f"/api/customers/{task['customerId']}")
    (result,) = pushed(by, run("timer.stop", task, str(uuid4()), ago(50), ago(20)))
    assert (result["outcome"], result["current"]) == ("conflict", {"id": task["id"], "deleted": True})
    (result,) = pushed(by, run("timer.stop", {"id": SOMEONE}, str(uuid4()), ago(50), ago(20)))
    assert (result["outcome"], result["errors"][0]["path"]) == ("rejected", "taskId")


def test_an_edit_may_follow_its_stop_at_once(given: Given, idle: Installation) -> None:
    """Nobody works behind this API: the stop's message is still there, and what it promised is made by the next operation."""
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


def test_too_many_operations_and_a_broken_envelope_are_refused_as_a_whole(given: Given) -> None:
    by = given.person()
    entry = given.logged(by)
    good = op("entry.notes", id=entry["id"], append="x")
    bad: list[tuple[Any, str]] = [
        ({"operations": [good] * 501}, "operations"),
        ({"operations": [good | {"opId": "5"}]}, "operations.0.opId"),
        ({"operations": [good, good | {"kind": 5}]}, "operations.1.kind"),
        ({"operations": [good | {"data": []}]}, "operations.0.data"),
        ({"operations": [good | {"baseVersion": 0}]}, "operations.0.baseVersion"),
        ({"operations": [good | {"more": 1}]}, "operations.0.more"),
        ({"operations": [good], "lastSyncTimestamp": "soon"}, "lastSyncTimestamp"),
        ({"operations": [good], "limit": 5}, "limit"),
        ({}, "operations"),
    ]
    for body, field in bad:
        assert refused_fields(by.http.post("/api/sync", json=body)) == [field]
    assert by.get(f"/api/time-entries/{entry['id']}")["notes"] == ""
    whole = [op("entry.notes", id=entry["id"], append="x") for _ in range(500)]
    assert outcomes(pushed(by, *whole)) == ["applied"] * 500


NAMES = ["id", "taskId", "startTime", "endTime", "duration", "notes", "append", "title", "customerId", "pillarId", "version",
         "status", "priority", "dueDate", "assigneeId", "userId", "allowOverlap", "source", "description", "x"]  # fmt: skip
JUNK = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just([]) | st.just({})
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    | st.sampled_from([SOMEONE, ago(5), ago(50), "2026-03-02", "9000-12-31T23:59:59Z", "1900-01-01T00:00:00Z", "a" * 10_001,
                       "open", "archived", "low", "desktop", 10**400, 2**63, 60, 1])
)  # fmt: skip
KIND_NAMES = ["task.put", "timer.start", "timer.stop", "entry.put", "entry.patch", "entry.notes", "entry.delete", "", "x"]


@generated(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_rubbish_is_rejected_and_never_an_error_of_ours(data: st.DataObject, hoard: "Hoard") -> None:
    """Twenty operations an example, out of real ids and rubbish."""
    real = st.sampled_from([hoard.task["id"], hoard.entry["id"], hoard.others["id"], hoard.task["customerId"], hoard.timer])
    operations = []
    for _ in range(20):
        kind = data.draw(st.sampled_from(KIND_NAMES))
        body = data.draw(st.dictionaries(st.sampled_from(NAMES), JUNK | real, max_size=8))
        body |= data.draw(st.fixed_dictionaries({}, optional={"id": real, "taskId": st.just(hoard.task["id"])}))
        operations.append(op(kind, data.draw(st.none() | st.integers(1, 5)), **body))
    answer = hoard.by.http.post("/api/sync", content=json.dumps({"operations": operations}),
                                headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.status_code == 200, answer.text
    for result in answer.json()["results"]:
        assert result["outcome"] in ("applied", "conflict", "rejected")
        assert result["outcome"] == "applied" or result["detail"]


class Hoard:
    """Things that operations can be about."""

    def __init__(self, given: Given) -> None:
        self.by, other = given.people(2)
        self.task = given.task(self.by)
        self.entry, self.others = given.logged(self.by, self.task), given.logged(other)
        self.timer = self.by.post(f"/api/tasks/{self.task['id']}/start")["id"]


@pytest.fixture
def hoard(given: Given) -> Hoard:
    return Hoard(given)


def test_what_was_asked_for_is_forgotten_after_90_days(given: Given, stint: Installation) -> None:
    import asyncio

    from schemas import sync_operations
    from schemas.database import connect

    by = given.person()
    entry = given.logged(by)
    old, young = (op("entry.notes", id=entry["id"], append="x") for _ in range(2))
    pushed(by, old, young)
    stint.rows("UPDATE sync_operations SET at = at - interval '91 days' WHERE op_id = %s RETURNING 1", old["opId"])

    async def prune() -> None:
        async with await connect(stint.settings) as conn:
            await sync_operations.prune(conn, rows=100)

    asyncio.run(prune())
    assert stint.rows("SELECT op_id::text FROM sync_operations WHERE user_id = %s", by.id) == [(young["opId"],)]


def test_many_who_push_at_once_leave_room_for_short_requests(given: Given, stint: Installation) -> None:
    people, other = given.people(20), given.person()
    customer = given.customer(other)
    new = [op("task.put", id=given.new_id(), title="Mend", customerId=customer["id"]) for _ in people]
    with ThreadPoolExecutor(20) as pool:
        with stint.sql() as conn, conn.transaction():
            conn.execute("SELECT 1 FROM customers WHERE id = %s FOR UPDATE", (customer["id"],))  # for which all of them wait
            answers = [pool.submit(pushed, person, operation) for person, operation in zip(people, new, strict=True)]
            eventually(lambda: stint.blocked() >= 4)
            time.sleep(0.3)
            assert [other.http.get("/api/me").status_code for _ in range(5)] == [200] * 5
        assert [outcomes(answer.result()) for answer in answers] == [["applied"]] * 20

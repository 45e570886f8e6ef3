"""POST /api/sync: operations that were queued offline. Each has one effect, none affects another one, no time worked is
lost."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.support.answers import refused_fields
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.support.sizes import OPERATIONS
from tests.sync.clients import first_load
from tests.sync.pushing import SOMEONE, ago, op, outcomes, pushed, run


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """`verify` reads all rows."""
    return stint_apart


def test_each_kind_does_what_its_route_does(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    task, timer, entry = str(uuid4()), str(uuid4()), str(uuid4())
    since = first_load(by).since

    answer = by.post(
        "/api/sync",
        {
            "lastSyncTimestamp": since,
            "operations": [
                op("task.put", id=task, title="Fix it", customerId=customer["id"], source="desktop"),
                op("task.put", 1, id=task, title="Fixed"),
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
    # another task can come again, while a transaction of another test is open
    assert [row["title"] for row in answer["tasks"] if row["id"] == task] == ["Fixed"]
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
    # the same id of another user is another operation
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


def test_an_operation_that_fails_does_not_affect_the_others(given: Given) -> None:
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


def test_a_conflict_returns_both_versions(given: Given) -> None:
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


def test_deleting_an_entry_twice_is_applied(given: Given) -> None:
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
    # the answer was lost: the client sends them again, and one more
    assert outcomes(pushed(by, *changes)) == ["applied"] * 3
    assert by.get(f"/api/time-entries/{entry['id']}")["duration"] == 180
    by.post(f"/api/time-entries/{entry['id']}/notes", {"append": "theirs"}, status=200)
    # but another client's change in between is a conflict, also for the operations after it
    more, most = op("entry.patch", 1, id=entry["id"], duration=240), op("entry.delete", 5, id=entry["id"])
    assert outcomes(pushed(by, *changes, more, most)) == ["applied"] * 3 + ["conflict"] * 2


def test_a_line_that_was_appended_does_not_make_a_later_change_of_the_same_client_a_conflict(given: Given) -> None:
    by = given.person()
    entry = given.logged(by)
    line, change = op("entry.notes", id=entry["id"], append="mine"), op("entry.patch", 1, id=entry["id"], duration=60)
    again, last = op("entry.notes", id=entry["id"], append="again"), op("entry.patch", 1, id=entry["id"], duration=120)
    assert outcomes(pushed(by, line, change)) == ["applied"] * 2
    assert outcomes(pushed(by, line, change, again, last)) == ["applied"] * 4
    # but another client's change before the line is one
    other = given.logged(by, start="2026-03-03T09:00:00Z")
    by.post(f"/api/time-entries/{other['id']}/notes", {"append": "theirs"}, status=200)
    mine = (op("entry.notes", id=other["id"], append="mine"), op("entry.patch", 1, id=other["id"], duration=60))
    assert outcomes(pushed(by, *mine)) == ["applied", "conflict"]


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


def test_changes_to_another_users_entries_are_refused_with_the_routes_texts(given: Given) -> None:
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
    entry_of_other = {"taskId": task["id"], "startTime": ago(60), "duration": 60, "userId": other.id}
    (result,) = pushed(by, op("entry.put", id=str(uuid4()), **entry_of_other))
    assert (result["outcome"], result["detail"]) == (
        "rejected",
        by.http.post("/api/time-entries", json=entry_of_other).json()["detail"],
    )
    timer = other.post(f"/api/tasks/{task['id']}/start")
    for kind, times in (("timer.start", [ago(5)]), ("timer.stop", [ago(5), ago(4)])):
        for taken in (timer["id"], entry["id"]):
            (result,) = pushed(by, run(kind, task, taken, *times))
            assert (result["outcome"], result["current"]) == ("conflict", None)
    assert other.get("/api/active-timers/me")["id"] == timer["id"] and other.get(path) == entry
    admin = given.admin()
    assert outcomes(pushed(admin, op("entry.patch", 1, id=entry["id"], duration=60))) == ["applied"]


def test_too_many_operations_and_an_invalid_request_are_refused_as_a_whole(given: Given) -> None:
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
    several = [op("entry.notes", id=entry["id"], append="x") for _ in range(OPERATIONS)]
    assert outcomes(pushed(by, *several * (500 // OPERATIONS))) == ["applied"] * 500
    assert by.get(f"/api/time-entries/{entry['id']}")["notes"].count("x") == OPERATIONS


def test_results_are_deleted_after_90_days(given: Given, stint: Installation) -> None:
    import asyncio

    from actors.runtime import rescuer
    from schemas.postgres.connection import connect

    by = given.person()
    entry = given.logged(by)
    old, young = (op("entry.notes", id=entry["id"], append="x") for _ in range(2))
    pushed(by, old, young)
    stint.rows(
        "UPDATE sync_operations SET created_at = created_at - interval '91 days' WHERE op_id = %s RETURNING 1", old["opId"]
    )

    async def prune() -> None:
        async with await connect(stint.settings) as conn:
            await rescuer.prune(conn, days=30)

    asyncio.run(prune())
    assert stint.rows("SELECT op_id::text FROM sync_operations WHERE user_id = %s", by.id) == [(young["opId"],)]


def test_many_concurrent_pushes_do_not_block_short_requests(given: Given, stint: Installation) -> None:
    people, other = given.people(20), given.person()
    customer = given.customer(other)
    new = [op("task.put", id=given.new_id(), title="Fix", customerId=customer["id"]) for _ in people]
    with ThreadPoolExecutor(20) as pool:
        with stint.sql() as conn, conn.transaction():
            conn.execute("SELECT 1 FROM customers WHERE id = %s FOR UPDATE", (customer["id"],))  # all pushes wait for this lock
            answers = [pool.submit(pushed, person, operation) for person, operation in zip(people, new, strict=True)]
            eventually(lambda: stint.blocked() >= 4)
            time.sleep(0.3)
            assert [other.http.get("/api/me").status_code for _ in range(5)] == [200] * 5
        assert [outcomes(answer.result()) for answer in answers] == [["applied"]] * 20

"""An entry is given to another task: it moves to the bill of that task's customer and pillar, and all sums follow."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

import httpx2
import pytest

from schemas.hours import entry_changes, entry_moves
from schemas.hours.entry_changes import TimeEntryChange
from schemas.hours.entry_rules import EntryRules
from schemas.identity.users import Role, User
from schemas.postgres.connection import connect
from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually

DAY = "2026-03-02T"


def seconds(by: Person, bill_id: str) -> int:
    """The sum of a bill; 0 for one that was deleted because no entry is on it any more."""
    answer = by.http.get(f"/api/time-bills/{bill_id}")
    return 0 if answer.status_code == 404 else int(answer.json()["seconds"])


def give(by: Person, entry: Json, task: Json, **more: object) -> httpx2.Response:
    return by.http.patch(f"/api/time-entries/{entry['id']}", json={"taskId": task["id"], **more})


def test_an_entry_moves_to_the_bill_of_another_customers_task(given: Given, stint: Installation) -> None:
    by = given.person()
    wrong, right = given.task(by), given.task(by)
    entry, stays = given.logged(by, wrong), given.logged(by, wrong, start=f"{DAY}11:00:00Z", minutes=30)

    moved = give(by, entry, right).json()

    expected = entry | {"taskId": right["id"], "customerId": right["customerId"], "pillarId": right["pillarId"]}
    changing = {"timeBillId", "updatedAt", "version"}
    assert {name: value for name, value in moved.items() if name not in changing} == {
        name: value for name, value in expected.items() if name not in changing
    }
    assert moved["version"] == entry["version"] + 1
    given.settled()
    assert (seconds(by, stays["timeBillId"]), seconds(by, moved["timeBillId"])) == (1800, 3600)
    bill = by.get(f"/api/time-bills/{moved['timeBillId']}")
    assert (bill["customerId"], bill["date"], bill["status"]) == (right["customerId"], "2026-03-02", "pending")
    stint.verify()


def test_within_a_customer_and_pillar_the_entry_keeps_its_bill(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    wrong, right = given.task(by, customer), given.task(by, customer)
    entry = given.logged(by, wrong)
    moved = give(by, entry, right).json()
    assert (moved["taskId"], moved["timeBillId"]) == (right["id"], entry["timeBillId"])
    given.settled()
    assert seconds(by, moved["timeBillId"]) == 3600
    assert by.get("/api/time-entries", taskId=wrong["id"])["items"] == []
    stint.verify()


@pytest.mark.parametrize("status", ["in_progress", "done"])
def test_a_task_that_is_done_and_an_inactive_pillar_take_the_entry(status: str, given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    pillar = by.post(f"/api/customers/{customer['id']}/pillars", {"name": "Network"})
    right = given.task(by, customer, pillarId=pillar["id"], status=status)
    by.put(f"/api/customers/{customer['id']}/pillars/{pillar['id']}", {"active": False})
    moved = give(by, given.logged(by), right).json()
    assert (moved["taskId"], moved["pillarId"]) == (right["id"], pillar["id"])


def test_task_and_times_change_together(given: Given, stint: Installation) -> None:
    by = given.person()
    entry, right = given.logged(by), given.task(by)
    body = {"startTime": f"{DAY[:8]}05T09:00:00Z", "duration": 600, "version": entry["version"]}
    moved = give(by, entry, right, **body).json()
    assert (moved["taskId"], moved["startTime"], moved["duration"]) == (right["id"], "2026-03-05T09:00:00Z", 600)
    given.settled()
    assert by.get(f"/api/time-bills/{moved['timeBillId']}")["date"] == "2026-03-05"
    assert (seconds(by, entry["timeBillId"]), seconds(by, moved["timeBillId"])) == (0, 600)
    stint.verify()


def test_an_entry_that_overlaps_can_still_be_given_to_another_task(given: Given) -> None:
    by = given.person()
    entry, other, right = given.logged(by), given.logged(by), given.task(by)
    assert give(by, entry, right).status_code == 200  # its times do not change
    refused = problem(give(by, entry, right, duration=3000), 409)
    assert refused["overlaps"] == [other["id"]]


def test_what_cannot_be_done_is_refused_and_changes_nothing(given: Given) -> None:
    by, other, admin = given.person(), given.person(), given.admin()
    entry, right = given.logged(by), given.task(by)
    archived = given.task(by, status="archived")
    given.settled()
    before = by.get(f"/api/time-entries/{entry['id']}")
    assert refused_fields(give(by, entry, {"id": given.new_id()})) == ["taskId"]
    assert refused_fields(give(by, entry, {"id": "no id"})) == ["taskId"]
    assert "archived" in problem(give(by, entry, archived), 409)["detail"]
    problem(give(other, entry, right), 403)
    problem(give(admin, {"id": given.new_id()}, right), 404)
    assert problem(give(by, entry, right, version=entry["version"] + 1), 409)["current"] == before
    assert refused_fields(by.http.patch(f"/api/time-entries/{entry['id']}", json={"taskId": None})) == [""]
    for role in ("customer_admin", "customer_user"):
        problem(give(given.person(role, right["customerId"]), entry, right), 403)
    assert by.get(f"/api/time-entries/{entry['id']}") == before
    assert give(admin, entry, right).status_code == 200


def test_the_same_task_again_changes_nothing_but_the_version(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    entry = given.logged(by, task)
    by.put(f"/api/tasks/{task['id']}", {"status": "archived"})
    again = give(by, entry, task).json()
    same = {"timeBillId", "taskId", "startTime", "endTime", "customerId"}
    assert {name: again[name] for name in same} == {name: entry[name] for name in same}


def test_a_locked_entry_is_refused_until_its_bill_is_reopened(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    bill = given.approved_bill(by, admin)
    right = given.task(by)
    [entry] = by.get("/api/time-entries", timeBillId=bill["id"])["items"]
    for person in (by, admin):
        refused = problem(give(person, entry, right), 409)
        assert refused["timeBillId"] == bill["id"] and "approved" in refused["detail"]
    admin.patch(f"/api/time-bills/{bill['id']}", {"status": "pending"})
    moved = give(by, entry, right).json()
    given.settled()
    assert (seconds(by, bill["id"]), seconds(by, moved["timeBillId"])) == (0, 3600)
    stint.verify()


def test_an_approved_bill_of_the_other_task_stays_and_a_second_one_opens(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    right = given.task(by)
    approved = given.approved_bill(by, admin, right)
    moved = give(by, given.logged(by, start=f"{DAY}15:00:00Z"), right).json()
    given.settled()
    assert moved["timeBillId"] != approved["id"]
    assert (seconds(by, approved["id"]), seconds(by, moved["timeBillId"])) == (3600, 3600)
    stint.verify()


def test_a_rejected_bill_that_gets_the_entry_is_pending_again(given: Given) -> None:
    by, admin = given.person(), given.admin()
    right = given.task(by)
    rejected = given.bill(by, right)
    admin.patch(f"/api/time-bills/{rejected['id']}", {"status": "rejected", "rejectionNote": "incomplete"})
    moved = give(by, given.logged(by, start=f"{DAY}15:00:00Z"), right).json()
    assert moved["timeBillId"] == rejected["id"]
    given.settled()
    bill = by.get(f"/api/time-bills/{rejected['id']}")
    assert (bill["status"], bill["seconds"]) == ("pending", 7200)


def test_an_approval_at_the_same_time_gets_the_entry_or_does_not(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    for number in range(8):
        right = given.task(by)
        bill = given.bill(by, minutes=60)
        [entry] = by.get("/api/time-entries", timeBillId=bill["id"])["items"]
        approval = {"status": "approved", "version": bill["version"]}
        with ThreadPoolExecutor(2) as pool:
            approving = pool.submit(admin.http.patch, f"/api/time-bills/{bill['id']}", json=approval)
            giving = pool.submit(give, by, entry, right)
        approved, given_away = approving.result().status_code, giving.result().status_code
        assert (approved, given_away) in ((200, 409), (409, 200), (404, 200)), number
    given.settled()
    stint.verify()


def test_operations_of_a_sync_move_entries_too(given: Given) -> None:
    by = given.person()
    entry, right = given.logged(by), given.task(by)
    since = by.get("/api/sync")["syncTimestamp"]

    def push(base: int, task_id: str) -> Json:
        data = {"id": entry["id"], "taskId": task_id}
        operation = {"opId": given.new_id(), "kind": "entry.patch", "baseVersion": base, "data": data}
        return by.post("/api/sync", {"lastSyncTimestamp": since, "operations": [operation]}, status=200)

    unknown = push(1, given.new_id())["results"][0]
    assert (unknown["outcome"], unknown["errors"][0]["path"]) == ("rejected", "taskId")
    answer = push(1, right["id"])
    assert answer["results"][0]["outcome"] == "applied"
    assert answer["results"][0]["current"]["taskId"] == right["id"]
    assert [row["taskId"] for row in answer["timeEntries"]] == [right["id"]]
    stale = push(1, entry["taskId"])["results"][0]
    assert (stale["outcome"], stale["current"]["taskId"]) == ("conflict", right["id"])


def test_a_move_of_the_old_task_leaves_an_entry_that_was_given_away(given: Given, stint: Installation) -> None:
    """The move has found the entry, and waits for its owner, who has just given it to another task."""
    by = given.person()
    task, right, elsewhere = given.task(by), given.task(by), given.customer(by)
    entry = given.logged(by, task)
    given.settled()
    with stint.sql() as conn:  # the task has moved, and the message that moves its entries waits
        conn.execute(
            """UPDATE tasks SET customer_id = %s, pillar_id = (SELECT id FROM pillars WHERE customer_id = %s AND is_default)
               WHERE id = %s""",
            (elsewhere["id"], elsewhere["id"], task["id"]),
        )
    owner = User(id=UUID(by.id), email=by.email, name="", role=Role.internal, customer_id=None)
    patch = TimeEntryChange.model_validate({"taskId": right["id"]})

    async def move() -> None:
        async with await connect(stint.settings) as conn, conn.transaction():
            await entry_moves.move_chunk(conn, UUID(task["id"]))

    async def give_while_it_moves(pool: ThreadPoolExecutor) -> "Future[None]":
        async with await connect(stint.settings) as conn, conn.transaction():
            await entry_changes.change(conn, UUID(entry["id"]), patch, by=owner, rules=EntryRules.of(stint.settings))
            moving = pool.submit(asyncio.run, move())
            eventually(lambda: stint.blocked() > 0)
        return moving

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(give_while_it_moves(pool)).result()
    now = by.get(f"/api/time-entries/{entry['id']}")
    assert (now["taskId"], now["customerId"]) == (right["id"], right["customerId"])
    given.settled()
    stint.verify()

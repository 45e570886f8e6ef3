"""When a task moves to another customer or pillar, its entries follow once, except those on approved bills."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from schemas.hours import bill_approval, time_entries
from schemas.hours.bill_approval import TimeBillChange
from schemas.identity.users import Role, User
from schemas.messages import StopTimer
from schemas.postgres.connection import connect
from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually

LEFT_BEHIND = """
    SELECT e.id FROM time_entries e JOIN tasks t ON t.id = e.task_id LEFT JOIN time_bills b ON b.id = e.bill_id
    WHERE t.id = %s AND e.deleted_at IS NULL AND b.status IS DISTINCT FROM 'approved'
      AND (e.customer_id, e.pillar_id) <> (t.customer_id, t.pillar_id)
"""


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests write thousands of rows."""
    return stint_apart


def move(by: Person, task: Json, customer: Json, **more: Any) -> Json:
    return by.put(f"/api/tasks/{task['id']}", {"customerId": customer["id"]} | more)


def bills(by: Person) -> dict[str, tuple[str, int, str]]:
    """Customer, seconds and status by id, without empty bills."""
    items = by.get("/api/time-bills", userId=by.id)["items"]
    return {bill["id"]: (bill["customerId"], bill["seconds"], bill["status"]) for bill in items if bill["seconds"]}


def default_pillar(stint: Installation, customer: Json) -> str:
    return str(stint.value("SELECT id FROM pillars WHERE customer_id = %s AND is_default", customer["id"]))


def another_pillar(stint: Installation, customer_id: str) -> str:
    query = "INSERT INTO pillars (id, customer_id, name) VALUES (gen_random_uuid(), %s, 'Hosting') RETURNING id"
    return str(stint.value(query, customer_id))


def test_a_moved_task_goes_to_general_support_unless_a_pillar_is_named(given: Given, stint: Installation) -> None:
    by = given.person()
    task, there = given.task(by), given.customer(by)
    general, hosting = default_pillar(stint, there), another_pillar(stint, there["id"])
    moved = move(by, task, there)
    assert (moved["customerId"], moved["pillarId"], moved["version"]) == (there["id"], general, 2)
    assert by.put(f"/api/tasks/{task['id']}", {"pillarId": hosting})["pillarId"] == hosting
    assert by.put(f"/api/tasks/{task['id']}", {"pillarId": None})["pillarId"] == general
    assert move(by, given.task(by), there, pillarId=hosting)["pillarId"] == hosting
    assert move(by, given.task(by), there, pillarId=None)["pillarId"] == general


def test_open_entries_follow_and_both_bills_are_recalculated(given: Given, stint: Installation) -> None:
    by, other = given.people(2)
    customer, there = given.customer(by), given.customer(by, rounding={"increment": 15, "mode": "up"})
    task, stays, waits = given.task(by, customer), given.task(by, customer), given.task(by, there)
    first = given.logged(by, task, minutes=50)
    given.logged(by, stays, start="2026-03-02T11:00:00Z", minutes=20)
    given.logged(by, waits, start="2026-03-02T12:00:00Z", minutes=10)
    second = given.logged(by, task, start="2026-03-03T09:00:00Z", minutes=30)
    given.logged(other, task, minutes=40)
    given.settled()

    move(by, task, there)
    given.settled()

    moved = [by.get(f"/api/time-entries/{entry['id']}") for entry in (first, second)]
    assert [(entry["customerId"], entry["version"]) for entry in moved] == [(there["id"], 2)] * 2
    assert sorted(bills(by).values()) == sorted(
        [(customer["id"], 1200, "pending"), (there["id"], 3600, "pending"), (there["id"], 1800, "pending")]
    )
    assert by.get(f"/api/time-bills/{moved[0]['timeBillId']}")["minutes"] == 60  # by the new customer's rule
    assert list(bills(other).values()) == [(there["id"], 2400, "pending")]
    stint.verify()


def test_entries_follow_to_another_pillar_of_the_same_customer(given: Given, stint: Installation) -> None:
    by = given.person()
    entry = given.logged(by)
    hosting = another_pillar(stint, entry["customerId"])
    by.put(f"/api/tasks/{entry['taskId']}", {"pillarId": hosting})
    given.settled()
    moved = by.get(f"/api/time-entries/{entry['id']}")
    assert (moved["pillarId"], moved["customerId"]) == (hosting, entry["customerId"])
    assert list(bills(by)) == [moved["timeBillId"]]
    stint.verify()


def test_an_update_that_moves_nothing_enqueues_nothing(given: Given, stint: Installation) -> None:
    by = given.person()
    entry = given.logged(by)
    task = by.get(f"/api/tasks/{entry['taskId']}")
    for change in ({"title": "Fixed"}, {"customerId": task["customerId"]}, {"pillarId": task["pillarId"]}, {"pillarId": None}):
        by.put(f"/api/tasks/{task['id']}", change)
    assert stint.value("SELECT count(*) FROM messages WHERE body->>'task_id' = %s", task["id"]) == 0


def test_entries_on_an_approved_bill_stay_and_follow_when_it_is_reopened(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task, there = given.task(by), given.customer(by)
    approved = given.approved_bill(by, admin, task, minutes=60)
    late = given.logged(by, task, start="2026-03-02T15:00:00Z", minutes=15)

    move(by, task, there)
    given.settled()

    assert by.get(f"/api/time-bills/{approved['id']}") == approved
    assert by.get("/api/time-entries", timeBillId=approved["id"])["items"][0]["customerId"] == task["customerId"]
    assert by.get(f"/api/time-entries/{late['id']}")["customerId"] == there["id"]
    stint.verify()

    admin.patch(f"/api/time-bills/{approved['id']}", {"status": "pending"})
    given.settled()

    assert list(bills(by).values()) == [(there["id"], 4500, "pending")]
    problem(by.http.get(f"/api/time-bills/{approved['id']}"), 404)  # no entry is on it any more
    stint.verify()


def test_arriving_and_leaving_entries_make_a_rejected_bill_pending(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    customer, there = given.customer(by), given.customer(by)
    leaves, stays, waits = given.task(by, customer), given.task(by, customer), given.task(by, there)
    for task, hour in ((leaves, 9), (stays, 11), (waits, 13)):
        given.logged(by, task, start=f"2026-03-02T{hour:02}:00:00Z", minutes=30)
    given.settled()
    for bill_id in bills(by):
        admin.patch(f"/api/time-bills/{bill_id}", {"status": "rejected", "rejectionNote": "no"})
    move(by, leaves, there)
    given.settled()
    assert sorted(bills(by).values()) == sorted([(customer["id"], 1800, "pending"), (there["id"], 3600, "pending")])
    stint.verify()


def test_a_stop_after_a_move_is_billed_to_the_new_customer(given: Given, stint: Installation) -> None:
    by = given.person()
    task, there = given.task(by), given.customer(by)
    by.post(f"/api/tasks/{task['id']}/start")
    move(by, task, there)
    stopped = by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)
    assert stopped["entry"]["customerId"] == stopped["timeBill"]["customerId"] == there["id"]


def test_messages_from_before_a_move_are_billed_to_the_new_customer_in_any_order(own: Installation) -> None:
    own.start("api").wait_until_ready()
    given = Given(own)
    by = given.admin()
    task, there, further = given.task(by), given.customer(by), given.customer(by)
    by.put("/api/active-timers/me", {"taskId": task["id"]}, status=201)
    stopped = by.post(f"/api/tasks/{task['id']}/stop", status=202)
    logged = given.logged(by, task)
    deleted = given.logged(by, task, start="2026-03-03T09:00:00Z")
    move(by, task, there)
    by.patch(f"/api/time-entries/{logged['id']}", {"startTime": "2026-03-04T09:00:00Z", "duration": 600})
    by.delete(f"/api/time-entries/{deleted['id']}")
    move(by, task, further)
    own.rows("UPDATE messages SET available_at = now() + random() * interval '1 second' RETURNING id")
    own.start("relay", "work")
    given.settled()
    entries = by.get("/api/time-entries")["items"]
    assert {entry["id"] for entry in entries} == {stopped["entryId"], logged["id"]}
    assert {entry["customerId"] for entry in entries} == {further["id"]}
    assert {whose for whose, *_ in bills(by).values()} == {further["id"]}
    own.verify()
    given.close()


def test_more_entries_than_one_message_moves(given: Given, stint: Installation) -> None:
    by = given.person()
    task, there = given.task(by), given.customer(by)
    given.many_bills(by, task, 1201, seconds=60)
    move(by, task, there)
    given.settled()
    assert stint.rows(LEFT_BEHIND, task["id"]) == []
    total = "SELECT count(*), sum(seconds) FROM time_bills WHERE user_id = %s AND customer_id = %s AND seconds > 0"
    assert stint.rows(total, by.id, there["id"]) == [(1201, 1201 * 60)]
    assert stint.value("SELECT max(version) FROM time_entries WHERE user_id = %s", by.id) == 2  # each moved once
    stint.verify()


@pytest.mark.parametrize("seed", range(2))
def test_concurrent_moves_stops_changes_and_approvals_leave_no_entry_behind(
    seed: int, given: Given, stint: Installation
) -> None:
    people, admin = given.people(3), given.admin()
    customers = [given.customer(admin) for _ in range(3)]
    task = given.task(admin, customers[0])
    stays = [given.task(admin, customer) for customer in customers]

    def act(number: int) -> httpx2.Response:
        pick = random.Random(seed * 1000 + number)
        by = pick.choice(people)
        day = f"2026-03-0{pick.randrange(1, 4)}"
        actions = "move move start stop log log log edit give give delete approve reopen"
        match pick.choice(actions.split()):
            case "move":
                return by.http.put(f"/api/tasks/{task['id']}", json={"customerId": pick.choice(customers)["id"]})
            case "start" | "stop" as verb:
                return by.http.post(f"/api/tasks/{task['id']}/{verb}")
            case "log":
                on = pick.choice([task, task, *stays])
                body = {"taskId": on["id"], "startTime": f"{day}T09:00:00Z", "duration": pick.randrange(9000)}
                return by.http.post("/api/time-entries", json=body | {"allowOverlap": True})
            case "approve" | "reopen" as verb:
                found = admin.get("/api/time-bills", userId=by.id)["items"]
                status = {"approve": "approved", "reopen": "pending"}[verb]
                return admin.http.patch(f"/api/time-bills/{pick.choice(found)['id']}", json={"status": status}) if found else OK
            case verb:
                found = by.get("/api/time-entries", userId=by.id)["items"]
                path = f"/api/time-entries/{pick.choice(found)['id']}" if found else "/api/me"
                body = {"startTime": f"{day}T12:00:00Z", "duration": 60, "allowOverlap": True}
                if verb == "give":
                    body = {"taskId": pick.choice([task, *stays])["id"]}
                return by.http.delete(path) if verb == "delete" and found else by.http.patch(path, json=body)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(act, range(180)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202, 204, 404, 405, 409}, [
        answer.text for answer in answers if answer.status_code >= 500
    ]
    given.settled()
    assert stint.rows(LEFT_BEHIND, task["id"]) == []
    stint.verify()
    for whose in people:
        entered = stint.value("SELECT sum(duration) FROM time_entries WHERE user_id = %s AND deleted_at IS NULL", whose.id)
        assert stint.value("SELECT sum(seconds) FROM time_bills WHERE user_id = %s AND deleted_at IS NULL", whose.id) == entered
    assert given.dead_letters() == []


OK = httpx2.Response(200)


def test_a_task_that_moves_while_a_bill_is_reopened_leaves_no_entry_behind(given: Given, stint: Installation) -> None:
    """The reopening looks for tasks that have moved; a task that moves right after that must not be missed."""
    by, admin = given.person(), given.admin()
    task, there = given.task(by), given.customer(by)
    bill = given.approved_bill(by, admin, task)
    reopening = User(id=UUID(admin.id), email=admin.email, name="", role=Role.admin, customer_id=None)

    async def reopen_slowly(moving: "ThreadPoolExecutor") -> None:
        async with await connect(stint.settings) as conn, conn.transaction():
            await bill_approval.change(conn, UUID(bill["id"]), TimeBillChange(status="pending"), by=reopening, zone="UTC")
            moved = moving.submit(move, by, task, there)
            eventually(lambda: moved.done() or stint.blocked() > 0)
            if moved.done():
                given.settled()  # its message has found the bill still approved
        assert moved.result()["customerId"] == there["id"]

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(reopen_slowly(pool))
    given.settled()
    assert stint.rows(LEFT_BEHIND, task["id"]) == []
    assert list(bills(by).values()) == [(there["id"], 3600, "pending")]
    stint.verify()


def test_a_task_that_moves_while_a_stop_makes_its_entry_leaves_no_entry_behind(given: Given, stint: Installation) -> None:
    """The move's message must not look for entries before the stop's entry is there."""
    by = given.person()
    task, there = given.task(by), given.customer(by)
    start, end = datetime(2026, 3, 2, 9, tzinfo=UTC), datetime(2026, 3, 2, 10, tzinfo=UTC)
    stop = StopTimer(entry_id=uuid4(), user_id=UUID(by.id), task_id=UUID(task["id"]), start_time=start, end_time=end, notes="")

    async def stop_slowly(moving: "ThreadPoolExecutor") -> None:
        async with await connect(stint.settings) as conn, conn.transaction():
            await time_entries.create_from_stop(conn, stop, zone="UTC")
            moved = moving.submit(move, by, task, there)
            eventually(lambda: moved.done() or stint.blocked() > 0)
            if moved.done():
                given.settled()  # its message has found no entry
        assert moved.result()["customerId"] == there["id"]

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(stop_slowly(pool))
    given.settled()
    assert stint.rows(LEFT_BEHIND, task["id"]) == []
    assert list(bills(by).values()) == [(there["id"], 3600, "pending")]
    stint.verify()


def test_an_entry_that_stays_on_an_approved_bill_hides_the_moved_task_from_its_customer(given: Given) -> None:
    by, admin = given.person(), given.admin()
    task, there = given.task(by, title="Theirs"), given.customer(by)
    bill = given.approved_bill(by, admin, task)
    user, others = given.person("customer_user", task["customerId"]), given.person("customer_admin", there["id"])
    assert user.get("/api/time-entries", enrich="true")["items"][0]["taskTitle"] == "Theirs"

    move(by, task, there, title="Another's secret", description="secret")
    given.settled()

    answer = user.http.get("/api/time-entries", params={"enrich": "true"})
    assert [entry["timeBillId"] for entry in answer.json()["items"]] == [bill["id"]]
    for path in ("/api/time-entries?enrich=true", "/api/time-bills?enrich=true", "/api/tasks"):
        assert "secret" not in user.http.get(path).text
        assert there["id"] not in user.http.get(path).text
    problem(user.http.get(f"/api/tasks/{task['id']}"), 404)
    assert others.get(f"/api/tasks/{task['id']}")["title"] == "Another's secret"
    assert others.get("/api/time-entries")["items"] == []
    assert by.get("/api/time-entries", userId=by.id, enrich="true")["items"][0]["taskTitle"] == "Another's secret"

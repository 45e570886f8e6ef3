"""Customers and pillars can be deleted only while no recorded or pending hours refer to them."""

from collections.abc import Iterator

import pytest

from tests.api.deletion_target import KINDS, Target
from tests.support.answers import problem, refused_fields
from tests.support.given import Given
from tests.support.installation import Installation


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, given: Given) -> Target:
    return Target(request.param, given, given.person())


@pytest.fixture
def idle_given(idle: Installation) -> Iterator[Given]:
    """An installation without workers: no stop becomes an entry."""
    made = Given(idle)
    yield made
    made.close()


def test_deleting_a_customer_deletes_its_tasks_and_pillars_and_revokes_its_users(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    pillar = by.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"})
    task, other = given.task(by, customer, pillarId=pillar["id"]), given.task(by)
    user, admin = given.person("customer_user", customer["id"]), given.person("customer_admin", customer["id"])
    by.http.put(f"/api/customers/{customer['id']}/focus")
    since = by.get("/api/tasks", limit=1)["syncTimestamp"]

    by.delete(f"/api/customers/{customer['id']}")

    for path in (f"customers/{customer['id']}", f"tasks/{task['id']}", f"customers/{customer['id']}/pillars/{pillar['id']}"):
        problem(by.http.get(f"/api/{path}"), 404)
    assert {"id": task["id"], "deleted": True} in by.get("/api/tasks", lastSyncTimestamp=since)["items"]
    assert customer["id"] not in by.http.get("/api/customers", params={"limit": 1000}).text
    assert customer["id"] not in by.http.get("/api/focus").text
    for person in (user, admin):
        problem(person.http.get("/api/me"), 401)  # immediately
    for table in ("tasks", "pillars"):
        left = stint.rows(f"SELECT id FROM {table} WHERE customer_id = %s AND deleted_at IS NULL", customer["id"])
        assert left == [], table
    assert by.get(f"/api/tasks/{other['id']}") == other
    stint.verify()


def test_a_former_customers_user_who_is_internal_now_keeps_access(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    once = given.person("customer_user", customer["id"])
    now = given.person("internal_user", email=once.email)
    by.delete(f"/api/customers/{customer['id']}")
    assert now.get("/api/me")["role"] == "internal"


def test_a_deleted_customer_takes_no_tasks_hours_or_pillars(given: Given) -> None:
    by = given.person()
    gone, here = given.customer(by), given.customer(by)
    task, moving = given.task(by, gone), given.task(by, here)
    by.delete(f"/api/customers/{gone['id']}")

    new = {"title": "Late", "customerId": gone["id"]}
    assert refused_fields(by.http.post("/api/tasks", json=new)) == ["customerId"]
    assert refused_fields(by.http.put(f"/api/tasks/{moving['id']}", json={"customerId": gone["id"]})) == ["customerId"]
    problem(by.http.put(f"/api/tasks/{task['id']}", json={"customerId": here["id"]}), 404)
    problem(by.http.post(f"/api/tasks/{task['id']}/start"), 404)
    assert refused_fields(by.http.put("/api/active-timers/me", json={"taskId": task["id"]})) == ["taskId"]
    entry = {"taskId": task["id"], "startTime": "2026-03-02T09:00:00Z", "duration": 60}
    assert refused_fields(by.http.post("/api/time-entries", json=entry)) == ["taskId"]
    problem(by.http.post(f"/api/customers/{gone['id']}/pillars", json={"name": "Hosting"}), 404)
    problem(by.http.get(f"/api/customers/{gone['id']}/pillars"), 404)
    problem(by.http.put(f"/api/customers/{gone['id']}/focus"), 404)


def test_the_id_of_a_deleted_customer_cannot_be_used_again(given: Given) -> None:
    by = given.person()
    body = {"id": given.new_id(), "name": "Acme"}
    by.post("/api/customers", body)
    by.delete(f"/api/customers/{body['id']}")
    problem(by.http.post("/api/customers", json=body), 409)


def test_a_pillars_tasks_move_to_the_default_pillar(given: Given, stint: Installation) -> None:
    by = given.person()
    target = Target("pillar", given, by)
    tasks_there = [target.task(), target.task()]
    default = given.task(by, target.customer)["pillarId"]

    assert target.delete().status_code == 204

    for task in tasks_there:
        moved = by.get(f"/api/tasks/{task['id']}")
        assert moved == task | {"pillarId": default, "version": 2, "updatedAt": moved["updatedAt"]}
    problem(by.http.get(target.path), 404)
    problem(target.delete(), 404)
    by.post(f"/api/customers/{target.customer['id']}/pillars", {"name": "hosting"})  # its name can be used again
    stint.verify()


def test_entries_that_have_not_moved_yet_follow_their_task_to_the_default_pillar(idle_given: Given, idle: Installation) -> None:
    """The task has moved to the pillar, but its entries have not yet: they move to where the task is then."""
    by = idle_given.person()
    target = Target("pillar", idle_given, by)
    task = idle_given.task(by, target.customer)
    entry = idle_given.logged(by, task)
    by.put(f"/api/tasks/{task['id']}", target.more)
    idle.rows("UPDATE messages SET state = 'done', done_at = now() WHERE actor = 'move_entries' RETURNING id")

    assert target.delete().status_code == 204

    moves = idle.rows("SELECT body FROM messages WHERE actor = 'move_entries' AND state = 'ready'")
    assert [body["task_id"] for (body,) in moves if body["task_id"] == task["id"]] == [task["id"]]
    assert by.get(f"/api/tasks/{task['id']}")["pillarId"] == entry["pillarId"]


@pytest.mark.parametrize("status", ["pending", "rejected", "approved"])
def test_a_time_bill_forbids_the_deletion(status: str, target: Target, given: Given) -> None:
    bill, admin = given.bill(target.by, target.task()), given.admin()
    if status != "pending":
        more = {"rejectionNote": "why"} if status == "rejected" else {}
        admin.patch(f"/api/time-bills/{bill['id']}", {"status": status} | more)
    assert target.references() == {"timeBills": [bill["id"]]}


def test_a_running_timer_forbids_the_deletion(target: Target) -> None:
    task = target.task()
    target.by.post(f"/api/tasks/{task['id']}/start")
    assert target.references() == {"timers": [target.by.id]}
    target.by.delete("/api/active-timers/me")
    assert target.delete().status_code == 204


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["ready", "sent", "dead", "discarded"])
def test_an_unfinished_stop_forbids_the_deletion(kind: str, state: str, idle_given: Given, idle: Installation) -> None:
    target = Target(kind, idle_given, idle_given.person())
    task = target.task()
    target.by.post(f"/api/tasks/{task['id']}/start")
    target.by.post(f"/api/tasks/{task['id']}/stop", status=202)
    changed = idle.rows(
        "UPDATE messages SET state = %s, sent_at = now() WHERE body->>'task_id' = %s RETURNING id::text", state, task["id"]
    )
    assert target.references() == {"unfinishedStops": [changed[0][0]]}
    # also after another timer of the same user
    target.by.post(f"/api/tasks/{task['id']}/start")
    target.by.delete("/api/active-timers/me")
    assert target.references() == {"unfinishedStops": [changed[0][0]]}


def test_an_entry_without_a_bill_forbids_the_deletion(target: Target, given: Given, stint: Installation) -> None:
    entry = given.logged(target.by, target.task())
    given.settled()
    with stint.sql() as conn:
        conn.execute("UPDATE time_entries SET bill_id = NULL WHERE id = %s", (entry["id"],))
        conn.execute("UPDATE time_bills SET seconds = 0 WHERE id = %s", (entry["timeBillId"],))
    try:
        assert target.references() == {"timeEntries": [entry["id"]]}
    finally:
        given.admin().post("/api/time-bills/recompute", {"userId": target.by.id}, status=202)
        given.settled()


def test_entries_that_will_follow_their_task_to_the_customer_forbid_the_deletion(idle_given: Given) -> None:
    by = idle_given.person()
    target, task = Target("customer", idle_given, by), idle_given.task(by)
    entry = idle_given.logged(by, task)
    by.put(f"/api/tasks/{task['id']}", {"customerId": target.customer["id"]})
    assert target.references() == {"timeEntries": [entry["id"]]}


def test_an_empty_bill_is_deleted_too(target: Target, given: Given, stint: Installation) -> None:
    moved, task = target.task(), target.task()
    given.logged(target.by, moved)
    deleted = given.logged(target.by, task, start="2026-03-03T09:00:00Z")
    given.settled()
    target.by.put(f"/api/tasks/{moved['id']}", {"customerId": given.customer(target.by)["id"]})
    target.by.delete(f"/api/time-entries/{deleted['id']}")
    given.settled()

    assert target.delete().status_code == 204

    bills = target.by.get("/api/time-bills", userId=target.by.id)["items"]
    assert [bill["customerId"] for bill in bills] != [] and target.customer["id"] not in [bill["customerId"] for bill in bills]
    stint.verify()

"""A customer with `active: false` takes no new tasks, hours and timers; what exists stays, and can be finished."""

from uuid import uuid4

import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation

Inactive = tuple[Person, Json, Json]


@pytest.fixture
def inactive(given: Given) -> Inactive:
    """An admin, and a task with its customer, who is inactive by now."""
    admin = given.admin()
    customer = given.customer(admin)
    task = given.task(admin, customer)
    return admin, set_active(admin, customer, False), task


def set_active(by: Person, customer: Json, active: bool) -> Json:
    return by.put(f"/api/customers/{customer['id']}", {"active": active})


def push(by: Person, kind: str, data: Json, base: int | None = None) -> Json:
    operation = {"opId": str(uuid4()), "kind": kind, "baseVersion": base, "data": {"id": str(uuid4()), **data}}
    [result] = by.post("/api/sync", {"operations": [operation]}, 200)["results"]
    return dict(result)


def assert_inactive(body: Json) -> None:
    assert "inactive" in str(body) and "make it active" in str(body), body


def test_no_new_task(inactive: Inactive, given: Given) -> None:
    admin, customer, task = inactive
    elsewhere = given.task(admin)
    new = {"title": "Renew the certificate", "customerId": customer["id"]}
    moved = {"customerId": customer["id"]}

    for refused in (
        admin.http.post("/api/tasks", json=new),
        admin.http.put(f"/api/tasks/{elsewhere['id']}", json=moved),
        admin.http.post(
            "/api/slack/channel-mappings",
            json={"channelId": f"C{uuid4().hex[:9].upper()}", "channelName": "acme", "customerId": customer["id"]},
        ),
    ):
        assert refused_fields(refused) == ["customerId"]
        assert_inactive(refused.json())
    for result in (
        push(admin, "task.put", new),
        push(admin, "task.put", {"id": elsewhere["id"], **moved}, elsewhere["version"]),
    ):
        assert result["outcome"] == "rejected"
        assert_inactive(result)
    items = admin.get("/api/tasks", customerId=customer["id"])["items"]
    assert [item["id"] for item in items] == [task["id"]]


def test_no_new_hours_and_no_new_timer(inactive: Inactive, given: Given) -> None:
    admin, _, task = inactive
    running = admin.post(f"/api/tasks/{given.task(admin)['id']}/start")
    times = {"startTime": "2026-03-02T09:00:00Z", "duration": 3600}

    for refused in (
        admin.http.post(f"/api/tasks/{task['id']}/start"),
        admin.http.put("/api/active-timers/me", json={"taskId": task["id"]}),
        admin.http.post("/api/time-entries", json={"taskId": task["id"], **times}),
    ):
        assert_inactive(problem(refused, 409))
    for result in (
        push(admin, "entry.put", {"taskId": task["id"], **times}),
        push(admin, "timer.start", {"taskId": task["id"], "startTime": running["startTime"]}),
    ):
        assert result["outcome"] == "conflict"
    assert admin.get("/api/active-timers/me")["id"] == running["id"]  # a refused start stops no timer
    admin.delete("/api/active-timers/me")
    result = push(admin, "timer.start", {"taskId": task["id"], "startTime": running["startTime"]})
    assert result["outcome"] == "conflict"
    assert_inactive(result)
    assert admin.get("/api/time-entries", taskId=task["id"])["items"] == []


def test_a_mapping_does_not_move_to_an_inactive_customer(inactive: Inactive, given: Given) -> None:
    admin, customer, _ = inactive
    other = given.customer(admin)
    body = {"channelId": f"C{uuid4().hex[:9].upper()}", "channelName": "acme", "customerId": other["id"]}
    mapping = admin.post("/api/slack/channel-mappings", body)
    path = f"/api/slack/channel-mappings/{mapping['id']}"
    assert refused_fields(admin.http.put(path, json={"customerId": customer["id"]})) == ["customerId"]
    set_active(admin, other, False)
    assert admin.put(path, {"channelName": "acme-archive", "customerId": other["id"]})["channelName"] == "acme-archive"


def test_what_exists_is_corrected_stopped_and_approved(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    customer = given.customer(admin)
    task, pillar = given.task(by, customer), admin.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"})
    entry = given.logged(by, task)
    timer = by.post(f"/api/tasks/{task['id']}/start")
    set_active(admin, customer, False)

    assert by.post(f"/api/tasks/{task['id']}/start", status=200)["id"] == timer["id"]  # it runs already
    by.put("/api/active-timers/me", {"taskId": task["id"], "notes": "The last hour"})
    stopped = by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)
    by.patch(f"/api/time-entries/{stopped['entryId']}", {"duration": 600, "allowOverlap": True})
    by.patch(f"/api/time-entries/{entry['id']}", {"duration": 1800})
    by.post(f"/api/time-entries/{entry['id']}/notes", {"append": "The mail server"}, 200)
    by.patch(f"/api/time-bills/{entry['timeBillId']}", {"memo": "The last bill"})
    by.put(f"/api/tasks/{task['id']}", {"title": "Hand over", "customerId": customer["id"], "pillarId": pillar["id"]})
    given.settled()
    bills = admin.get("/api/time-bills", customerId=customer["id"])["items"]
    assert {bill["pillarId"] for bill in bills} == {pillar["id"]}
    for bill in bills:
        assert admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved"})["status"] == "approved"
    assert admin.put(f"/api/customers/{customer['id']}/focus", {})["customerId"] == customer["id"]
    stint.verify()


def test_time_that_was_worked_offline_is_accepted(inactive: Inactive, given: Given) -> None:
    admin, _, task = inactive
    timer = {"id": str(uuid4()), "taskId": task["id"], "startTime": "2026-03-02T09:00:00Z", "endTime": "2026-03-02T10:00:00Z"}
    assert push(admin, "timer.stop", timer)["outcome"] == "applied"
    given.settled()
    assert admin.get(f"/api/time-entries/{timer['id']}")["duration"] == 3600


def test_a_task_leaves_an_inactive_customer_with_its_hours(inactive: Inactive, given: Given) -> None:
    admin, customer, task = inactive
    set_active(admin, customer, True)
    entry = given.logged(admin, task)
    set_active(admin, customer, False)
    other = given.customer(admin)
    admin.put(f"/api/tasks/{task['id']}", {"customerId": other["id"]})
    given.settled()
    assert admin.get(f"/api/time-entries/{entry['id']}")["customerId"] == other["id"]
    assert refused_fields(admin.http.put(f"/api/tasks/{task['id']}", json={"customerId": customer["id"]})) == ["customerId"]


def test_a_repeated_request_and_an_active_customer_are_accepted(given: Given) -> None:
    admin = given.admin()
    customer = given.customer(admin)
    body = {"id": given.new_id(), "title": "Renew the certificate", "customerId": customer["id"]}
    task = admin.post("/api/tasks", body)
    hours = {"id": given.new_id(), "taskId": task["id"], "startTime": "2026-03-02T09:00:00Z", "duration": 60}
    admin.post("/api/time-entries", hours)
    set_active(admin, customer, False)
    assert admin.post("/api/tasks", body) == task
    assert admin.post("/api/time-entries", hours)["id"] == hours["id"]
    set_active(admin, customer, True)
    assert admin.post(f"/api/tasks/{task['id']}/start")["taskId"] == task["id"]
    admin.delete("/api/active-timers/me")

"""`me` stands for one's own id wherever a client sends a user's id: in every path, query and body of the OpenAPI document."""

from typing import Any

import pytest

from schemas.identity.current_user import PATTERN
from tests.api.contract import Contract, fetch_document, operations
from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given
from tests.support.installation import Installation

OF_USERS = {"userId", "user_id", "owner", "assigneeId"}
START = "2026-03-02T09:00:00Z"


@pytest.fixture(scope="module")
def document(stint: Installation) -> Json:
    return fetch_document(stint)


def test_each_users_id_in_the_document_may_be_me(document: Json) -> None:
    contract, found = Contract(document), []
    for (method, path), operation in operations(document).items():
        fields = {parameter["name"]: parameter["schema"] for parameter in operation.get("parameters", [])}
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        fields |= properties(contract, body)
        for name in OF_USERS & set(fields):
            assert PATTERN in str(fields[name]), f"{method} {path}: {name} does not take `me`"
            found.append(f"{method} {path} {name}")
    assert len(found) >= 12, found


def properties(contract: Contract, schema: Json) -> Json:
    """The properties of a body, at any depth, by name."""
    schema = contract.resolve(schema)
    found: Json = {}
    for option in [*schema.get("anyOf", []), *schema.get("oneOf", []), schema.get("items", {})]:
        found |= properties(contract, option) if option else {}
    for name, value in schema.get("properties", {}).items():
        found |= {name: value} | properties(contract, value)
    return found


def test_me_in_the_query_of_each_list(given: Given) -> None:
    by, other = given.people(2)
    customer = given.customer(by)
    tasks = [given.task(by, customer, assigneeId=person.id) for person in (by, other)]
    entries = [given.logged(person, tasks[0]) for person in (by, other)]
    for person, task, entry in zip((by, other), tasks, entries, strict=True):
        assert [row["id"] for row in person.get("/api/time-entries", userId="me")["items"]] == [entry["id"]]
        assert [row["id"] for row in person.get("/api/time-bills", userId="me")["items"]] == [entry["timeBillId"]]
        assert [row["id"] for row in person.get("/api/tasks", userId="me")["items"]] == [task["id"]]


def test_me_of_a_customers_user_shows_nothing_more(given: Given) -> None:
    admin = given.admin()
    bill = given.approved_bill(given.person(), admin)
    user = given.person("customer_user", bill["customerId"])
    assert [row["id"] for row in user.get("/api/time-bills")["items"]] == [bill["id"]]
    for noun in ("time-bills", "time-entries", "tasks"):
        assert user.get(f"/api/{noun}", userId="me")["items"] == []


def test_me_in_bodies(given: Given) -> None:
    admin, by = given.admin(), given.person()
    task = given.task(by, assigneeId="me")
    assert task["assigneeId"] == by.id
    assert admin.put(f"/api/tasks/{task['id']}", {"assigneeId": "me"})["assigneeId"] == admin.id
    logged = by.post("/api/time-entries", {"taskId": task["id"], "userId": "me", "startTime": START, "duration": 60})
    assert logged["userId"] == by.id
    assert admin.post("/api/time-bills/recompute", {"userId": "me", "dryRun": True}, status=202)["userId"] == admin.id
    seen = admin.get("/api/time-bills")["syncTimestamp"]
    answer = admin.post("/api/time-bills/approve-all", {"filter": {"userId": "me"}, "syncTimestamp": seen}, status=200)
    assert answer["results"] == []


def test_me_in_the_operations_of_a_sync(given: Given) -> None:
    by = given.person()
    data: dict[str, Any] = {"id": given.new_id(), "taskId": given.task(by)["id"], "startTime": START, "duration": 60}
    operation = {"opId": given.new_id(), "kind": "entry.put", "data": data | {"userId": "me"}}
    [result] = by.post("/api/sync", {"operations": [operation]}, status=200)["results"]
    assert (result["outcome"], result["current"]["userId"]) == ("applied", by.id)


def test_me_in_the_path_of_a_customers_user(given: Given) -> None:
    customer = given.customer(given.admin())
    user = given.person("customer_admin", customer["id"])
    user.delete(f"/api/customers/{customer['id']}/users/me")
    problem(user.http.get("/api/me"), 401)


@pytest.mark.parametrize("value", ["ME", "me ", "myself", "5", None, 5, ["me"]])
def test_what_is_neither_an_id_nor_me_is_422(value: Any, given: Given) -> None:
    by = given.admin()
    task = given.task(by)
    body = {"taskId": task["id"], "userId": value, "startTime": START, "duration": 60}
    if value is not None:
        assert refused_fields(by.http.post("/api/time-entries", json=body)) == ["userId"]
        assert refused_fields(by.http.put(f"/api/tasks/{task['id']}", json={"assigneeId": value})) == ["assigneeId"]
    if isinstance(value, str):
        for noun in ("tasks", "time-entries", "time-bills"):
            assert refused_fields(by.http.get(f"/api/{noun}", params={"userId": value})) == ["userId"]
        assert refused_fields(by.http.get(f"/api/active-timers/{value}")) == ["owner"]


def test_all_running_timers_are_listed_for_the_firm_only(given: Given, stint: Installation) -> None:
    admin, by, other = given.admin(), given.person(), given.person()
    task = given.task(by)
    timers = [person.post(f"/api/tasks/{task['id']}/start", {"notes": person.email}) for person in (by, other)]

    for reader in (admin, by):
        listed = {row["userId"]: row for row in reader.get("/api/active-timers", limit=1000)["items"]}
        assert [listed[timer["userId"]] | {"stopped": None} for timer in timers] == timers
        enriched = {row["userId"]: row for row in reader.get("/api/active-timers", limit=1000, enrich="true")["items"]}
        row = enriched[other.id]
        assert (row["taskTitle"], row["customerId"], row["userEmail"]) == (task["title"], task["customerId"], other.email)
        assert row["customerName"] and row["userName"] is not None

    by.http.delete("/api/active-timers/me")
    assert by.id not in {row["userId"] for row in admin.get("/api/active-timers", limit=1000)["items"]}
    for role in ("customer_admin", "customer_user"):
        problem(given.person(role, task["customerId"]).http.get("/api/active-timers"), 403)


def test_the_list_of_running_timers_has_pages(given: Given) -> None:
    people = given.people(3)
    task = given.task(people[0])
    for person in people:
        person.post(f"/api/tasks/{task['id']}/start")
    found: list[str] = []
    query: Json = {"limit": 1}
    while True:
        page = people[0].get("/api/active-timers", **query)
        found += [row["userId"] for row in page["items"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert len(found) == len(set(found)) and {person.id for person in people} <= set(found)

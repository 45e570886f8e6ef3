"""Customers."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation


def test_a_new_customer_has_a_default_pillar(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = by.post("/api/customers", {"name": "  Acme & Söhne 🛠  ", "email": "it@acme.example", "phone": "+49 30 1"})
    assert customer["name"] == "Acme & Söhne 🛠"
    assert (customer["active"], customer["notes"], customer["version"]) == (True, "", 1)
    assert customer["rounding"] == {"increment": 1, "mode": "nearest"}
    pillars = stint.rows("SELECT name, is_default, active FROM pillars WHERE customer_id = %s", customer["id"])
    assert pillars == [("General Support", True, True)]
    assert by.get(f"/api/customers/{customer['id']}") == customer


@pytest.mark.parametrize("noun", ["customers", "tasks"])
def test_repeating_a_create_gives_the_same_answer(noun: str, given: Given, stint: Installation) -> None:
    by = given.person()
    body = {"id": given.new_id(), "name": "Acme"}
    if noun == "tasks":
        body = {"id": body["id"], "title": "Fix it", "customerId": given.customer(by)["id"]}

    first = by.http.post(f"/api/{noun}", json=body)
    again = by.http.post(f"/api/{noun}", json=dict(reversed(body.items())))

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert stint.value(f"SELECT count(*) FROM {noun} WHERE id = %s", body["id"]) == 1


@pytest.mark.parametrize("noun", ["customers", "tasks"])
def test_another_body_with_the_same_id_is_409(noun: str, given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    body = {"id": given.new_id()} | ({"name": "Acme"} if noun == "customers" else {"title": "A", "customerId": customer["id"]})
    made = by.post(f"/api/{noun}", body)

    for change in ({"name": "Acme 2"}, {"notes": "new"}) if noun == "customers" else ({"title": "B"}, {"priority": "high"}):
        problem(by.http.post(f"/api/{noun}", json=body | change), 409)
    assert by.get(f"/api/{noun}/{made['id']}") == made


@pytest.mark.parametrize("noun", ["customers", "tasks"])
def test_concurrent_creates_of_one_id_create_one_row(noun: str, given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    body = {"id": given.new_id()} | ({"name": "Acme"} if noun == "customers" else {"title": "A", "customerId": customer["id"]})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: by.http.post(f"/api/{noun}", json=body), range(20)))

    assert [answer.status_code for answer in answers] == [201] * 20
    assert len({answer.text for answer in answers}) == 1
    assert stint.value(f"SELECT count(*) FROM {noun} WHERE id = %s", body["id"]) == 1
    own = body["id"] if noun == "customers" else customer["id"]
    assert stint.value("SELECT count(*) FROM pillars WHERE customer_id = %s", own) == 1


def test_twenty_parallel_creates_of_one_id_with_different_bodies_create_one_row(given: Given) -> None:
    by, customer_id = given.person(), given.new_id()

    def create(number: int) -> int:
        return by.http.post("/api/customers", json={"id": customer_id, "name": f"Acme {number}"}).status_code

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(create, range(20))) == [201] + [409] * 19


def test_an_update_writes_only_the_fields_that_are_sent(given: Given) -> None:
    by = given.person()
    customer = given.customer(by, email="it@acme.example", phone="1", notes="a", xeroContactId="c", xeroProjectId="p")
    changes: list[Json] = [
        {"name": "  Acme 🛠 "}, {"notes": ""}, {"active": False}, {"phone": None}, {"email": "new@acme.example"},
        {"email": None, "xeroContactId": None, "xeroProjectId": None}, {"active": True, "phone": "2"},
    ]  # fmt: skip
    for change in changes:
        changed = by.put(f"/api/customers/{customer['id']}", change)
        written = {name: value.strip() if isinstance(value, str) else value for name, value in change.items()}
        expected = customer | written | {"version": customer["version"] + 1, "updatedAt": changed["updatedAt"]}
        assert changed == expected
        assert changed["updatedAt"] > customer["updatedAt"]
        assert by.get(f"/api/customers/{customer['id']}") == changed
        customer = changed


def test_null_for_a_field_that_cannot_be_null_is_ignored(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    nulls = {"name": None, "notes": None, "active": None, "rounding": None}
    bodies: list[Json] = [{}, {"version": 1}, nulls, {"rounding": {}}]
    for body in bodies:
        assert refused_fields(by.http.put(f"/api/customers/{customer['id']}", json=body)) == [""]
    assert by.get(f"/api/customers/{customer['id']}") == customer


def test_a_stale_update_or_deletion_is_409_with_the_current_customer(given: Given) -> None:
    by = given.person()
    path = f"/api/customers/{given.customer(by)['id']}"
    changed = by.put(path, {"name": "Acme", "version": 1})
    assert problem(by.http.put(path, json={"name": "Other", "version": 1}), 409)["current"] == changed
    assert problem(by.http.delete(path, params={"version": 1}), 409)["current"] == changed
    by.delete(path, version=2)
    for method in ("GET", "PUT", "DELETE"):
        problem(by.http.request(method, path, json={"name": "Acme"} if method == "PUT" else None), 404)


def test_of_concurrent_updates_of_one_version_one_succeeds(given: Given) -> None:
    by = given.person()
    path = f"/api/customers/{given.customer(by)['id']}"
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: by.http.put(path, json={"name": f"Acme {n}", "version": 1}).status_code, range(20)))
    assert sorted(answers) == [200] + [409] * 19


def test_a_bill_keeps_the_rounding_rule_that_it_was_opened_with(given: Given) -> None:
    by = given.person()
    customer = given.customer(by, rounding={"increment": 15, "mode": "up"})
    task = given.task(by, customer)
    before = given.bill(by, task, minutes=31)
    assert before["minutes"] == 45

    changed = by.put(f"/api/customers/{customer['id']}", {"rounding": {"increment": 30}})

    assert changed["rounding"] == {"increment": 30, "mode": "up"}  # a field that is left out keeps its value
    given.logged(by, task, start="2026-03-02T12:00:00Z", minutes=31)
    after = given.bill(by, task, start="2026-03-03T09:00:00Z", minutes=31)
    assert by.get(f"/api/time-bills/{before['id']}")["minutes"] == 75  # 62 minutes, by the old rule
    assert after["minutes"] == 60


def changed_since(by: Person, since: str, **parameters: Any) -> list[Json]:
    items: list[Json] = []
    cursor: Json | None = {}
    while cursor is not None:
        page = by.get("/api/customers", lastSyncTimestamp=since, **parameters, **cursor)
        assert "reset" not in page
        items += page["items"]
        cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else None
    return items


def test_changes_are_listed_in_their_order_and_deleted_customers_as_tombstones(given: Given) -> None:
    by = given.person()
    first, second, third, untouched = (given.customer(by) for _ in range(4))
    since = by.get("/api/customers", limit=1)["syncTimestamp"]

    changed = [by.put(f"/api/customers/{customer['id']}", {"notes": "new"}) for customer in (third, first)]
    by.delete(f"/api/customers/{second['id']}")

    for limit in (1, 200):
        seen = [item for item in changed_since(by, since, limit=limit) if item["id"] != untouched["id"]]
        assert seen[-3:] == [*changed, {"id": second["id"], "deleted": True}]
    a_minute_ago = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    assert {"id": second["id"], "deleted": True} in changed_since(by, a_minute_ago)


def test_a_customers_user_sees_changes_of_the_own_customer_only_and_loses_access_with_it(given: Given) -> None:
    by = given.person()
    own, other = given.customer(by), given.customer(by)
    user = given.person("customer_user", own["id"])
    since = user.get("/api/customers")["syncTimestamp"]
    for customer in (own, other):
        by.put(f"/api/customers/{customer['id']}", {"notes": "new"})
    assert [item["id"] for item in changed_since(user, since)] == [own["id"]]

    for customer in (own, other):
        by.delete(f"/api/customers/{customer['id']}")

    problem(user.http.get("/api/customers"), 401)
    late = given.person("customer_user", own["id"])  # a user that did not exist at the deletion
    problem(late.http.get("/api/customers"), 401)


@pytest.mark.parametrize(("change", "fields"), [
    ({"name": ""}, ["name"]), ({"name": "  "}, ["name"]), ({"name": "a" * 201}, ["name"]), ({"name": 5}, ["name"]),
    ({"email": "nobody"}, ["email"]), ({"email": "", "phone": "1" * 51}, ["email", "phone"]), ({"notes": 5}, ["notes"]),
    ({"active": "yes"}, ["active"]), ({"active": 1}, ["active"]), ({"rounding": 15}, ["rounding"]),
    ({"rounding": {"increment": 7}}, ["rounding.increment"]), ({"rounding": {"mode": "down"}}, ["rounding.mode"]),
    ({"rounding": {"increment": "15", "step": 5}}, ["rounding.increment", "rounding.step"]),
    ({"xeroContactId": "a" * 101, "xeroProjectId": 5}, ["xeroContactId", "xeroProjectId"]),
    ({"xeroContactId": " ", "xeroProjectId": ""}, ["xeroContactId", "xeroProjectId"]),
    ({"xeroProjectId": "\u200b"}, ["xeroProjectId"]),
    ({"version": 0}, ["version"]), ({"version": "1"}, ["version"]), ({"id": "x", "createdAt": "x"}, ["createdAt", "id"]),
])  # fmt: skip
def test_an_invalid_change_is_422_with_its_field(change: Json, fields: list[str], given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    assert sorted(refused_fields(by.http.put(f"/api/customers/{customer['id']}", json={"notes": "new"} | change))) == fields
    assert by.get(f"/api/customers/{customer['id']}") == customer


@pytest.mark.parametrize("version", ["0", "-1", "abc", "1.5", "null", str(2**31)])
def test_an_invalid_version_in_a_deletion_is_422(version: str, given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    assert refused_fields(by.http.delete(f"/api/customers/{customer['id']}", params={"version": version})) == ["version"]


def test_unusual_names_and_addresses_are_stored_unchanged(given: Given) -> None:
    by = given.person()
    for name in ("Bäcker & Söhne 🥨", "חברת השמש", "شركة النور", "Ltd; DROP TABLE customers; --", "a\u0301\u200d"):
        for email in ('"jo smith"@example.com', "jo+tag@bücher.example"):
            customer = by.post("/api/customers", {"name": name, "email": email})
            assert (customer["name"], customer["email"]) == (name.removesuffix("\u200d"), email)  # joins nothing
            assert by.get(f"/api/customers/{customer['id']}") == customer
    for email in ("jo@example.com\r\nBcc: eve@example.com", "jo@example.com, eve@example.com", "a" * 330 + "@example.com"):
        assert refused_fields(by.http.post("/api/customers", json={"name": "Acme", "email": email})) == ["email"]
    problem(by.http.post("/api/customers", json={"name": "x" * 10_000_000}), 413)

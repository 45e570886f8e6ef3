"""Promise 3: nobody sees or touches another customer's data."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.answers import EVERY_ROUTE, Json, filled, problem
from tests.support.given import Given, Person

NOUNS = ["customers", "tasks", "time-entries", "time-bills"]


@dataclass(frozen=True)
class Tenant:
    """A customer with a user, and one row of each noun: ids by noun."""

    name: str
    user: Person
    ids: dict[str, str]
    pending: dict[str, str]


@pytest.fixture
def tenants(given: Given) -> tuple[Tenant, Tenant]:
    admin, consultant = given.admin(), given.person()
    return tenant(given, admin, consultant, "customer_user"), tenant(given, admin, consultant, "customer_admin")


def tenant(given: Given, admin: Person, consultant: Person, role: str) -> Tenant:
    customer = given.customer(admin)
    task = given.task(admin, customer)
    approved = given.approved_bill(consultant, admin, task)
    pending = given.bill(consultant, task, start="2026-03-03T09:00:00Z")
    entries = {
        bill["id"]: consultant.get("/api/time-entries", timeBillId=bill["id"])["items"][0]["id"] for bill in (approved, pending)
    }
    ids = {
        "customers": customer["id"],
        "tasks": task["id"],
        "time-entries": entries[approved["id"]],
        "time-bills": approved["id"],
    }
    hidden = {"time-entries": entries[pending["id"]], "time-bills": pending["id"]}
    return Tenant(customer["name"], given.person(role, customer["id"]), ids, hidden)


def listed(person: Person, noun: str, **parameters: Any) -> list[str]:
    return [item["id"] for item in person.get(f"/api/{noun}", **parameters)["items"]]


def test_lists_show_the_own_customer_and_only_approved_hours(tenants: tuple[Tenant, Tenant]) -> None:
    for own in tenants:
        for noun in NOUNS:
            assert listed(own.user, noun) == [own.ids[noun]], noun


def test_a_row_of_another_customer_looks_like_an_unknown_one(tenants: tuple[Tenant, Tenant]) -> None:
    for own, other in (tenants, tenants[::-1]):
        for noun in NOUNS:
            assert own.user.get(f"/api/{noun}/{own.ids[noun]}")["id"] == own.ids[noun]
            unknown = problem(own.user.http.get(f"/api/{noun}/00000000-0000-4000-8000-000000000000"), 404)
            hidden = problem(own.user.http.get(f"/api/{noun}/{other.ids[noun]}"), 404)
            assert hidden | {"requestId": ""} == unknown | {"requestId": ""}


def test_hours_that_are_not_approved_are_404_for_a_customer(tenants: tuple[Tenant, Tenant]) -> None:
    own = tenants[0]
    for noun, row_id in own.pending.items():
        problem(own.user.http.get(f"/api/{noun}/{row_id}"), 404)
    assert listed(own.user, "time-entries", timeBillId=own.pending["time-bills"]) == []
    assert own.user.http.get("/api/time-bills?status=pending").json()["items"] == []


def test_filters_that_name_another_customer_find_nothing(tenants: tuple[Tenant, Tenant]) -> None:
    own, other = tenants
    for noun in ("time-entries", "time-bills"):
        for named in ({"customer": other.name}, {"customer": other.ids["customers"]}, {"customerId": other.ids["customers"]}):
            assert listed(own.user, noun, **named) == []
        assert listed(own.user, noun, customer=own.name.upper()) == [own.ids[noun]]
    assert listed(own.user, "time-entries", taskId=other.ids["tasks"]) == []
    assert listed(own.user, "time-entries", timeBillId=other.ids["time-bills"]) == []


def test_an_admins_cursor_shows_a_customers_user_nothing_more(tenants: tuple[Tenant, Tenant], given: Given) -> None:
    own, admin = tenants[0], given.admin()
    for noun in NOUNS:
        given.task(admin)
        cursor = admin.get(f"/api/{noun}", limit=1)["nextCursor"]
        assert cursor
        assert set(listed(own.user, noun, cursor=cursor)) <= {own.ids[noun]}


def test_enriched_lists_contain_the_own_customer_only(tenants: tuple[Tenant, Tenant]) -> None:
    own, other = tenants
    for noun in ("time-entries", "time-bills"):
        answer = own.user.http.get(f"/api/{noun}", params={"enrich": "true"})
        assert answer.json()["items"][0]["customerName"] == own.name
        assert other.name not in answer.text and other.ids["customers"] not in answer.text


def test_pillars_of_another_customer_look_like_unknown_ones(tenants: tuple[Tenant, Tenant], given: Given) -> None:
    for own, other in (tenants, tenants[::-1]):
        path = f"/api/customers/{own.ids['customers']}/pillars"
        general = own.user.get(path)["items"][0]
        assert own.user.get(f"{path}/{general['id']}") == general
        unknown = problem(other.user.http.get(f"/api/customers/{given.new_id()}/pillars"), 404)
        hidden = problem(other.user.http.get(path), 404)
        assert hidden | {"requestId": ""} == unknown | {"requestId": ""}
        problem(other.user.http.get(f"{path}/{general['id']}"), 404)
        problem(other.user.http.get(f"/api/customers/{other.ids['customers']}/pillars/{general['id']}"), 404)


def test_changes_of_another_customer_are_not_listed(tenants: tuple[Tenant, Tenant], given: Given) -> None:
    own, other = tenants
    admin = given.admin()
    for customer in (own, other):
        answer = admin.http.put(f"/api/customers/{customer.ids['customers']}", json={"notes": "new"})
        assert answer.status_code == 200
    for since in (f"{own.user.get('/api/customers')['syncTimestamp'].partition('.')[0]}.3", "2026-11-23T00:00:00Z", "0"):
        changed = own.user.http.get("/api/customers", params={"lastSyncTimestamp": since})
        assert set(item["id"] for item in changed.json()["items"]) <= {own.ids["customers"]}
        assert other.name not in changed.text and other.ids["customers"] not in changed.text


def test_a_reopened_bill_disappears_for_its_customer(tenants: tuple[Tenant, Tenant], given: Given) -> None:
    own = tenants[0]
    reopened: Json = given.admin().patch(f"/api/time-bills/{own.ids['time-bills']}", {"status": "pending"})
    assert reopened["status"] == "pending"
    for noun in ("time-entries", "time-bills"):
        assert listed(own.user, noun) == []
        problem(own.user.http.get(f"/api/{noun}/{own.ids[noun]}"), 404)


def test_a_user_of_an_unknown_customer_sees_nothing(given: Given) -> None:
    user = given.person("customer_admin", given.new_id())
    for noun in NOUNS:
        assert listed(user, noun) == []


def test_the_new_title_of_a_task_that_moved_to_another_customer_is_hidden(tenants: tuple[Tenant, Tenant], given: Given) -> None:
    own, other = tenants
    admin = given.admin()
    moved = {"customerId": other.ids["customers"], "title": "Nobody else's business"}
    assert admin.http.put(f"/api/tasks/{own.ids['tasks']}", json=moved).status_code == 200
    entries = own.user.http.get("/api/time-entries", params={"enrich": "true"})
    assert [(entry["id"], entry["taskTitle"]) for entry in entries.json()["items"]] == [(own.ids["time-entries"], None)]
    assert (
        admin.get("/api/time-entries", enrich="true", timeBillId=own.ids["time-bills"])["items"][0]["taskTitle"]
        == moved["title"]
    )


@pytest.mark.parametrize("role", ["customer_admin", "customer_user", "internal_user", "visitor"])
def test_dead_letters_are_in_answers_to_admins_only(role: str, given: Given) -> None:
    by, admin = given.person(), given.admin()
    customer, other = given.customer(by), given.customer(by)
    mark = f"mark-{given.new_id()}"
    # there is no mail server here, so the mail of the invitation becomes a dead letter
    path = f"/api/customers/{other['id']}/users/invite"
    user = by.post(path, {"email": f"{mark}@secret.example", "name": "Ida"})
    given.settled()
    [dead_letter] = admin.get("/api/dead-letters", q=mark)["items"]
    by.delete(f"/api/customers/{other['id']}/users/{user['id']}")  # so that no other row contains the mark
    reader = given.person(role, customer["id"] if role.startswith("customer") else None)
    ids = {"letter_id": dead_letter["id"], "customer_id": customer["id"], "owner": "me"}

    answers = []
    for method, template in EVERY_ROUTE:
        is_about_dead_letters = "dead-letters" in template
        if template == "/api/events" or not (is_about_dead_letters or method == "GET"):
            continue
        body = {"select": {"ids": [dead_letter["id"]]}, "reason": "why not", "body": {}} if method == "POST" else None
        answer = reader.http.request(method, filled(template, **ids), json=body)
        answers.append(answer.text)
        if is_about_dead_letters:
            assert problem(answer, 403)["detail"]

    assert len(answers) > 30 and not any(mark in text for text in answers)
    assert admin.get(f"/api/dead-letters/{dead_letter['id']}")["state"] == "dead"

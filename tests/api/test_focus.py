"""Focus: the customer that a user is looking at."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation


def set_focus(by: Person, customer: Json) -> Json:
    answer = by.http.put(f"/api/customers/{customer['id']}/focus")
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def focuses_of(by: Person, owner: Person) -> list[Json]:
    return [focus for focus in by.get("/api/focus", limit=1000)["items"] if focus["userId"] == owner.id]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_focus_is_visible_to_all_internal_users(given: Given) -> None:
    by, other = given.people(2)
    customer = given.customer(by)
    focus = set_focus(by, customer)
    assert (focus["userId"], focus["customerId"], focus["customerName"]) == (by.id, customer["id"], customer["name"])
    assert focus["userName"] == by.get("/api/me")["name"]
    assert moment(focus["expiresAt"]) - moment(focus["since"]) == timedelta(minutes=5)
    assert focuses_of(other, by) == [focus]


def test_a_user_has_one_focus_at_a_time(given: Given) -> None:
    by = given.person()
    first, second = given.customer(by), given.customer(by)
    set_focus(by, first)
    focus = set_focus(by, second)
    assert focuses_of(by, by) == [focus]
    # a late request for the first customer does not end the focus on the second
    assert by.http.delete(f"/api/customers/{first['id']}/focus").status_code == 204
    assert focuses_of(by, by) == [focus]


def test_setting_a_focus_again_extends_it_and_keeps_its_start(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    first, again = set_focus(by, customer), set_focus(by, customer)
    assert again["since"] == first["since"] and again["expiresAt"] > first["expiresAt"]
    assert focuses_of(by, by) == [again]


def test_a_focus_ends_when_it_is_cleared(given: Given) -> None:
    by, other = given.people(2)
    customer = given.customer(by)
    others = set_focus(other, customer)
    set_focus(by, customer)
    for _ in range(2):
        by.delete(f"/api/customers/{customer['id']}/focus")
        assert focuses_of(by, by) == []
    by.delete(f"/api/customers/{given.new_id()}/focus")
    assert focuses_of(by, other) == [others]  # a user ends only the own focus
    assert focuses_of(by, by) == [] and set_focus(by, customer)["since"] > others["since"]


def test_a_focus_expires(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    first = set_focus(by, customer)
    with stint.sql() as conn:
        conn.execute("UPDATE focus SET since = now() - interval '1 hour', expires_at = now() WHERE user_id = %s", (by.id,))
    assert focuses_of(by, by) == []
    assert set_focus(by, customer)["since"] > first["since"]  # a new one


def test_a_deleted_or_unknown_customer_has_no_focus(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    set_focus(by, customer)
    by.delete(f"/api/customers/{customer['id']}")
    assert focuses_of(by, by) == []
    for customer_id in (customer["id"], given.new_id()):
        problem(by.http.put(f"/api/customers/{customer_id}/focus"), 404)
        assert by.http.delete(f"/api/customers/{customer_id}/focus").status_code == 204


def test_the_list_is_paged_newest_first(given: Given) -> None:
    people = given.people(3)
    customer = given.customer(people[0])
    made = [set_focus(person, customer) for person in people][::-1]
    pages: list[Json] = []
    cursor = None
    while len(pages) < 3:
        page = people[0].get("/api/focus", limit=1, **({"cursor": cursor} if cursor else {}))
        pages += page["items"]
        cursor = page["nextCursor"]
    assert pages == made


def test_concurrent_requests_leave_one_focus(given: Given, stint: Installation) -> None:
    by = given.person()
    customers = [given.customer(by) for _ in range(2)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: set_focus(by, customers[number % 2]), range(20)))
    assert len(focuses_of(by, by)) == 1
    assert stint.value("SELECT count(*) FROM focus WHERE user_id = %s", by.id) == 1


@pytest.mark.parametrize("role", ["customer_user", "customer_admin"])
def test_a_customers_user_can_neither_see_nor_set_a_focus(role: str, given: Given) -> None:
    customer = given.customer(given.person())
    user = given.person(role, customer["id"])
    problem(user.http.get("/api/focus"), 403)
    for method in ("PUT", "DELETE"):
        problem(user.http.request(method, f"/api/customers/{customer['id']}/focus"), 403)

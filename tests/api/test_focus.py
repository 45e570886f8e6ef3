"""Focus: who is looking at which customer right now."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from tests.api.answers import Json, problem
from tests.given import Given, Person
from tests.installation import Installation


def look(by: Person, customer: Json) -> Json:
    answer = by.http.put(f"/api/customers/{customer['id']}/focus")
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def seen(by: Person, whose: Person) -> list[Json]:
    return [focus for focus in by.get("/api/focus", limit=1000)["items"] if focus["userId"] == whose.id]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_everybody_sees_who_is_looking_at_which_customer(given: Given) -> None:
    by, other = given.people(2)
    customer = given.customer(by)
    focus = look(by, customer)
    assert (focus["userId"], focus["customerId"], focus["customerName"]) == (by.id, customer["id"], customer["name"])
    assert focus["userName"] == by.get("/api/me")["name"]
    assert moment(focus["expiresAt"]) - moment(focus["since"]) == timedelta(minutes=5)
    assert seen(other, by) == [focus]


def test_one_looks_at_one_customer_at_a_time(given: Given) -> None:
    by = given.person()
    first, second = given.customer(by), given.customer(by)
    look(by, first)
    focus = look(by, second)
    assert seen(by, by) == [focus]
    # what was sent before, and comes late, ends nothing
    assert by.http.delete(f"/api/customers/{first['id']}/focus").status_code == 204
    assert seen(by, by) == [focus]


def test_looking_again_lets_it_last_and_keeps_since_when(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    first, again = look(by, customer), look(by, customer)
    assert again["since"] == first["since"] and again["expiresAt"] > first["expiresAt"]
    assert seen(by, by) == [again]


def test_it_ends_when_one_looks_away(given: Given) -> None:
    by, other = given.people(2)
    customer = given.customer(by)
    kept = look(other, customer)
    look(by, customer)
    for _ in range(2):
        by.delete(f"/api/customers/{customer['id']}/focus")
        assert seen(by, by) == []
    by.delete(f"/api/customers/{given.new_id()}/focus")
    assert seen(by, other) == [kept]  # nobody ends another's
    assert seen(by, by) == [] and look(by, customer)["since"] > kept["since"]


def test_it_lapses_by_itself(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    first = look(by, customer)
    with stint.sql() as conn:
        conn.execute("UPDATE focus SET since = now() - interval '1 hour', expires_at = now() WHERE user_id = %s", (by.id,))
    assert seen(by, by) == []
    assert look(by, customer)["since"] > first["since"]  # begun anew


def test_nobody_looks_at_a_customer_that_is_not_there(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    look(by, customer)
    by.delete(f"/api/customers/{customer['id']}")
    assert seen(by, by) == []
    for gone in (customer["id"], given.new_id()):
        problem(by.http.put(f"/api/customers/{gone}/focus"), 404)
        assert by.http.delete(f"/api/customers/{gone}/focus").status_code == 204


def test_the_list_is_paged_the_latest_first(given: Given) -> None:
    people = given.people(3)
    customer = given.customer(people[0])
    made = [look(person, customer) for person in people][::-1]
    pages, cursor = [], None
    while len(pages) < 3:
        page = people[0].get("/api/focus", limit=1, **({"cursor": cursor} if cursor else {}))
        pages += page["items"]
        cursor = page["nextCursor"]
    assert pages == made


def test_twenty_at_once_leave_one_focus(given: Given, stint: Installation) -> None:
    by = given.person()
    customers = [given.customer(by) for _ in range(2)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: look(by, customers[number % 2]), range(20)))
    assert len(seen(by, by)) == 1
    assert stint.value("SELECT count(*) FROM focus WHERE user_id = %s", by.id) == 1


@pytest.mark.parametrize("role", ["customer_user", "customer_admin"])
def test_it_is_the_firms_own_business(role: str, given: Given) -> None:
    customer = given.customer(given.person())
    user = given.person(role, customer["id"])
    problem(user.http.get("/api/focus"), 403)
    for method in ("PUT", "DELETE"):
        problem(user.http.request(method, f"/api/customers/{customer['id']}/focus"), 403)

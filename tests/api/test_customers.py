"""Customers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.answers import problem
from tests.given import Given
from tests.installation import Installation


def test_a_customer_comes_with_general_support(given: Given, stint: Installation) -> None:
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
        body = {"id": body["id"], "title": "Mend it", "customerId": given.customer(by)["id"]}

    first = by.http.post(f"/api/{noun}", json=body)
    again = by.http.post(f"/api/{noun}", json=dict(reversed(body.items())))

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert stint.value(f"SELECT count(*) FROM {noun} WHERE id = %s", body["id"]) == 1


@pytest.mark.parametrize("noun", ["customers", "tasks"])
def test_another_body_under_the_same_id_is_409(noun: str, given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    body = {"id": given.new_id()} | ({"name": "Acme"} if noun == "customers" else {"title": "A", "customerId": customer["id"]})
    made = by.post(f"/api/{noun}", body)

    for change in ({"name": "Acme 2"}, {"notes": "new"}) if noun == "customers" else ({"title": "B"}, {"priority": "high"}):
        problem(by.http.post(f"/api/{noun}", json=body | change), 409)
    assert by.get(f"/api/{noun}/{made['id']}") == made


@pytest.mark.parametrize("noun", ["customers", "tasks"])
def test_twenty_parallel_creates_of_one_id_make_one_row(noun: str, given: Given, stint: Installation) -> None:
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


def test_twenty_parallel_creates_of_one_id_with_other_bodies_make_one_row(given: Given) -> None:
    by, customer_id = given.person(), given.new_id()

    def create(number: int) -> int:
        return by.http.post("/api/customers", json={"id": customer_id, "name": f"Acme {number}"}).status_code

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(create, range(20))) == [201] + [409] * 19

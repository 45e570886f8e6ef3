"""Names over HTTP: twins are refused, filters find what looks the same, and what is stored can be seen."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.identity.tokens import Mint
from tests.support.answers import problem, refused_fields
from tests.support.given import Given
from tests.support.installation import Installation
from tests.sync.pushing import op, pushed

TWINS = ["Cafe\u0301", "café", "CAFÉ", " Café ", "Ca\u200bfé", "Café\u200d", "\u202eCafé", "Ｃafé", "Café\u3000"]


@pytest.mark.parametrize("twin", TWINS, ids=ascii)
def test_a_pillar_that_looks_like_another_is_409(twin: str, given: Given) -> None:
    by = given.admin()
    path = f"/api/customers/{given.customer(by)['id']}/pillars"
    first, other = by.post(path, {"name": "Café"}), by.post(path, {"name": "Cafe"})
    assert problem(by.http.post(path, json={"name": twin}), 409)["pillarId"] == first["id"]
    assert problem(by.http.put(f"{path}/{other['id']}", json={"name": twin}), 409)["pillarId"] == first["id"]
    assert by.put(f"{path}/{first['id']}", {"name": "Cafe\u0301"})["name"] == "Cafe\u0301"  # its own name, written differently


def test_of_twins_that_are_created_at_once_one_is_created(given: Given) -> None:
    by = given.admin()
    path = f"/api/customers/{given.customer(by)['id']}/pillars"
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda name: by.http.post(path, json={"name": name}).status_code, TWINS))
    assert sorted(answers) == [201] + [409] * 8


def test_the_filter_by_customer_finds_what_looks_the_same(given: Given) -> None:
    by = given.person()
    unique = secrets.token_hex(4)
    customer = given.customer(by) | {"name": f"Müller & Söhne {unique}"}
    by.put(f"/api/customers/{customer['id']}", {"name": customer["name"]})
    task = given.task(by, customer)
    entry = given.logged(by, task)
    for written in (
        f"Mu\u0308ller & So\u0308hne {unique}", f"MÜLLER & SÖHNE {unique}", f" Müller  & Söhne {unique} ",
        f"Müller\u200b & Söhne\u00a0{unique}", customer["id"], f" {customer['id']} ",
    ):  # fmt: skip
        for noun, row in (("tasks", task["id"]), ("time-entries", entry["id"]), ("time-bills", entry["timeBillId"])):
            assert [found["id"] for found in by.get(f"/api/{noun}", customer=written)["items"]] == [row], ascii(written)
    assert by.get("/api/tasks", customer=f"Muller & Sohne {unique}")["items"] == []


def test_names_are_stored_without_what_nobody_sees(given: Given) -> None:
    by = given.admin()
    customer = by.post("/api/customers", {"name": " \u202eAcme\u200b 👩\u200d👩\u200d👧\u00a0"})
    assert customer["name"] == "Acme 👩\u200d👩\u200d👧"
    assert given.task(by, customer, title="Fix\u2066 it\u2069\ufeff ")["title"] == "Fix it"
    invited = by.post(
        f"/api/customers/{customer['id']}/users/invite", {"email": f"{given.new_id()}@acme.example", "name": "Jo\u202e Miller"}
    )
    assert invited["name"] == "Jo Miller"


ON_TWO_LINES = "Fix\tit \r\n now\u2028then"


def test_names_are_stored_on_one_line(given: Given) -> None:
    by = given.admin()
    customer = by.post("/api/customers", {"name": ON_TWO_LINES, "phone": "030\n1", "notes": "Two\nlines"})
    assert (customer["name"], customer["phone"], customer["notes"]) == ("Fix it now then", "030 1", "Two\nlines")
    assert by.put(f"/api/customers/{customer['id']}", {"name": "Acme\nLtd"})["name"] == "Acme Ltd"
    pillars = f"/api/customers/{customer['id']}/pillars"
    pillar = by.post(pillars, {"name": "Host\n\ting"})
    assert pillar["name"] == "Host ing"
    assert problem(by.http.post(pillars, json={"name": "host\u2029ing"}), 409)["pillarId"] == pillar["id"]
    task = given.task(by, customer, title=ON_TWO_LINES, description="Two\nlines")
    assert (task["title"], task["description"]) == ("Fix it now then", "Two\nlines")
    assert given.logged(by, task, notes="Two\nlines")["notes"] == "Two\nlines"
    [result] = pushed(by, op("task.put", id=given.new_id(), title=ON_TWO_LINES, customerId=customer["id"]))
    assert result["outcome"] == "applied"
    titles = [row["title"] for row in by.get("/api/tasks", customer=customer["id"])["items"]]
    assert titles == ["Fix it now then"] * 2
    lead = {"name": ON_TWO_LINES, "email": "ada@example.com", "company": "Acme\nLtd", "message": "Two\nlines"}
    received = by.post("/api/leads", lead)
    [stored] = [row for row in by.get("/api/leads")["items"] if row["id"] == received["id"]]
    assert (stored["name"], stored["company"], stored["message"]) == ("Fix it now then", "Acme Ltd", "Two\nlines")


def test_the_name_of_a_token_is_stored_on_one_line(given: Given, stint: Installation) -> None:
    me = given.with_token(Mint(stint).token(name="Jo\n\tMiller\u202e")).get("/api/me")
    assert me["name"] == "Jo Miller"
    assert stint.rows("SELECT name FROM users WHERE id = %s", me["id"]) == [("Jo Miller",)]


def test_a_name_in_which_nothing_can_be_seen_is_422(given: Given) -> None:
    by = given.admin()
    customer = given.customer(by)
    for name in ("\u200b", "\u3164", "\u202e \u2800"):
        assert refused_fields(by.http.post("/api/customers", json={"name": name})) == ["name"]
        assert refused_fields(by.http.post("/api/tasks", json={"title": name, "customerId": customer["id"]})) == ["title"]
        assert refused_fields(by.http.post(f"/api/customers/{customer['id']}/pillars", json={"name": name})) == ["name"]
    assert by.get("/api/tasks", customer="\u200b")["items"] == []


def test_the_database_refuses_twins_of_other_writers(given: Given, stint: Installation) -> None:
    by = given.admin()
    customer = given.customer(by)
    by.post(f"/api/customers/{customer['id']}/pillars", {"name": "Café"})
    insert = """
        INSERT INTO pillars (id, customer_id, name) VALUES (gen_random_uuid(), %s, %s) ON CONFLICT DO NOTHING RETURNING id
    """
    assert stint.rows(insert, customer["id"], "CAFE\u0301") == []

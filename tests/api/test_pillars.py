"""Pillars: the areas of work agreed with a customer."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation


@pytest.fixture
def by(given: Given) -> Person:
    return given.person()


@pytest.fixture
def customer(given: Given, by: Person) -> Json:
    return given.customer(by)


@pytest.fixture
def path(customer: Json) -> str:
    return f"/api/customers/{customer['id']}/pillars"


def default_of(by: Person, path: str) -> Json:
    found: Json = next(pillar for pillar in by.get(path)["items"] if pillar["isDefault"])
    return found


def test_a_pillar_is_stored_as_it_was_sent(by: Person, customer: Json, path: str) -> None:
    body = {"name": " Hosting 🖥 ", "active": False, "xeroTaskId": "x", "slackChannelId": "C1"}
    pillar = by.post(path, body)
    expected = {"customerId": customer["id"], "name": "Hosting 🖥", "active": False, "isDefault": False, "xeroTaskId": "x",
                "slackChannelId": "C1", "version": 1}  # fmt: skip
    assert {name: pillar[name] for name in expected} == expected
    assert by.get(f"{path}/{pillar['id']}") == pillar


def test_pillars_are_listed_newest_first_with_the_default_one(by: Person, path: str) -> None:
    general = default_of(by, path)
    assert (general["name"], general["active"], general["version"]) == ("General Support", True, 1)
    made = [by.post(path, {"name": name}) for name in ("Hosting", "Network")]
    assert by.get(path)["items"] == [*made[::-1], general]
    first = by.get(path, limit=2)
    assert by.get(path, limit=2, cursor=first["nextCursor"])["items"] == [general]


def test_repeating_a_create_gives_the_same_answer(given: Given, by: Person, path: str) -> None:
    body = {"id": given.new_id(), "name": "Hosting", "xeroTaskId": "x"}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: by.http.post(path, json=body), range(10)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
    problem(by.http.post(path, json=body | {"xeroTaskId": "y"}), 409)
    problem(by.http.post(f"/api/customers/{given.customer(by)['id']}/pillars", json=body), 409)
    by.delete(f"{path}/{body['id']}")
    problem(by.http.post(path, json=body), 409)
    problem(by.http.post(path, json={"id": default_of(by, path)["id"], "name": "Other"}), 409)


def test_a_name_is_unique_for_a_customer_in_any_case(given: Given, by: Person, path: str) -> None:
    hosting, network = by.post(path, {"name": "Hosting ÄÖ"}), by.post(path, {"name": "Network"})
    assert problem(by.http.post(path, json={"name": " hosting äö "}), 409)["pillarId"] == hosting["id"]
    assert problem(by.http.put(f"{path}/{network['id']}", json={"name": "HOSTING ÄÖ"}), 409)["pillarId"] == hosting["id"]
    general = default_of(by, path)
    assert problem(by.http.post(path, json={"name": "GENERAL SUPPORT"}), 409)["pillarId"] == general["id"]
    assert by.put(f"{path}/{hosting['id']}", {"name": "HOSTING äö"})["name"] == "HOSTING äö"  # its own
    by.post(f"/api/customers/{given.customer(by)['id']}/pillars", {"name": "Hosting ÄÖ"})  # another customer's


def test_concurrent_creates_of_one_name_create_one_pillar(by: Person, path: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: by.http.post(path, json={"name": "Hosting"}), range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    made = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
    assert {answer.json()["pillarId"] for answer in answers if answer.status_code == 409} == {made}


def test_an_update_writes_only_the_fields_that_are_sent(by: Person, path: str) -> None:
    pillar = by.post(path, {"name": "Hosting", "xeroTaskId": "x", "slackChannelId": "C1"})
    changes: list[Json] = [
        {"name": "Network"},
        {"active": False},
        {"xeroTaskId": None},
        {"slackChannelId": None, "active": True},
    ]
    for change in changes:
        changed = by.put(f"{path}/{pillar['id']}", change)
        assert changed == pillar | change | {"version": pillar["version"] + 1, "updatedAt": changed["updatedAt"]}
        pillar = changed
    no_changes: list[Json] = [{}, {"version": 5}, {"name": None, "active": None}]
    for body in no_changes:
        assert refused_fields(by.http.put(f"{path}/{pillar['id']}", json=body)) == [""]
    assert by.get(f"{path}/{pillar['id']}") == pillar


def test_a_stale_update_or_deletion_is_409_with_the_current_pillar(by: Person, path: str) -> None:
    pillar = by.post(path, {"name": "Hosting"})
    changed = by.put(f"{path}/{pillar['id']}", {"name": "Network", "version": 1})
    assert problem(by.http.put(f"{path}/{pillar['id']}", json={"name": "Other", "version": 1}), 409)["current"] == changed
    assert problem(by.http.delete(f"{path}/{pillar['id']}", params={"version": 1}), 409)["current"] == changed
    by.delete(f"{path}/{pillar['id']}", version=2)


def test_the_default_pillar_can_be_renamed_but_not_inactivated_or_deleted(
    given: Given, by: Person, customer: Json, path: str
) -> None:
    general = default_of(by, path)
    renamed = by.put(f"{path}/{general['id']}", {"name": "Support", "active": True})
    problem(by.http.put(f"{path}/{general['id']}", json={"active": False}), 409)
    problem(by.http.delete(f"{path}/{general['id']}"), 409)
    assert by.get(f"{path}/{general['id']}") == renamed
    assert given.task(by, customer)["pillarId"] == general["id"]


def test_an_inactive_pillar_takes_no_new_tasks_and_existing_ones_continue(
    given: Given, by: Person, customer: Json, path: str
) -> None:
    pillar = by.post(path, {"name": "Hosting"})
    existing, on_default = given.task(by, customer, pillarId=pillar["id"]), given.task(by, customer)
    other = given.task(by)
    by.put(f"{path}/{pillar['id']}", {"active": False})

    target = {"customerId": customer["id"], "pillarId": pillar["id"]}
    assert refused_fields(by.http.post("/api/tasks", json={"title": "A", **target})) == ["pillarId"]
    for task in (on_default, other):
        assert refused_fields(by.http.put(f"/api/tasks/{task['id']}", json=target)) == ["pillarId"]
    assert by.put(f"/api/tasks/{existing['id']}", {"title": "B", **target})["pillarId"] == pillar["id"]  # it stays
    given.stopped(by, existing)
    by.put(f"{path}/{pillar['id']}", {"active": True})
    assert by.put(f"/api/tasks/{on_default['id']}", target)["pillarId"] == pillar["id"]


def test_of_concurrent_inactivations_of_one_version_one_succeeds(by: Person, path: str, stint: Installation) -> None:
    pillar = by.post(path, {"name": "Hosting"})
    with ThreadPoolExecutor(10) as pool:
        body = {"active": False, "version": 1}
        answers = list(pool.map(lambda _: by.http.put(f"{path}/{pillar['id']}", json=body).status_code, range(10)))
    assert sorted(answers) == [200] + [409] * 9
    assert stint.rows("SELECT active, version FROM pillars WHERE id = %s", pillar["id"]) == [(False, 2)]


def test_a_pillar_is_404_below_another_customer(given: Given, by: Person, path: str) -> None:
    pillar = by.post(path, {"name": "Hosting"})
    other = f"/api/customers/{given.customer(by)['id']}/pillars"
    for unknown_path in (
        f"{other}/{pillar['id']}",
        f"{path}/{given.new_id()}",
        f"/api/customers/{given.new_id()}/pillars/{pillar['id']}",
    ):
        for method in ("GET", "PUT", "DELETE"):
            problem(by.http.request(method, unknown_path, json={"name": "A"} if method == "PUT" else None), 404)
    problem(by.http.get(f"/api/customers/{given.new_id()}/pillars"), 404)
    problem(by.http.post(f"/api/customers/{given.new_id()}/pillars", json={"name": "A"}), 404)


@pytest.mark.parametrize("role", ["customer_user", "customer_admin"])
def test_a_customers_user_can_read_the_own_customers_pillars_and_not_write(
    role: str, given: Given, by: Person, customer: Json, path: str
) -> None:
    pillar = by.post(path, {"name": "Hosting"})
    own, other = given.person(role, customer["id"]), given.person(role, given.customer(by)["id"])
    assert own.get(path) | {"syncTimestamp": ""} == by.get(path) | {"syncTimestamp": ""}
    assert own.get(f"{path}/{pillar['id']}") == pillar
    unknown = problem(other.http.get(f"/api/customers/{given.new_id()}/pillars"), 404)
    for hidden in (path, f"{path}?limit=1"):
        assert problem(other.http.get(hidden), 404) | {"requestId": ""} == unknown | {"requestId": ""}
    problem(other.http.get(f"{path}/{pillar['id']}"), 404)
    for method in ("POST", "PUT", "DELETE"):
        where = path if method == "POST" else f"{path}/{pillar['id']}"
        problem(own.http.request(method, where, json=None if method == "DELETE" else {"name": "A"}), 403)


@pytest.mark.parametrize(("body", "fields"), [
    ({"name": ""}, ["name"]), ({"name": "a" * 201}, ["name"]), ({"name": ["Hosting"]}, ["name"]),
    ({"active": "yes"}, ["active"]), ({"xeroTaskId": 5, "slackChannelId": "a" * 101}, ["slackChannelId", "xeroTaskId"]),
    ({"isDefault": True}, ["isDefault"]), ({"customerId": "x"}, ["customerId"]),
])  # fmt: skip
def test_an_invalid_field_is_422_with_its_name(body: Json, fields: list[str], by: Person, path: str) -> None:
    assert sorted(refused_fields(by.http.post(path, json={"name": "Hosting"} | body))) == fields
    pillar = by.post(path, {"name": "Hosting"})
    assert sorted(refused_fields(by.http.put(f"{path}/{pillar['id']}", json=body))) == fields


def test_a_pillar_needs_a_name(by: Person, path: str) -> None:
    for body in ({}, {"name": None}, {"version": 1}):
        assert "name" in refused_fields(by.http.post(path, json=body))

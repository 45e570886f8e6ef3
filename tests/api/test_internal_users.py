"""Who the firm's own people are."""

from typing import Any

import pytest

from tests.api.answers import Json, at, problem
from tests.api.conftest import Another
from tests.api.tokens import ABSENT, Mint
from tests.given import Given, Person
from tests.installation import Installation


def listed(by: Person, limit: int = 1000) -> dict[str, Json]:
    found: dict[str, Json] = {}
    cursor: dict[str, Any] = {}
    while True:
        page = by.get("/api/tasks/internal-users", limit=limit, **cursor)
        assert not found.keys() & {item["id"] for item in page["items"]}
        found |= {item["id"]: item for item in page["items"]}
        if page["nextCursor"] is None:
            return found
        cursor = {"cursor": page["nextCursor"]}


@pytest.mark.parametrize("role", ["internal_admin", "internal_user", "internal_", "internal_accountant", "none"])
def test_the_firms_own_people_are_listed_with_the_role_that_they_have(role: str, given: Given) -> None:
    person = given.person(role)
    me = person.get("/api/me")
    assert listed(person)[person.id] == {name: me[name] for name in ("id", "email", "name", "role")}


@pytest.mark.parametrize("role", ["customer_admin", "customer_user", "visitor", "INTERNAL_ADMIN", " internal_user", "none"])
def test_others_are_not(role: str, given: Given) -> None:
    stranger = given.person(role, given.new_id() if role.startswith("customer") or role == "none" else None)
    if role == "none":
        problem(stranger.http.get("/api/me"), 403)
    assert stranger.email not in {item["email"] for item in listed(given.person()).values()}


def test_whose_access_was_removed_is_not_listed(given: Given, stint: Installation) -> None:
    leaver, by = given.people(2)
    assert leaver.id in listed(by)
    assert stint.command("user", "remove", leaver.email).returncode == 0
    assert leaver.id not in listed(by)
    problem(leaver.http.get("/api/tasks/internal-users"), 401)


def test_who_became_a_customers_user_is_not_listed(given: Given) -> None:
    by = given.person()
    person = given.person("internal_user")
    given.person("customer_user", given.new_id(), email=person.email)  # the token's word counts, and this is the latest
    assert person.id not in listed(by)


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_the_list_is_paged(limit: int, given: Given) -> None:
    people = given.people(5)
    found = list(listed(people[0], limit))
    assert {person.id for person in people} <= set(found)
    whole = [item["id"] for item in people[0].get("/api/tasks/internal-users", limit=1000)["items"]]
    assert [user for user in found if user in whole] == whole


def test_an_absent_role_is_admin_only_where_it_can_be(given: Given, another: Another) -> None:
    legacy, by = given.person("none"), given.person()
    assert listed(by)[legacy.id]["role"] == "admin"
    without = another(LEGACY_UNSET_ROLE="off")
    with at(without, by.token) as client, at(without, legacy.token) as refused:
        problem(refused.get("/api/me"), 403)
        items = client.get("/api/tasks/internal-users", params={"limit": 1000}).json()["items"]
        assert legacy.id not in {item["id"] for item in items}


def test_who_came_through_anothers_client_without_a_role_is_not_taken_for_an_admin(
    given: Given, stint: Installation, another: Another
) -> None:
    """A sign-in of a client that is not the firm's own is refused, and must leave nothing that looks like a legacy admin."""
    with_a_portal = another(AUTH_CLIENT_IDS="stint,portal")
    by = given.person()
    stranger = Mint(stint).token(aud="portal", role=ABSENT, email=f"{given.new_id()}@portal.example", name="Stranger")
    access = Mint(stint).token(aud=ABSENT, client_id="stint", token_use="access", role=ABSENT, email=ABSENT, name=ABSENT)
    before = set(listed(by))
    for token in (stranger, access):
        with at(with_a_portal, token) as client:
            problem(client.get("/api/me"), 403)
    with at(with_a_portal, by.token) as client:
        items = client.get("/api/tasks/internal-users", params={"limit": 1000}).json()["items"]
    assert {item["id"] for item in items} == before

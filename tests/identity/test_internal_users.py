"""The list of the firm's own people."""

from typing import Any

import pytest

from tests.identity.tokens import ABSENT, Mint
from tests.support.answers import Json, at, problem
from tests.support.apis import Another
from tests.support.given import Given, Person
from tests.support.installation import Installation


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
def test_internal_users_are_listed_with_their_role(role: str, given: Given) -> None:
    person = given.person(role)
    me = person.get("/api/me")
    assert listed(person)[person.id] == {name: me[name] for name in ("id", "email", "name", "role")}


@pytest.mark.parametrize("role", ["customer_admin", "customer_user", "visitor", "INTERNAL_ADMIN", " internal_user", "none"])
def test_other_roles_are_not_listed(role: str, given: Given) -> None:
    other = given.person(role, given.new_id() if role.startswith("customer") or role == "none" else None)
    if role == "none":
        problem(other.http.get("/api/me"), 403)
    assert other.email not in {item["email"] for item in listed(given.person()).values()}


def test_a_removed_user_is_not_listed(given: Given, stint: Installation) -> None:
    leaver, by = given.people(2)
    assert leaver.id in listed(by)
    assert stint.command("user", "remove", leaver.email).returncode == 0
    assert leaver.id not in listed(by)
    problem(leaver.http.get("/api/tasks/internal-users"), 401)


def test_a_user_who_became_a_customers_user_is_not_listed(given: Given) -> None:
    by = given.person()
    person = given.person("internal_user")
    given.person("customer_user", given.new_id(), email=person.email)  # the latest token decides
    assert person.id not in listed(by)


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_the_list_is_paged(limit: int, given: Given) -> None:
    people = given.people(5)
    found = list(listed(people[0], limit))
    assert {person.id for person in people} <= set(found)
    whole = [item["id"] for item in people[0].get("/api/tasks/internal-users", limit=1000)["items"]]
    assert [user for user in found if user in whole] == whole


def test_an_absent_role_means_admin_only_if_the_settings_allow_it(given: Given, another: Another) -> None:
    legacy, by = given.person("none"), given.person()
    assert listed(by)[legacy.id]["role"] == "admin"
    without = another(LEGACY_UNSET_ROLE="off")
    with at(without, by.token) as client, at(without, legacy.token) as refused:
        problem(refused.get("/api/me"), 403)
        items = client.get("/api/tasks/internal-users", params={"limit": 1000}).json()["items"]
        assert legacy.id not in {item["id"] for item in items}


def test_a_token_of_another_client_without_a_role_does_not_make_an_admin(
    given: Given, stint: Installation, another: Another
) -> None:
    """Such a token is refused, and must not store a user that looks like a legacy admin."""
    with_a_portal = another(AUTH_CLIENT_IDS="stint,portal")
    by = given.person()
    id_token = Mint(stint).token(aud="portal", role=ABSENT, email=f"{given.new_id()}@portal.example", name="Other")
    access_token = Mint(stint).token(aud=ABSENT, client_id="stint", token_use="access", role=ABSENT, email=ABSENT, name=ABSENT)
    before = set(listed(by))
    for token in (id_token, access_token):
        with at(with_a_portal, token) as client:
            problem(client.get("/api/me"), 403)
    with at(with_a_portal, by.token) as client:
        items = client.get("/api/tasks/internal-users", params={"limit": 1000}).json()["items"]
    assert {item["id"] for item in items} == before

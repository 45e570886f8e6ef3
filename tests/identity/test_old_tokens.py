"""Tokens that are older than what was said of their user since: they undo nothing, and are refused once the user's access has
changed. Everything holds in each API process."""

import itertools
import time
from typing import Any

import httpx2
import pytest

from tests.identity.tokens import ABSENT, Mint
from tests.support.answers import Json, at, problem
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def apis(stint: Installation, another: Another) -> list[Installation]:
    """Two API processes over one database."""
    return [stint, another(PUBLIC_URL="http://second.example.com")]


def me(apis: list[Installation], token: str) -> Json:
    """What every process answers."""
    answers = []
    for api in apis:
        with at(api, token) as client:
            answers.append(client.get("/api/me"))
    bodies: list[Json] = [answer.json() for answer in answers]
    assert [answer.status_code for answer in answers] == [200] * len(apis) and all(body == bodies[0] for body in bodies), bodies
    return bodies[0]


def refused(apis: list[Installation], token: str) -> None:
    for api in apis:
        with at(api, token) as client:
            assert "sign in again" in problem(client.get("/api/me"), 401)["detail"]


def command(stint: Installation, *words: str) -> str:
    done = stint.command(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def stored(stint: Installation, email: str) -> tuple[Any, ...]:
    [row] = stint.rows("SELECT name, role FROM users WHERE email = %s AND revoked_at IS NULL", email)
    return row


# What was said last is the truth


@pytest.mark.parametrize(
    ("before", "after", "role"), [("internal_admin", "internal_user", "internal"), ("internal_user", "internal_admin", "admin")]
)
def test_an_older_token_does_not_undo_a_new_role_or_a_new_name(
    before: str, after: str, role: str, given: Given, stint: Installation, apis: list[Installation]
) -> None:
    person = given.person(before)
    me(apis, person.token)

    command(stint, "user", "add", person.email, "--role", after, "--name", "New Name")

    for _ in range(2):
        seen = me(apis, person.token)
        assert (seen["role"], seen["name"]) == (role, "New Name")
    assert stored(stint, person.email) == ("New Name", after)
    listed = person.get("/api/tasks/internal-users", limit=1000)["items"]
    assert [item["role"] for item in listed if item["id"] == person.id] == [role]


def test_a_demoted_admin_may_do_nothing_that_admins_may(given: Given, stint: Installation, apis: list[Installation]) -> None:
    admin = given.admin()
    command(stint, "user", "add", admin.email, "--role", "internal_user")
    for api in apis:
        with at(api, admin.token) as client:
            problem(client.get("/api/dead-letters"), 403)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_tokens_that_commands_print_in_one_second_the_last_command_counts(
    order: tuple[int, ...], given: Given, stint: Installation, apis: list[Installation]
) -> None:
    email = f"{given.new_id()}@example.com"
    tokens = [given.person(role, email=email).token for role in ("internal_user", "internal_admin", "internal_accountant")]
    for number in order:
        assert me(apis, tokens[number])["role"] == "internal"
        assert stored(stint, email)[1] == "internal_accountant"


def test_a_token_for_a_known_address_gives_it_that_role_as_any_command(
    given: Given, stint: Installation, apis: list[Installation]
) -> None:
    person = given.person("internal_user")
    words = ("token", "--email", person.email, "--role")

    token = command(stint, *words, "internal_admin")

    assert me(apis, token)["role"] == me(apis, person.token)["role"] == "admin"
    assert stored(stint, person.email)[1] == "internal_admin"
    # no role in the token: the account stays as it is, and the token is of no use
    without = command(stint, *words, "none")
    with at(stint, without) as client:
        problem(client.get("/api/me"), 403)
    assert me(apis, token)["role"] == "admin"


def test_a_code_signs_in_with_the_present_role(given: Given, stint: Installation, apis: list[Installation]) -> None:
    person = given.admin()
    code = given.code(person)
    command(stint, "user", "add", person.email, "--role", "internal_user")
    signed_in = httpx2.post(f"{stint.url}/auth/token", json={"email": person.email, "code": code}).json()
    assert me(apis, signed_in["idToken"])["role"] == me(apis, person.token)["role"] == "internal"


def test_tokens_of_the_version_before_undo_nothing(given: Given, stint: Installation, apis: list[Installation]) -> None:
    """They name no version of the access, as those of a user pool: the time at which they were issued decides."""
    mint, person = Mint(stint), given.admin()
    older = mint.token(sub=person.id, email=person.email, name="Old", iat=int(time.time()) - 3600)
    same_second = mint.token(sub=person.id, email=person.email, name="Old")
    command(stint, "user", "add", person.email, "--role", "internal_user", "--name", "New")
    for token in (older, same_second):
        assert (me(apis, token)["role"], me(apis, token)["name"]) == ("internal", "New")
    later = mint.token(sub=person.id, email=person.email, name="Newest", iat=int(time.time()) + 2)
    assert (me(apis, later)["role"], stored(stint, person.email)) == ("admin", ("Newest", "internal_admin"))
    assert me(apis, older)["name"] == "Newest"


def test_a_token_without_a_name_does_not_remove_the_name(given: Given, stint: Installation) -> None:
    mint, person = Mint(stint), given.admin()
    token = mint.token(sub=person.id, email=person.email, name=ABSENT, iat=int(time.time()) + 2)
    assert me([stint], token)["name"] == person.get("/api/me")["name"]


# Tokens of before the last change of access


def test_removed_and_added_again_old_tokens_are_refused_and_new_ones_work_at_once(
    given: Given, stint: Installation, apis: list[Installation]
) -> None:
    person = given.person()
    old = [person.token, Mint(stint).token(sub=person.id, email=person.email, role="internal_user")]
    for number in range(3):
        me(apis, old[0])
        command(stint, "user", "remove", person.email)
        command(stint, "user", "add", person.email)
        new = given.person("internal_user", email=person.email).token  # most likely in the same second
        me(apis, new)
        for token in old:
            refused(apis, token)
        me(apis, new)
        old = [new]
        assert stint.value("SELECT access_version FROM users WHERE id = %s", person.id) == 2 * (number + 1)


def test_a_token_of_the_very_second_of_the_removal_is_refused(given: Given, stint: Installation) -> None:
    """It has no version, so that nobody can tell whether it is of before; one of the next second works."""
    person, mint = given.person(), Mint(stint)
    stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING 1", person.id)
    stint.rows("UPDATE users SET revoked_at = NULL WHERE id = %s RETURNING 1", person.id)
    second = int(stint.value("SELECT floor(extract(epoch FROM sessions_after)) FROM users WHERE id = %s", person.id))
    token = {at: mint.token(sub=person.id, email=person.email, role="internal_user", iat=at) for at in (second, second + 1)}
    refused([stint], token[second])
    me([stint], token[second + 1])
    refreshed = mint.token(sub=person.id, email=person.email, role="internal_user", iat=second + 5, auth_time=second)
    refused([stint], refreshed)  # of a session that began before


def test_a_user_who_changes_sides_or_customers_needs_a_new_token(
    given: Given, stint: Installation, apis: list[Installation]
) -> None:
    by = given.person()
    acme, other = given.customer(by), given.customer(by)
    email = f"{given.new_id()}@acme.example"
    steps: list[tuple[str, str | None]] = [
        ("customer_user", acme["id"]), ("customer_user", other["id"]), ("customer_user", acme["id"]),
        ("internal_user", None), ("customer_admin", acme["id"]),
    ]  # fmt: skip
    old: list[str] = []
    for role, customer in steps:
        token = given.person(role, customer, email=email).token
        assert me(apis, token)["customerId"] == customer
        for before in old:
            refused(apis, before)
        old.append(token)
    assert me(apis, old[-1])["role"] == "customer_admin"


def test_a_customers_user_keeps_the_session_when_the_role_changes(given: Given, apis: list[Installation]) -> None:
    customer = given.customer(given.person())
    person = given.person("customer_user", customer["id"])
    given.person("customer_admin", customer["id"], email=person.email)
    assert me(apis, person.token)["role"] == "customer_admin"


def test_tokens_of_another_customer_that_name_no_version_are_refused(given: Given, stint: Installation) -> None:
    by, mint = given.person(), Mint(stint)
    acme, other = given.customer(by)["id"], given.customer(by)["id"]
    sub, now = given.new_id(), int(time.time())

    def token(customer: str, issued: int) -> str:
        return mint.token(sub=sub, role="customer_user", customer=customer, iat=issued, email=f"{sub}@acme.example")

    first, second, third = token(acme, now - 30), token(other, now - 20), token(acme, now - 10)
    for current, old in ((first, []), (second, [first]), (third, [first, second])):
        assert me([stint], current)["customerId"] in (acme, other)
        for before in old:
            refused([stint], before)


def test_a_customers_deletion_ends_the_sessions_of_its_users(given: Given, apis: list[Installation]) -> None:
    by = given.person()
    customer = given.customer(by)
    person = given.person("customer_user", customer["id"])
    me(apis, person.token)
    by.delete(f"/api/customers/{customer['id']}")
    for api in apis:
        with at(api, person.token) as client:
            problem(client.get("/api/me"), 401)


# Signing out


def test_signing_out_ends_all_sessions_of_the_user_in_every_process(given: Given, apis: list[Installation]) -> None:
    laptop = given.person()
    phone = given.person("internal_user", email=laptop.email)
    colleague = given.person()
    for person in (laptop, phone, colleague):
        me(apis, person.token)

    answer = laptop.http.post("/auth/sign-out")

    assert (answer.status_code, answer.content) == (204, b"")
    for person in (laptop, phone):
        refused(apis, person.token)
    me(apis, colleague.token)
    me(apis, given.person("internal_user", email=laptop.email).token)
    problem(laptop.http.post("/auth/sign-out"), 401)


@pytest.mark.parametrize("names", [("iat", "auth_time"), ("iat",), ("auth_time",)])
def test_signing_out_refuses_the_requests_token_if_its_issuers_clock_is_ahead(
    names: tuple[str, ...], given: Given, stint: Installation
) -> None:
    person = given.person()
    ahead = int(time.time()) + 30
    times: dict[str, Any] = {"iat": int(time.time())} | dict.fromkeys(names, ahead)
    token = Mint(stint).token(sub=person.id, email=person.email, role="internal_user", **times)
    me([stint], token)
    with at(stint, token) as client:
        assert client.post("/auth/sign-out").status_code == 204
    refused([stint], token)
    older = Mint(stint).token(sub=person.id, email=person.email, role="internal_user", iat=ahead, auth_time=ahead - 1)
    refused([stint], older)


def test_the_command_signs_a_user_out(given: Given, stint: Installation, apis: list[Installation]) -> None:
    customer = given.customer(given.person())
    for role, customer_id in (("internal_admin", None), ("customer_user", customer["id"])):
        person = given.person(role, customer_id)
        me(apis, person.token)
        assert person.email in command(stint, "user", "sign-out", person.email)
        refused(apis, person.token)
        me(apis, given.person(role, customer_id, email=person.email).token)
    done = stint.command("user", "sign-out", "nobody@example.com")
    assert (done.returncode, done.stdout) == (1, "") and "nobody@example.com" in done.stderr

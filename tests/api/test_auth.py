"""Who is let in, and as whom; what an absent role may mean. What is no good token at all: test_token_corpus.py."""

import time
from uuid import uuid4

import httpx
import pytest

from tests.api.answers import at, problem
from tests.api.conftest import Another
from tests.api.tokens import ABSENT, Mint
from tests.given import Given
from tests.installation import Installation, eventually


@pytest.fixture(scope="module")
def mint(stint: Installation) -> Mint:
    httpx.get(f"{stint.url}/.well-known/jwks.json").raise_for_status()  # makes the first key
    return Mint(stint)


def me(stint: Installation, token: str) -> httpx.Response:
    return httpx.get(f"{stint.url}/api/me", headers={"Authorization": f"Bearer {token}"})


def role_of(stint: Installation, token: str) -> str:
    answer = me(stint, token)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["role"])


@pytest.mark.parametrize("header", [
    None, "", "Bearer", "Basic YTpi", "Token abc", "Bearer a.b", "Bearer a.b.c", "Bearer a b c", "Bearer " + "a" * 9000,
    "Bearer ..", "Bearer e30.e30.e30",
])  # fmt: skip
def test_what_is_no_token_is_401(header: str | None, stint: Installation) -> None:
    answer = httpx.get(f"{stint.url}/api/me", headers={} if header is None else {b"Authorization": header.encode()})
    problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_scheme_is_bearer_in_any_case(stint: Installation, mint: Mint) -> None:
    assert httpx.get(f"{stint.url}/api/me", headers={"Authorization": f"bEaReR  {mint.token()}"}).status_code == 200


def test_a_token_ends_when_it_says_although_it_was_verified_before(stint: Installation, mint: Mint) -> None:
    while True:
        exp = int(time.time()) + 2
        token = mint.token(exp=exp)
        if (status := me(stint, token).status_code) == 200:
            break
        assert (status, time.time() >= exp) == (401, True)  # the answer came when it had ended already: once more
    problem(eventually(lambda: (answer := me(stint, token)).status_code != 200 and answer, seconds=4), 401)


def test_a_removed_user_is_refused_at_the_very_next_request(given: Given, stint: Installation) -> None:
    person = given.person("internal_user")
    person.get("/api/tasks")

    assert stint.command("user", "remove", person.email).returncode == 0
    problem(person.http.get("/api/tasks"), 401)

    assert stint.command("user", "add", person.email, "--role", "internal_user").returncode == 0
    person.get("/api/tasks")


@pytest.mark.parametrize(("claim", "role"), [
    ("internal_admin", "admin"), ("internal_user", "internal"), ("internal_consultant", "internal"), ("internal_", "internal"),
])  # fmt: skip
def test_an_internal_role_opens_the_firms_doors(claim: str, role: str, stint: Installation, mint: Mint) -> None:
    assert role_of(stint, mint.token(role=claim)) == role
    assert role_of(stint, mint.token(role=claim, token_use="access", client_id="stint", aud=ABSENT)) == role


@pytest.mark.parametrize("claim", [
    "", " ", "admin", "visitor", "Internal_admin", "internal", "xinternal_admin", "customer", "customer_",
    "customer_owner", 5, True, [], ["internal_admin"], {"internal_admin": 1},
])  # fmt: skip
def test_any_other_role_is_403(claim: object, stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    problem(me(stint, mint.token(sub=sub, role=claim)), 403)
    # whatever it was, it was a role: without one, this person is no legacy admin
    problem(me(stint, mint.token(sub=sub, role=ABSENT)), 403)


@pytest.mark.parametrize("role", ["customer_user", "customer_admin"])
@pytest.mark.parametrize("customer", [ABSENT, None, ""])
def test_a_customers_role_without_a_customer_is_403(role: str, customer: object, stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    problem(me(stint, mint.token(sub=sub, role=role, customer=customer)), 403)
    problem(me(stint, mint.token(sub=sub, role=ABSENT)), 403)


def test_a_customers_user_is_told_whose(stint: Installation, mint: Mint) -> None:
    customer = str(uuid4())
    body = me(stint, mint.token(role="customer_user", customer=customer)).json()
    assert (body["role"], body["customerId"], body["permissions"]) == ("customer_user", customer, ["read"])


def test_a_customer_in_an_internal_token_changes_nothing(stint: Installation, mint: Mint) -> None:
    body = me(stint, mint.token(role="internal_user", customer=str(uuid4()))).json()
    assert (body["role"], body["customerId"]) == ("internal", None)


# An absent role: the whole table.


def test_without_a_role_a_fresh_user_of_an_own_client_is_a_legacy_admin(stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    for _ in range(2):  # and stays one
        assert role_of(stint, mint.token(sub=sub, role=ABSENT)) == "admin"


def test_without_a_role_an_access_token_is_403(stint: Installation, mint: Mint) -> None:
    problem(me(stint, mint.token(role=ABSENT, token_use="access", client_id="stint", aud=ABSENT)), 403)
    problem(me(stint, mint.token(role=ABSENT, token_use="access", client_id="stint")), 403)


def test_without_a_role_a_token_of_another_client_is_403(mint: Mint, another: Another) -> None:
    api = another(AUTH_CLIENT_IDS="stint, portal", INTERNAL_CLIENT_IDS="stint")
    problem(me(api, mint.token(role=ABSENT, aud="portal")), 403)
    assert role_of(api, mint.token(role="internal_user", aud="portal")) == "internal"
    assert role_of(api, mint.token(role=ABSENT, aud="stint")) == "admin"


def test_without_a_role_nobody_is_admin_when_legacy_is_off(mint: Mint, another: Another) -> None:
    api = another(LEGACY_UNSET_ROLE="off")
    problem(me(api, mint.token(role=ABSENT)), 403)
    assert role_of(api, mint.token()) == "admin"


@pytest.mark.parametrize("earlier", ["internal_admin", "internal_user", "visitor", ""])
def test_without_a_role_who_had_one_before_is_403(earlier: str, stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    me(stint, mint.token(sub=sub, role=earlier))
    problem(me(stint, mint.token(sub=sub, role=ABSENT)), 403)
    problem(me(stint, mint.token(sub=sub, role=ABSENT)), 403)


def test_without_a_role_who_was_a_customers_user_is_403(stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    assert role_of(stint, mint.token(sub=sub, role="customer_user", customer=str(uuid4()))) == "customer_user"
    problem(me(stint, mint.token(sub=sub, role=ABSENT)), 403)


def test_without_a_role_but_with_a_customer_is_403(stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    problem(me(stint, mint.token(sub=sub, role=ABSENT, customer=str(uuid4()))), 403)
    problem(me(stint, mint.token(sub=sub, role=ABSENT)), 403)


def test_a_role_that_is_null_is_not_absent(stint: Installation, mint: Mint) -> None:
    problem(me(stint, mint.token(role=None)), 403)


def test_whoever_the_terminal_gave_a_role_is_no_legacy_admin(given: Given, stint: Installation, mint: Mint) -> None:
    person = given.person("internal_user")
    problem(me(stint, mint.token(sub=person.id, role=ABSENT)), 403)


def test_a_revoked_user_is_401_whatever_the_role(given: Given, stint: Installation, mint: Mint) -> None:
    person = given.person("internal_user")
    assert stint.command("user", "remove", person.email).returncode == 0
    for role in ("internal_admin", "customer_user", "visitor", ABSENT):
        problem(me(stint, mint.token(sub=person.id, role=role, customer=str(uuid4()))), 401)


def test_the_token_says_who_somebody_is_now(stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    with at(stint, mint.token(sub=sub, email="ann@example.com", name="Ann")) as ann:
        assert ann.get("/api/me").json()["permissions"] == ["read", "log_time", "approve"]
    renamed = me(stint, mint.token(sub=sub, email="anna@example.com", name="Anna", role="internal_user")).json()
    assert (renamed["id"], renamed["email"], renamed["name"], renamed["role"]) == (sub, "anna@example.com", "Anna", "internal")
    remembered = stint.rows("SELECT email, name, role FROM users WHERE id = %s", sub)
    assert remembered == [("anna@example.com", "Anna", "internal_user")]

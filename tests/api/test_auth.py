"""Authentication: the user and role of a valid token, with and without a role. test_token_corpus.py tests invalid ones."""

import time
from uuid import uuid4

import httpx2
import pytest

from tests.identity.tokens import ABSENT, Mint
from tests.support.answers import at, problem
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation, eventually


@pytest.fixture(scope="module")
def mint(stint: Installation) -> Mint:
    httpx2.get(f"{stint.url}/.well-known/jwks.json").raise_for_status()  # creates the first key
    return Mint(stint)


def get_me(stint: Installation, token: str) -> httpx2.Response:
    return httpx2.get(f"{stint.url}/api/me", headers={"Authorization": f"Bearer {token}"})


def get_role(stint: Installation, token: str) -> str:
    answer = get_me(stint, token)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["role"])


@pytest.mark.parametrize("header", [
    None, "", "Bearer", "Basic YTpi", "Token abc", "Bearer a.b", "Bearer a.b.c", "Bearer a b c", "Bearer " + "a" * 9000,
    "Bearer ..", "Bearer e30.e30.e30",
])  # fmt: skip
def test_a_malformed_header_is_401(header: str | None, stint: Installation) -> None:
    answer = httpx2.get(f"{stint.url}/api/me", headers={} if header is None else {b"Authorization": header.encode()})
    problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_scheme_is_bearer_in_any_case(stint: Installation, mint: Mint) -> None:
    assert httpx2.get(f"{stint.url}/api/me", headers={"Authorization": f"bEaReR  {mint.token()}"}).status_code == 200


def test_a_token_expires_although_it_is_cached_as_verified(stint: Installation, mint: Mint) -> None:
    while True:
        exp = int(time.time()) + 2
        token = mint.token(exp=exp)
        if (status := get_me(stint, token).status_code) == 200:
            break
        assert (status, time.time() >= exp) == (401, True)  # the token expired before the answer: try again
    problem(eventually(lambda: (answer := get_me(stint, token)).status_code != 200 and answer, seconds=4), 401)


def test_a_removed_user_is_refused_at_the_very_next_request(given: Given, stint: Installation) -> None:
    person = given.person("internal_user")
    person.get("/api/tasks")

    assert stint.command("user", "remove", person.email).returncode == 0
    problem(person.http.get("/api/tasks"), 401)

    assert stint.command("user", "add", person.email, "--role", "internal_user").returncode == 0
    problem(person.http.get("/api/tasks"), 401)  # the token is older than the removal
    given.person("internal_user", email=person.email).get("/api/tasks")


@pytest.mark.parametrize(("claim", "role"), [
    ("internal_admin", "admin"), ("internal_user", "internal"), ("internal_consultant", "internal"), ("internal_", "internal"),
])  # fmt: skip
def test_an_internal_role_is_admin_or_internal(claim: str, role: str, stint: Installation, mint: Mint) -> None:
    assert get_role(stint, mint.token(role=claim)) == role
    assert get_role(stint, mint.token(role=claim, token_use="access", client_id="stint", aud=ABSENT)) == role


@pytest.mark.parametrize("claim", [
    "", " ", "admin", "visitor", "Internal_admin", "internal", "xinternal_admin", "customer", "customer_",
    "customer_owner", 5, True, [], ["internal_admin"], {"internal_admin": 1},
])  # fmt: skip
def test_any_other_role_is_403(claim: object, stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    problem(get_me(stint, mint.token(sub=sub, role=claim)), 403)
    # it was a role, so a later token without one does not mean legacy admin
    problem(get_me(stint, mint.token(sub=sub, role=ABSENT)), 403)


@pytest.mark.parametrize("role", ["customer_user", "customer_admin"])
@pytest.mark.parametrize("customer", [ABSENT, None, ""])
def test_a_customers_role_without_a_customer_is_403(role: str, customer: object, stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    problem(get_me(stint, mint.token(sub=sub, role=role, customer=customer)), 403)
    problem(get_me(stint, mint.token(sub=sub, role=ABSENT)), 403)


def test_a_customers_user_has_the_customer_of_the_token(stint: Installation, mint: Mint) -> None:
    customer = str(uuid4())
    body = get_me(stint, mint.token(role="customer_user", customer=customer)).json()
    assert (body["role"], body["customerId"], body["permissions"]) == ("customer_user", customer, ["read"])


def test_the_customer_of_an_internal_token_is_ignored(stint: Installation, mint: Mint) -> None:
    body = get_me(stint, mint.token(role="internal_user", customer=str(uuid4()))).json()
    assert (body["role"], body["customerId"]) == ("internal", None)


# Tokens without a role


def test_without_a_role_a_new_user_of_an_own_client_is_a_legacy_admin(stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    for _ in range(2):  # also the second time
        assert get_role(stint, mint.token(sub=sub, role=ABSENT)) == "admin"


def test_without_a_role_an_access_token_is_403(stint: Installation, mint: Mint) -> None:
    problem(get_me(stint, mint.token(role=ABSENT, token_use="access", client_id="stint", aud=ABSENT)), 403)
    problem(get_me(stint, mint.token(role=ABSENT, token_use="access", client_id="stint")), 403)


def test_without_a_role_a_token_of_another_client_is_403(mint: Mint, another: Another) -> None:
    api = another(AUTH_CLIENT_IDS="stint, portal", INTERNAL_CLIENT_IDS="stint")
    problem(get_me(api, mint.token(role=ABSENT, aud="portal")), 403)
    assert get_role(api, mint.token(role="internal_user", aud="portal")) == "internal"
    assert get_role(api, mint.token(role=ABSENT, aud="stint")) == "admin"


def test_without_a_role_a_user_is_403_when_legacy_is_off(mint: Mint, another: Another) -> None:
    api = another(LEGACY_UNSET_ROLE="off")
    problem(get_me(api, mint.token(role=ABSENT)), 403)
    assert get_role(api, mint.token()) == "admin"


@pytest.mark.parametrize("earlier", ["internal_admin", "internal_user", "visitor", ""])
def test_without_a_role_a_user_who_had_one_is_403(earlier: str, stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    get_me(stint, mint.token(sub=sub, role=earlier))
    problem(get_me(stint, mint.token(sub=sub, role=ABSENT)), 403)
    problem(get_me(stint, mint.token(sub=sub, role=ABSENT)), 403)


def test_without_a_role_a_former_customers_user_is_403(stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    assert get_role(stint, mint.token(sub=sub, role="customer_user", customer=str(uuid4()))) == "customer_user"
    problem(get_me(stint, mint.token(sub=sub, role=ABSENT)), 403)


def test_without_a_role_but_with_a_customer_is_403(stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    problem(get_me(stint, mint.token(sub=sub, role=ABSENT, customer=str(uuid4()))), 403)
    problem(get_me(stint, mint.token(sub=sub, role=ABSENT)), 403)


def test_a_null_role_is_not_absent(stint: Installation, mint: Mint) -> None:
    problem(get_me(stint, mint.token(role=None)), 403)


def test_a_user_with_a_role_from_the_command_line_is_not_a_legacy_admin(given: Given, stint: Installation, mint: Mint) -> None:
    person = given.person("internal_user")
    problem(get_me(stint, mint.token(sub=person.id, role=ABSENT)), 403)


def test_a_revoked_user_is_401_whatever_the_role(given: Given, stint: Installation, mint: Mint) -> None:
    person = given.person("internal_user")
    assert stint.command("user", "remove", person.email).returncode == 0
    for role in ("internal_admin", "customer_user", "visitor", ABSENT):
        problem(get_me(stint, mint.token(sub=person.id, role=role, customer=str(uuid4()))), 401)


def test_the_latest_token_replaces_email_name_and_role(stint: Installation, mint: Mint) -> None:
    sub = str(uuid4())
    with at(stint, mint.token(sub=sub, email="ann@example.com", name="Ann", iat=int(time.time()) - 2)) as ann:
        assert ann.get("/api/me").json()["permissions"] == ["read", "log_time", "approve"]
    renamed = get_me(stint, mint.token(sub=sub, email="anna@example.com", name="Anna", role="internal_user")).json()
    assert (renamed["id"], renamed["email"], renamed["name"], renamed["role"]) == (sub, "anna@example.com", "Anna", "internal")
    stored = stint.rows("SELECT email, name, role FROM users WHERE id = %s", sub)
    assert stored == [("anna@example.com", "Anna", "internal_user")]

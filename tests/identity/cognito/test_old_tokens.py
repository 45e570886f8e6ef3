"""Tokens of a user pool that are older than what the pool says of their user now."""

from typing import Any

import pytest

from tests.identity.cognito.pool import set_mode
from tests.support.answers import Json, at, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation
from tests.support.user_pool import UserPool


def me(firm: Installation, token: str) -> Json:
    with at(firm, token) as client:
        answer = client.get("/api/me")
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def change(pool: UserPool, email: str, **attributes: Any) -> str:
    """A token after the change, most likely of the same second as one before it."""
    names = {"role": "custom:userRole", "customer": "custom:customerId"}
    values = [{"Name": names.get(name, name), "Value": value} for name, value in attributes.items()]
    pool.client.admin_update_user_attributes(UserPoolId=pool.id, Username=email, UserAttributes=values)
    return pool.tokens(email)["IdToken"]


@pytest.mark.parametrize(
    ("before", "after", "role"), [("internal_admin", "internal_user", "internal"), ("internal_user", "internal_admin", "admin")]
)
def test_of_two_tokens_of_one_second_the_pool_says_which_counts(
    before: str, after: str, role: str, people: Given, pool: UserPool, firm: Installation
) -> None:
    email = pool.add(before)
    old = pool.tokens(email)["IdToken"]
    me(firm, old)

    new = change(pool, email, role=after)

    for token in (new, old, new, old):
        assert me(firm, token)["role"] == role
    assert firm.value("SELECT role FROM users WHERE email = %s", email) == after


def test_a_token_of_another_customer_is_refused_once_the_user_has_moved(
    people: Given, pool: UserPool, firm: Installation, acme: Json, admin: Person
) -> None:
    other = people.customer(admin)
    email = pool.add("customer_user", acme["id"])
    old = pool.tokens(email)["IdToken"]
    assert me(firm, old)["customerId"] == acme["id"]
    new = change(pool, email, customer=other["id"])
    assert me(firm, new)["customerId"] == other["id"]
    with at(firm, old) as client:
        problem(client.get("/api/me"), 401)
    assert me(firm, new)["customerId"] == other["id"]


def test_while_the_pool_does_not_answer_what_is_stored_counts(people: Given, pool: UserPool, firm: Installation) -> None:
    email = pool.add("internal_admin")
    me(firm, pool.tokens(email)["IdToken"])
    new = change(pool, email, role="internal_user")
    set_mode(pool, "refuse")
    assert me(firm, new)["role"] == "admin"
    set_mode(pool, "pass")
    assert me(firm, new)["role"] == "internal"


def test_signing_out_here_refuses_the_pools_tokens_too(people: Given, pool: UserPool, firm: Installation) -> None:
    routes, by_command = pool.add("internal_user"), pool.add("internal_user")
    for email in (routes, by_command):
        token = pool.tokens(email)["IdToken"]
        me(firm, token)
        if email == routes:
            with at(firm, token) as client:
                assert client.post("/auth/sign-out").status_code == 204
        else:
            assert "in a minute" in firm.command("user", "sign-out", email).stdout
            ahead = firm.value("SELECT extract(epoch FROM sessions_after - now())::float FROM users WHERE email = %s", email)
            assert 50 < ahead <= 60  # the pool's clock may be ahead by that
        with at(firm, token) as client:
            problem(client.get("/api/me"), 401)

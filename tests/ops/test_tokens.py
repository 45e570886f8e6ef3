"""`./stint token`: valid and refused roles and customers."""

import asyncio

import pytest

from ops import users
from ops.errors import CommandError
from tests.support.given import Given
from tests.support.installation import Installation


def test_a_token_is_for_a_customer_that_is_there(given: Given, stint: Installation) -> None:
    by = given.person()
    customer, gone = given.customer(by), given.customer(by)
    by.delete(f"/api/customers/{gone['id']}")
    words = ("token", "--role", "customer_user", "--email", f"{given.new_id()}@acme.example", "--customer")

    made = stint.command(*words, customer["id"])
    assert given.with_token(made.stdout.strip()).get("/api/me")["customerId"] == customer["id"]

    for nowhere in (gone["id"], given.new_id(), "acme"):
        done = stint.command(*words, nowhere)
        assert (done.returncode, done.stdout) == (1, "") and nowhere in done.stderr and "GET /api/customers" in done.stderr


def test_a_removed_first_admin_stays_removed_and_gets_no_link(
    given: Given, stint: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "settings", lambda: stint.settings)
    email = given.admin().email
    assert asyncio.run(users.ensure_first_admin(email)) and asyncio.run(users.make_link(email, stint.url))
    assert stint.command("user", "remove", email).returncode == 0
    assert not asyncio.run(users.ensure_first_admin(email))
    with pytest.raises(CommandError, match="has no account, or no access"):
        asyncio.run(users.make_link(email, stint.url))
    assert stint.value("SELECT revoked_at IS NOT NULL FROM users WHERE email = %s", email)


@pytest.mark.parametrize("role", ["visitor", "", "admin", "Internal_admin", "customer_owner", "None"])
def test_an_unknown_role_is_refused(role: str, stint: Installation, given: Given) -> None:
    done = stint.command("token", "--role", role, "--email", f"{given.new_id()}@example.com")
    assert (done.returncode, done.stdout) == (1, "") and "internal_admin" in done.stderr


@pytest.mark.parametrize(
    ("role", "found"), [("none", "admin"), ("internal_accountant", "internal"), ("internal_admin", "admin")]
)
def test_every_other_role_gets_one(role: str, found: str, stint: Installation, given: Given) -> None:
    done = stint.command("token", "--role", role, "--email", f"{given.new_id()}@example.com")
    assert given.with_token(done.stdout.strip()).get("/api/me")["role"] == found


def role_and_customer(stint: Installation, email: str) -> tuple[str | None, str | None]:
    ((role, customer_id),) = stint.rows("SELECT role, customer_id::text FROM users WHERE email = %s", email)
    return role, customer_id


def test_adding_a_known_user_without_a_role_changes_no_role(given: Given, stint: Installation) -> None:
    admin = given.admin()
    for words in ((), ("--name", "New")):
        assert "(internal_admin)" in stint.command("user", "add", admin.email.upper(), *words).stdout
        assert role_and_customer(stint, admin.email) == ("internal_admin", None)
    stint.command("user", "remove", admin.email)
    stint.command("user", "add", admin.email)
    assert role_and_customer(stint, admin.email) == ("internal_user", None)


@pytest.mark.parametrize("role", ["customer_user", "customer_admin"])
@pytest.mark.parametrize("is_removed", [False, True], ids=["with access", "removed"])
def test_a_customers_user_becomes_internal_only_when_that_is_said(
    role: str, is_removed: bool, given: Given, stint: Installation
) -> None:
    customer = given.customer(given.person())
    user = given.person(role, customer["id"])
    if is_removed:
        stint.command("user", "remove", user.email)
    refused = stint.command("user", "add", user.email)
    assert refused.returncode == 1 and "customer's user" in refused.stderr
    assert role_and_customer(stint, user.email) == (role, customer["id"])
    assert stint.command("user", "add", user.email, "--role", "internal_user").returncode == 0
    assert role_and_customer(stint, user.email) == ("internal_user", None)

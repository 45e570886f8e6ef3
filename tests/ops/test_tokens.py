"""`./stint token`: for whom it makes one, and how it says no."""

import pytest

from tests.given import Given
from tests.installation import Installation


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


@pytest.mark.parametrize("role", ["visitor", "", "admin", "Internal_admin", "customer_owner", "None"])
def test_a_role_that_opens_no_door_is_refused(role: str, stint: Installation, given: Given) -> None:
    done = stint.command("token", "--role", role, "--email", f"{given.new_id()}@example.com")
    assert (done.returncode, done.stdout) == (1, "") and "internal_admin" in done.stderr


@pytest.mark.parametrize(
    ("role", "found"), [("none", "admin"), ("internal_accountant", "internal"), ("internal_admin", "admin")]
)
def test_every_other_role_gets_one(role: str, found: str, stint: Installation, given: Given) -> None:
    done = stint.command("token", "--role", role, "--email", f"{given.new_id()}@example.com")
    assert given.with_token(done.stdout.strip()).get("/api/me")["role"] == found

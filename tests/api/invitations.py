"""Invites users of a customer for tests."""

from typing import Any

from tests.support.answers import Json
from tests.support.given import Given, Person
from tests.support.installation import Installation


def path(customer: Json, rest: str = "") -> str:
    return f"/api/customers/{customer['id']}/users{rest}"


def address(given: Given) -> str:
    return f"{given.new_id()}@acme.example"


def invite(by: Person, customer: Json, email: str, status: int = 201, **more: Any) -> Json:
    return by.post(
        path(customer, "/invite"), {"email": email, "name": "Jo Miller", "role": "customer_user"} | more, status=status
    )


def mails_to(stint: Installation, email: str) -> list[Json]:
    found = stint.rows("SELECT body FROM messages WHERE actor = 'send_mail' AND body->>'to' = %s ORDER BY created_at", email)
    return [body for (body,) in found]


def reset_rate_limits(stint: Installation) -> None:
    with stint.sql() as conn:
        conn.execute("DELETE FROM rate_limits")

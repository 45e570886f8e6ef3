"""Invitations of a customer's users: limits, repetitions, and invalid or unusual names and addresses."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.api.invitations import address, invite, mails_to, path
from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation

pytestmark = pytest.mark.usefixtures("no_limits")


def test_the_same_address_again_is_409_in_any_case(acme: Json, boss: Person, given: Given) -> None:
    invite(boss, acme, "Jo.Miller@Acme.example")
    for again in ("Jo.Miller@acme.example", "jo.miller@ACME.example"):
        assert "already" in invite(boss, acme, again, 409)["detail"]
        invite(given.person(), acme, again, 409)


def test_concurrent_invitations_of_one_address_create_one_user(
    given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    for _ in range(5):
        email = address(given)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda first, to=email: boss.http.post(path(acme, "/invite"), json={
                "email": first + to[1:], "name": "Jo"}), [email[0], email[0].upper(), email[0], email[0]]))  # fmt: skip
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        assert stint.value("SELECT count(*) FROM users WHERE lower(email) = lower(%s)", email) == 1
        assert stint.value("SELECT count(*) FROM messages WHERE lower(body->>'to') = lower(%s)", email) == 1


def test_an_invitation_can_be_resent_once_a_minute(given: Given, stint: Installation, acme: Json, boss: Person) -> None:
    invited = invite(boss, acme, address(given))

    again = boss.post(path(acme, "/resend-invite"), {"userId": invited["id"]}, status=202)
    refused = boss.http.post(path(acme, "/resend-invite"), json={"email": invited["email"].upper()})

    assert again["invitedAt"] > invited["invitedAt"] and again["id"] == invited["id"]
    problem(refused, 429)
    assert 50 <= int(refused.headers["retry-after"]) <= 60
    assert len(mails_to(stint, invited["email"])) == 2


def test_an_invitation_is_not_resent_to_an_active_user(given: Given, acme: Json, boss: Person) -> None:
    user = given.person("customer_user", acme["id"])
    assert "already signed in" in boss.post(path(acme, "/resend-invite"), {"userId": user.id}, status=409)["detail"]


@pytest.mark.parametrize("body", [{}, {"userId": "00000000-0000-4000-8000-000000000000", "email": "jo@acme.example"}])
def test_resending_needs_exactly_one_of_user_id_and_email(body: Json, acme: Json, boss: Person) -> None:
    problem(boss.http.post(path(acme, "/resend-invite"), json=body), 422)


def test_invitations_are_limited_for_each_inviter(given: Given, stint: Installation, acme: Json, boss: Person) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: boss.http.post(path(acme, "/invite"), json={
            "email": address(given), "name": "Jo"}), range(56)))  # fmt: skip
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {201, 429} and 50 <= statuses.count(201) <= 51
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    invite(given.person(), acme, address(given))  # other inviters have their own limit


def test_removing_and_inviting_one_address_repeatedly_is_limited(
    given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    email = address(given)
    for _ in range(5):
        boss.delete(path(acme, f"/{invite(boss, acme, email)['id']}"))
    invite(boss, acme, email, 429)
    assert len(mails_to(stint, email)) == 5


@pytest.mark.parametrize(
    "name", ["Jo\r\nBcc: all@example.com", "Jo\nMiller", "Jo\x00", "Jo\u2028Miller", "", "  ", "x" * 201, "x" * 10_000_000]
)
def test_a_name_with_control_characters_or_a_wrong_length_is_refused(
    name: str, given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    email = address(given)
    try:
        answer = boss.http.post(path(acme, "/invite"), json={"email": email, "name": name})
    except httpx2.WriteError:  # the server closed the connection during the 10 MB
        answer = None
    assert answer is None or answer.status_code in (400, 413, 422), answer.text
    assert mails_to(stint, email) == []


@pytest.mark.parametrize("name", ["Ζωή 🦊👩‍🚒", "محمد علي", "שרה", "O'Neil <b>", "张伟", "Jo %s {name}"])
@pytest.mark.parametrize("local", ["jo", '"jo miller"', "jo+stint", "o'neil"])
def test_unusual_names_and_addresses_are_stored_and_mailed_unchanged(
    name: str, local: str, given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    email = f"{local}@{given.new_id()}.example"
    invited = invite(boss, acme, email, name=name)
    assert (invited["email"], invited["name"]) == (email, name)
    [mail] = mails_to(stint, email)
    assert mail["paragraphs"][0] == f"Hello {name},"


@pytest.mark.parametrize("email", [
    "jo", "jo@", "@acme.example", "a@b@c.example", "jo@acme.example\r\nBcc: x@y.example", "jo@acme.example, x@y.example",
    "Jo <jo@acme.example>", "jö@acme.example", "x" * 400 + "@acme.example",
])  # fmt: skip
def test_an_invalid_address_is_422(email: str, acme: Json, boss: Person) -> None:
    problem(boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Jo"}), 422)


@pytest.mark.parametrize("role", ["internal_admin", "internal_user", "", None, "admin", "customer_owner", ["customer_admin"]])
def test_any_other_role_is_422(role: Any, given: Given, acme: Json, boss: Person) -> None:
    problem(boss.http.post(path(acme, "/invite"), json={"email": address(given), "name": "Jo", "role": role}), 422)

"""Invitations with a Cognito user pool, and what happens while it does not answer."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.identity.cognito.pool import set_mode, signed_in
from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually
from tests.support.user_pool import Mode, UserPool


def path(customer: Json, rest: str = "") -> str:
    return f"/api/customers/{customer['id']}/users{rest}"


def invite(by: Person, customer: Json, email: str, status: int = 201, role: str = "customer_user") -> Json:
    return by.post(path(customer, "/invite"), {"email": email, "name": "Jo Miller", "role": role}, status=status)


def address(people: Given) -> str:
    return f"{people.new_id()}@acme.example"


def test_an_invited_user_has_an_account_in_the_pool_which_sends_the_mail(
    people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    email = address(people)
    invited = invite(boss, acme, email, role="customer_admin")

    [user] = pool.users(email)
    assert user["sub"] == invited["id"]
    assert (user["custom:userRole"], user["custom:customerId"], user["name"]) == ("customer_admin", acme["id"], "Jo Miller")
    assert firm.value("SELECT count(*) FROM messages WHERE body->>'to' = %s", email) == 0

    assert signed_in(people, pool, email).get("/api/me")["customerId"] == acme["id"]
    [row] = [item for item in boss.get(path(acme))["items"] if item["id"] == invited["id"]]
    assert row["status"] == "active"


def test_an_invitation_is_sent_again_by_the_pool(people: Given, firm: Installation, acme: Json, boss: Person) -> None:
    email = address(people)
    invited = invite(boss, acme, email)
    boss.post(path(acme, "/resend-invite"), {"userId": invited["id"]}, status=202)
    people.settled()
    assert firm.rows("SELECT actor, state FROM messages WHERE body->>'email' = %s", email) == [("remind_invited", "done")]
    boss.post(path(acme, "/resend-invite"), {"userId": invited["id"]}, status=429)


def test_a_removed_user_is_refused_immediately_and_deleted_from_the_pool_once_it_answers(
    people: Given, pool: UserPool, acme: Json, boss: Person
) -> None:
    email = address(people)
    invited = invite(boss, acme, email)
    user = signed_in(people, pool, email)
    set_mode(pool, "refuse")

    boss.delete(path(acme, f"/{invited['id']}"))

    problem(user.http.get("/api/me"), 401)
    assert len(pool.users(email)) == 1
    pool.line.mode = "pass"
    eventually(lambda: not pool.users(email), seconds=60, why="the account is deleted from the pool")
    people.settled()
    assert invite(boss, acme, email)["id"] != invited["id"]
    problem(user.http.get("/api/me"), 401)


def test_a_removed_user_can_be_invited_again_before_the_pool_has_deleted_the_account(
    people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    email = address(people)
    before = invite(boss, acme, email)
    with firm.sql() as conn:  # as if remove_account were still pending
        conn.execute("UPDATE users SET revoked_at = now() WHERE id = %s", (before["id"],))
    after = invite(boss, acme, email)
    assert [user["sub"] for user in pool.users(email)] == [after["id"]] and after["id"] != before["id"]


def test_an_address_of_a_deleted_customer_can_be_invited_by_another(
    people: Given, pool: UserPool, admin: Person, acme: Json, boss: Person
) -> None:
    gone, email = people.customer(admin), address(people)
    invite(admin, gone, email)
    admin.delete(f"/api/customers/{gone['id']}")
    invited = invite(boss, acme, email)
    assert [(user["sub"], user["custom:customerId"]) for user in pool.users(email)] == [(invited["id"], acme["id"])]


def test_a_customers_administrator_does_not_learn_that_the_pool_knows_an_address(
    people: Given, pool: UserPool, firm: Installation, admin: Person, acme: Json, boss: Person
) -> None:
    other, third = people.customer(admin), people.customer(admin)
    taken = [pool.add("internal_user"), pool.add("customer_user", other["id"]), admin.email]
    unknown = invite(boss, acme, address(people))
    for email in taken:
        known = invite(boss, acme, email)
        assert known.keys() == unknown.keys() and known["status"] == "invited"
        assert firm.value("SELECT account_elsewhere FROM users WHERE id = %s", known["id"])
        [mail] = firm.rows("SELECT body::text FROM messages WHERE body->>'to' = %s", email)
        assert "another account" in mail[0]
        assert "another account" in invite(admin, third, email, 409)["detail"]
        boss.delete(path(acme, f"/{known['id']}"))
    people.settled()
    for email in taken:  # and their accounts are unchanged
        [user] = pool.users(email)
        assert user.get("custom:customerId") in (None, other["id"])
    admin.get("/api/me")


def test_concurrent_invitations_of_one_address_create_one_user(
    people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    email = address(people)
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(lambda _: boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Jo"}), range(4))
        )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    [user] = pool.users(email)
    assert firm.rows("SELECT id::text, account_elsewhere FROM users WHERE email = %s", email) == [(user["sub"], False)]


@pytest.mark.parametrize("mode", ["refuse", "hang"])
def test_while_the_pool_does_not_answer_an_invitation_is_503_and_changes_nothing(
    mode: Mode, people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    email = address(people)
    set_mode(pool, mode)

    started = time.monotonic()
    refused = boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Jo"})
    took = time.monotonic() - started

    problem(refused, 503)
    assert int(refused.headers["retry-after"]) >= 1 and took < 8
    boss.get("/api/me")  # other requests are served meanwhile
    assert firm.value("SELECT count(*) FROM users WHERE email = %s", email) == 0
    set_mode(pool, "pass")
    assert pool.users(email) == []
    invite(boss, acme, email)


def test_an_invitation_whose_answer_was_lost_succeeds_when_repeated(
    people: Given, pool: UserPool, acme: Json, boss: Person
) -> None:
    email = address(people)
    set_mode(pool, "lose answers")
    problem(boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Joe"}), 503)
    eventually(lambda: pool.users(email))
    set_mode(pool, "pass")

    invited = invite(boss, acme, email, role="customer_admin")

    [user] = pool.users(email)
    assert (user["sub"], user["name"], user["custom:userRole"]) == (invited["id"], "Jo Miller", "customer_admin")

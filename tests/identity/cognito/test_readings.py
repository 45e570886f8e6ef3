"""Readings of a user pool: who is disabled or deleted there loses what does not go through a token, too; a pool that does not
answer removes nobody."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.identity.cognito.pool import set_mode, signed_in
from tests.support.answers import Json, at, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually, new_database
from tests.support.user_pool import UserPool


@pytest.fixture(scope="module")
def firm(
    database_url: str, amqp_url_apart: str, pool: UserPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation that reads its pool every half second."""
    directory = tmp_path_factory.mktemp("readings")
    environment = pool.environment | {"STINT_POOL_SECONDS": "0.5"}
    installation = Installation(new_database(database_url), amqp_url_apart, directory, **environment)
    try:
        yield installation.start("api", "relay", "work").wait_until_ready()
    finally:
        installation.stop()


def after_a_reading(firm: Installation) -> None:
    """Returns when a reading that began after this call is complete."""
    called_at = firm.value("SELECT clock_timestamp()")
    complete = "SELECT count(*) FROM user_pool_readings WHERE read_at > %s"
    eventually(lambda: firm.value(complete, called_at), seconds=40, why=f"a reading: {firm.log('work')[-800:]}")


def row(firm: Installation, email: str) -> tuple[Any, ...]:
    [found] = firm.rows("SELECT revoked_at IS NULL, role, name, customer_id::text FROM users WHERE email = %s", email)
    return found


def disable(pool: UserPool, email: str) -> None:
    pool.client.admin_disable_user(UserPoolId=pool.id, Username=email)


def inactivated(by: Person, customer: Json) -> None:
    """Enqueues the mails about an inactive pillar."""
    pillar = by.post(f"/api/customers/{customer['id']}/pillars", {"name": f"Network {customer['id']}"})
    by.put(f"/api/customers/{customer['id']}/pillars/{pillar['id']}", {"active": False})


def test_a_user_has_one_address_however_the_pool_spells_its_domain(people: Given, pool: UserPool, firm: Installation) -> None:
    name = people.new_id()[:8]
    stored = f"{name}@m\u00fcnchen.example"
    person = signed_in(people, pool, pool.add("internal_user", email=f"{name}@xn--mnchen-3ya.example"))
    assert person.get("/api/me")["email"] == stored
    after_a_reading(firm)
    assert row(firm, stored)[:2] == (True, "internal_user")
    assert person.get("/api/me")["email"] == stored


@pytest.mark.parametrize("how", ["disabled", "deleted"])
def test_who_leaves_the_pool_loses_slack_mails_the_list_and_the_api(
    how: str, people: Given, pool: UserPool, firm: Installation, admin: Person, acme: Json
) -> None:
    leaver = signed_in(people, pool, pool.add("internal_user"))
    leaver.get("/api/me")
    assert row(firm, leaver.email)[0] is True

    disable(pool, leaver.email)
    if how == "deleted":
        pool.client.admin_delete_user(UserPoolId=pool.id, Username=leaver.email)
    after_a_reading(firm)

    assert row(firm, leaver.email)[0] is False  # Slack finds no user whose access is revoked
    assert leaver.id not in {item["id"] for item in admin.get("/api/tasks/internal-users", limit=1000)["items"]}
    eventually(lambda: leaver.http.get("/api/me").status_code == 401)  # at most a second later: nobody was answered
    inactivated(admin, acme)
    mails = "SELECT count(*) FROM messages WHERE actor = 'send_mail' AND body->>'to' = %s"
    assert (firm.value(mails, leaver.email), firm.value(mails, admin.email)) == (0, 1)


def test_enabled_again_the_user_signs_in_again(people: Given, pool: UserPool, firm: Installation) -> None:
    person = signed_in(people, pool, pool.add("internal_user"))
    disable(pool, person.email)
    after_a_reading(firm)
    assert row(firm, person.email)[0] is False

    pool.client.admin_enable_user(UserPoolId=pool.id, Username=person.email)
    after_a_reading(firm)

    assert row(firm, person.email)[0] is True
    problem(person.http.get("/api/me"), 401)  # a session of before
    sessions_after = firm.value("SELECT floor(extract(epoch FROM sessions_after))::bigint FROM users WHERE id = %s", person.id)
    eventually(lambda: firm.value("SELECT floor(extract(epoch FROM now()))::bigint") > sessions_after)
    assert signed_in(people, pool, person.email).get("/api/me")["role"] == "internal"


def test_a_user_whom_stint_removed_does_not_come_back(
    people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    user = signed_in(people, pool, pool.add("customer_user", acme["id"]))
    set_mode(pool, "refuse")  # the account stays for now
    boss.delete(f"/api/customers/{acme['id']}/users/{user.id}")
    set_mode(pool, "pass")
    after_a_reading(firm)
    assert row(firm, user.email)[0] is False
    problem(user.http.get("/api/me"), 401)


def test_a_new_role_name_and_customer_are_known_without_a_token(
    people: Given, pool: UserPool, firm: Installation, acme: Json, admin: Person
) -> None:
    other = people.customer(admin)
    demoted, moved, bare = pool.add("internal_admin"), pool.add("customer_user", acme["id"]), pool.add("internal_user")
    tokens = {email: signed_in(people, pool, email) for email in (demoted, moved, bare)}
    change = pool.client.admin_update_user_attributes
    renamed = [{"Name": "custom:userRole", "Value": "internal_user"}, {"Name": "name", "Value": "New\n\tName"}]
    change(UserPoolId=pool.id, Username=demoted, UserAttributes=renamed)
    change(UserPoolId=pool.id, Username=moved, UserAttributes=[{"Name": "custom:customerId", "Value": other["id"]}])
    pool.client.admin_delete_user_attributes(UserPoolId=pool.id, Username=bare, UserAttributeNames=["custom:userRole"])

    after_a_reading(firm)

    assert row(firm, demoted) == (True, "internal_user", "New Name", None)
    assert row(firm, moved)[3] == other["id"]
    assert row(firm, bare)[1] == ""  # no role; and it does not mean a legacy admin
    me = tokens[demoted].get("/api/me")
    assert (me["role"], me["name"]) == ("internal", "New Name")
    problem(tokens[moved].http.get("/api/me"), 401)
    problem(tokens[bare].http.get("/api/me"), 403)  # still signed in, without a role
    with at(firm, pool.tokens(bare)["IdToken"]) as client:
        problem(client.get("/api/me"), 403)


def test_a_pool_that_does_not_answer_removes_nobody_and_the_doctor_says_that_its_reading_failed(
    people: Given, pool: UserPool, firm: Installation, admin: Person
) -> None:
    person = signed_in(people, pool, pool.add("internal_user"))
    after_a_reading(firm)
    set_mode(pool, "refuse")
    eventually(lambda: firm.value("SELECT error FROM user_pool_readings"), seconds=40, why="a reading that fails")

    assert person.get("/api/me")["id"] == person.id and row(firm, person.email)[0] is True
    [failed] = [what for what in _found(firm) if what.startswith("user pool was last read ")]
    assert "does not answer" in failed
    assert "stint_user_pool_failing 1" in httpx2.get(f"{firm.url}/metrics").text
    firm.rows("UPDATE user_pool_readings SET read_at = read_at - interval '5 minutes' RETURNING 1")
    [late] = [what for what in _found(firm) if what.startswith("user pool was last read 3")]
    assert "does not answer" in late
    assert "stint_user_pool_read_age_seconds 3" in httpx2.get(f"{firm.url}/metrics").text
    set_mode(pool, "pass")
    after_a_reading(firm)
    assert "user pool" not in " ".join(_found(firm))
    # one message for the whole installation, which is not a failed attempt
    assert firm.rows("SELECT count(*), max(attempts) FROM messages WHERE actor = 'read_user_pool'") == [(1, 0)]


def test_a_pool_that_is_not_used_any_more_is_not_late(firm: Installation) -> None:
    after_a_reading(firm)
    firm.kill("work")
    firm.environment["IDENTITY"] = "local"
    firm.start("work")
    try:
        forgotten = "SELECT count(*) FROM user_pool_readings WHERE read_at IS NULL AND error IS NULL"
        eventually(lambda: firm.value(forgotten), seconds=40, why=f"the reading is forgotten: {firm.log('work')[-800:]}")
    finally:
        firm.kill("work")
        firm.environment["IDENTITY"] = "cognito"
        firm.start("work")
    after_a_reading(firm)


def test_an_account_that_the_list_lacks_but_that_exists_keeps_access(
    people: Given, pool: UserPool, firm: Installation, admin: Person
) -> None:
    """Invited during a reading, or not in an older list yet: the account is looked up before its user loses access."""
    invited = admin.post(
        f"/api/customers/{people.customer(admin)['id']}/users/invite",
        {"email": f"{people.new_id()}@acme.example", "name": "Jo"},
    )
    for _ in range(2):
        after_a_reading(firm)
    assert firm.value("SELECT revoked_at IS NULL FROM users WHERE id = %s", invited["id"])


def test_the_relay_starts_the_reading_again_when_its_message_is_lost(people: Given, firm: Installation) -> None:
    after_a_reading(firm)
    eventually(lambda: firm.rows("DELETE FROM messages WHERE actor = 'read_user_pool' AND state = 'ready' RETURNING 1"))
    after_a_reading(firm)


def _found(firm: Installation) -> list[str]:
    return [finding["what"] for finding in json.loads(firm.command("doctor", "--json").stdout)]

"""People in a user pool: who comes in with its tokens, how it learns of invitations, and what happens while it is away."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.api.answers import Json, at, problem
from tests.api.tokens import encoded
from tests.given import Given, Person
from tests.installation import Installation, eventually, new_database
from tests.user_pool import Mode, UserPool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserPool]:
    with UserPool(tmp_path_factory.mktemp("pool")) as made:
        yield made


@pytest.fixture(scope="module")
def firm(
    database_url: str, amqp_url_apart: str, pool: UserPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("firm")
    installation = Installation(new_database(database_url), amqp_url_apart, directory, **pool.environment)
    try:
        yield installation.start("api", "relay", "work:mail").wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def people(firm: Installation, pool: UserPool) -> Iterator[Given]:
    with firm.sql() as conn:
        conn.execute("DELETE FROM rate_limits")
    made = Given(firm)
    yield made
    made.close()
    pool.line.mode = pool.keys.mode = "pass"


@pytest.fixture
def admin(people: Given, pool: UserPool) -> Person:
    return signed_in(people, pool, pool.add("internal_admin"))


@pytest.fixture
def acme(people: Given, admin: Person) -> Json:
    return people.customer(admin)


@pytest.fixture
def boss(people: Given, pool: UserPool, acme: Json) -> Person:
    return signed_in(people, pool, pool.add("customer_admin", acme["id"]))


def signed_in(people: Given, pool: UserPool, email: str) -> Person:
    return people.with_token(pool.tokens(email)["IdToken"], email)


def path(customer: Json, rest: str = "") -> str:
    return f"/api/customers/{customer['id']}/users{rest}"


def invite(by: Person, customer: Json, email: str, status: int = 201, role: str = "customer_user") -> Json:
    return by.post(path(customer, "/invite"), {"email": email, "name": "Jo Miller", "role": role}, status=status)


def address(people: Given) -> str:
    return f"{people.new_id()}@acme.example"


def answer_by(pool: UserPool, mode: Mode) -> None:
    pool.line.mode = mode
    pool.line.cut()


# Who comes in


def test_the_pools_own_tokens_say_who_somebody_is(
    people: Given, pool: UserPool, admin: Person, acme: Json, boss: Person
) -> None:
    assert admin.get("/api/me")["role"] == "admin"
    me = boss.get("/api/me")
    assert (me["role"], me["customerId"], me["email"]) == ("customer_admin", acme["id"], boss.email)


def test_an_access_token_says_nothing_of_a_role_so_it_opens_nothing(people: Given, pool: UserPool, firm: Installation) -> None:
    for email in (pool.add("internal_admin"), pool.add(None)):
        for _ in range(2):
            with at(firm, pool.tokens(email)["AccessToken"]) as client:
                problem(client.get("/api/me"), 403)


def test_without_a_role_a_legacy_admin_comes_by_the_firms_own_client_only(
    people: Given, pool: UserPool, firm: Installation
) -> None:
    legacy = pool.add(None)
    with at(firm, pool.tokens(legacy, portal=True)["IdToken"]) as client:
        problem(client.get("/api/me"), 403)
    assert signed_in(people, pool, legacy).get("/api/me")["role"] == "admin"


def test_a_customers_user_whose_role_is_taken_away_in_the_pool_is_no_admin(
    people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    for names in (["custom:userRole"], ["custom:customerId"]):
        pool.client.admin_delete_user_attributes(UserPoolId=pool.id, Username=boss.email, UserAttributeNames=names)
        with at(firm, pool.tokens(boss.email)["IdToken"]) as client:
            problem(client.get("/api/me"), 403)


def test_nobody_signs_in_here(firm: Installation) -> None:
    for answer in (
        httpx.post(f"{firm.url}/auth/code", json={"email": "jo@acme.example"}),
        httpx.post(f"{firm.url}/auth/token", json={"email": "jo@acme.example", "code": "123456"}),
        httpx.get(f"{firm.url}/.well-known/jwks.json"),
    ):
        assert "pool" in problem(answer, 404)["detail"]


@pytest.mark.parametrize("words", [
    ["token", "--role", "none", "--email", "a@b.c"], ["user", "list"], ["user", "add", "a@b.c"], ["rotate-signing-key"],
])  # fmt: skip
def test_the_terminal_says_that_people_are_elsewhere(words: list[str], firm: Installation) -> None:
    done = firm.command(*words)
    assert (done.returncode, done.stdout) == (1, "") and "IDENTITY is cognito" in done.stderr


# Invitations


def test_an_invited_user_is_in_the_pool_and_is_written_to_by_it(
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


def test_a_removed_user_is_refused_at_once_and_leaves_the_pool_also_when_that_is_away(
    people: Given, pool: UserPool, acme: Json, boss: Person
) -> None:
    email = address(people)
    invited = invite(boss, acme, email)
    user = signed_in(people, pool, email)
    answer_by(pool, "refuse")

    boss.delete(path(acme, f"/{invited['id']}"))

    problem(user.http.get("/api/me"), 401)
    assert len(pool.users(email)) == 1
    pool.line.mode = "pass"
    eventually(lambda: not pool.users(email), seconds=60, why="the account is gone from the pool")
    people.settled()
    assert invite(boss, acme, email)["id"] != invited["id"]
    problem(user.http.get("/api/me"), 401)


def test_who_was_removed_is_invited_again_before_the_pool_was_told(
    people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    email = address(people)
    before = invite(boss, acme, email)
    with firm.sql() as conn:  # as if the message had still to be handled
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
    held = [pool.add("internal_user"), pool.add("customer_user", other["id"]), admin.email]
    stranger = invite(boss, acme, address(people))
    for email in held:
        known = invite(boss, acme, email)
        assert known.keys() == stranger.keys() and known["status"] == "invited"
        assert firm.value("SELECT elsewhere FROM users WHERE id = %s", known["id"])
        [mail] = firm.rows("SELECT body::text FROM messages WHERE body->>'to' = %s", email)
        assert "another account" in mail[0]
        assert "another account" in invite(admin, third, email, 409)["detail"]
        boss.delete(path(acme, f"/{known['id']}"))
    people.settled()
    for email in held:  # and their accounts are as they were
        [user] = pool.users(email)
        assert user.get("custom:customerId") in (None, other["id"])
    admin.get("/api/me")


def test_two_invitations_of_one_address_at_once_make_one_user(
    people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    email = address(people)
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(lambda _: boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Jo"}), range(4))
        )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    [user] = pool.users(email)
    assert firm.rows("SELECT id::text, elsewhere FROM users WHERE email = %s", email) == [(user["sub"], False)]


@pytest.mark.parametrize("mode", ["refuse", "hang"])
def test_while_the_pool_is_away_an_invitation_is_503_and_nothing_is_done(
    mode: Mode, people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    email = address(people)
    answer_by(pool, mode)

    begun = time.monotonic()
    refused = boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Jo"})
    took = time.monotonic() - begun

    problem(refused, 503)
    assert int(refused.headers["retry-after"]) >= 1 and took < 8
    boss.get("/api/me")  # others are served meanwhile, and who is known comes in
    assert firm.value("SELECT count(*) FROM users WHERE email = %s", email) == 0
    answer_by(pool, "pass")
    assert pool.users(email) == []
    invite(boss, acme, email)


def test_an_invitation_whose_answer_got_lost_is_made_by_the_next_try(
    people: Given, pool: UserPool, acme: Json, boss: Person
) -> None:
    email = address(people)
    answer_by(pool, "lose answers")
    problem(boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Joe"}), 503)
    eventually(lambda: pool.users(email))
    answer_by(pool, "pass")

    invited = invite(boss, acme, email, role="customer_admin")

    [user] = pool.users(email)
    assert (user["sub"], user["name"], user["custom:userRole"]) == (invited["id"], "Jo Miller", "customer_admin")


# The firm's own people


def test_the_firms_own_people_are_those_of_the_pool_and_can_be_given_tasks(
    people: Given, pool: UserPool, database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    never_came = [pool.add("internal_user") for _ in range(65)]  # more than a page of the pool
    pool.add("customer_user", people.new_id())
    disabled = pool.add("internal_user")
    pool.client.admin_disable_user(UserPoolId=pool.id, Username=disabled)
    directory = tmp_path_factory.mktemp("fresh")  # whose pool was not asked within the last minute
    fresh = Installation(new_database(database_url), amqp_url_apart, directory, **pool.environment)
    try:
        fresh.start("api").wait_until_ready()
        with httpx.Client(base_url=fresh.url, timeout=30) as client:
            email = pool.add("internal_admin")
            client.headers["Authorization"] = f"Bearer {pool.tokens(email)['IdToken']}"
            found = {item["email"]: item for item in client.get("/api/tasks/internal-users?limit=1000").json()["items"]}
            assert {*never_came, email} <= set(found) and disabled not in found
            assert {item["role"] for item in found.values()} <= {"admin", "internal"}
            [user] = pool.users(never_came[0])
            assert found[never_came[0]]["id"] == user["sub"]
            customer = client.post("/api/customers", json={"name": "Acme"}).json()
            task = {"title": "Mend it", "customerId": customer["id"], "assigneeId": user["sub"]}
            assert client.post("/api/tasks", json=task).status_code == 201

            answer_by(pool, "refuse")  # for a minute that is no matter
            again = client.get("/api/tasks/internal-users?limit=2").json()
            assert len(again["items"]) == 2 and again["nextCursor"]
    finally:
        fresh.stop()


# The keys


def test_keys_are_kept_while_they_cannot_be_read_and_made_up_ones_are_no_flood(
    people: Given, pool: UserPool, firm: Installation, boss: Person
) -> None:
    _, body, signature = boss.token.split(".")
    pool.keys.mode = "refuse"
    before = pool.keys.calls
    with httpx.Client(base_url=firm.url, timeout=20) as client:
        for number in range(20):
            made_up = encoded(b'{"alg": "RS256", "kid": "%d"}' % number)
            answer = client.get("/api/me", headers={"Authorization": f"Bearer {made_up}.{body}.{signature}"})
            assert answer.status_code in (401, 503)
    assert pool.keys.calls - before <= 3
    signed_in(people, pool, boss.email).get("/api/me")


def test_without_keys_nobody_is_called_a_stranger(
    pool: UserPool,
    people: Given,
    boss: Person,
    database_url: str,
    amqp_url_apart: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    pool.keys.mode = "hang"
    directory = tmp_path_factory.mktemp("keyless")
    fresh = Installation(new_database(database_url), amqp_url_apart, directory, **pool.environment)
    try:
        fresh.start("api").wait_until_ready()
        with at(fresh, boss.token) as client:
            begun = time.monotonic()
            answer = client.get("/api/me")
            problem(answer, 503)
            assert "keys" in answer.json()["detail"] and time.monotonic() - begun < 8
            pool.keys.mode = "pass"
            eventually(lambda: client.get("/api/me").status_code == 200, seconds=30, why="keys are read again")
    finally:
        fresh.stop()


# Settings


@pytest.mark.parametrize("lacking", ["COGNITO_USER_POOL_ID", "AUTH_CLIENT_IDS"])
def test_what_a_pool_needs_is_asked_for_by_name(lacking: str, pool: UserPool, firm: Installation) -> None:
    without = Installation(firm.database_url, firm.amqp_url, firm.directory, **(pool.environment | {lacking: ""}))
    done = without.command("verify")
    without_api = without.start("api")
    assert without_api.processes["api"].wait(60) != 0
    assert lacking in without_api.log("api") and "Traceback" not in without_api.log("api")
    assert "Traceback" not in done.stderr


def test_without_the_extra_it_is_said_what_to_install(
    pool: UserPool, firm: Installation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("bare")
    (directory / "boto3.py").write_text("raise ModuleNotFoundError(\"No module named 'boto3'\", name='boto3')\n")
    bare = Installation(firm.database_url, firm.amqp_url, directory, **pool.environment, PYTHONPATH=str(directory))
    bare.afresh = True
    bare.start("api")
    assert bare.processes["api"].wait(60) != 0
    assert "stint[cognito]" in bare.log("api") and "Traceback" not in bare.log("api")

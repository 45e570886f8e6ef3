"""Tokens, internal users, keys and settings with a Cognito user pool."""

import time

import httpx2
import pytest

from tests.identity.cognito.pool import set_mode, signed_in
from tests.identity.tokens import encoded
from tests.support.answers import Json, at, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually, new_database
from tests.support.user_pool import UserPool

# Tokens and roles


def test_the_pools_tokens_authenticate_users(people: Given, pool: UserPool, admin: Person, acme: Json, boss: Person) -> None:
    assert admin.get("/api/me")["role"] == "admin"
    me = boss.get("/api/me")
    assert (me["role"], me["customerId"], me["email"]) == ("customer_admin", acme["id"], boss.email)


def test_an_access_token_has_no_role_and_is_refused(people: Given, pool: UserPool, firm: Installation) -> None:
    for email in (pool.add("internal_admin"), pool.add(None)):
        for _ in range(2):
            with at(firm, pool.tokens(email)["AccessToken"]) as client:
                problem(client.get("/api/me"), 403)


def test_without_a_role_only_a_token_of_the_firms_own_client_means_legacy_admin(
    people: Given, pool: UserPool, firm: Installation
) -> None:
    legacy = pool.add(None)
    with at(firm, pool.tokens(legacy, portal=True)["IdToken"]) as client:
        problem(client.get("/api/me"), 403)
    assert signed_in(people, pool, legacy).get("/api/me")["role"] == "admin"


def test_a_customers_user_who_loses_the_role_in_the_pool_does_not_become_admin(
    people: Given, pool: UserPool, firm: Installation, acme: Json, boss: Person
) -> None:
    for names in (["custom:userRole"], ["custom:customerId"]):
        pool.client.admin_delete_user_attributes(UserPoolId=pool.id, Username=boss.email, UserAttributeNames=names)
        with at(firm, pool.tokens(boss.email)["IdToken"]) as client:
            problem(client.get("/api/me"), 403)


def test_the_local_sign_in_is_off(firm: Installation) -> None:
    for answer in (
        httpx2.post(f"{firm.url}/auth/code", json={"email": "jo@acme.example"}),
        httpx2.post(f"{firm.url}/auth/token", json={"email": "jo@acme.example", "code": "123456"}),
        httpx2.get(f"{firm.url}/.well-known/jwks.json"),
    ):
        assert "pool" in problem(answer, 404)["detail"]


@pytest.mark.parametrize("arguments", [
    ["token", "--role", "none", "--email", "a@b.c"], ["user", "list"], ["user", "add", "a@b.c"], ["rotate-signing-key"],
])  # fmt: skip
def test_commands_for_local_users_say_that_a_user_pool_is_used(arguments: list[str], firm: Installation) -> None:
    done = firm.command(*arguments)
    assert (done.returncode, done.stdout) == (1, "") and "IDENTITY is cognito" in done.stderr


# The firm's own people


def test_internal_users_are_listed_from_the_pool_and_can_be_assigned_tasks(
    people: Given, pool: UserPool, database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    never_signed_in = [pool.add("internal_user") for _ in range(65)]  # more than one page of the pool
    pool.add("customer_user", people.new_id())
    disabled = pool.add("internal_user")
    pool.client.admin_disable_user(UserPoolId=pool.id, Username=disabled)
    directory = tmp_path_factory.mktemp("fresh")  # its cache is empty
    fresh = Installation(new_database(database_url), amqp_url_apart, directory, **pool.environment)
    try:
        fresh.start("api").wait_until_ready()
        with httpx2.Client(base_url=fresh.url, timeout=30) as client:
            email = pool.add("internal_admin")
            client.headers["Authorization"] = f"Bearer {pool.tokens(email)['IdToken']}"
            found = {item["email"]: item for item in client.get("/api/tasks/internal-users?limit=1000").json()["items"]}
            assert {*never_signed_in, email} <= set(found) and disabled not in found
            assert {item["role"] for item in found.values()} <= {"admin", "internal"}
            [user] = pool.users(never_signed_in[0])
            assert found[never_signed_in[0]]["id"] == user["sub"]
            customer = client.post("/api/customers", json={"name": "Acme"}).json()
            task = {"title": "Fix it", "customerId": customer["id"], "assigneeId": user["sub"]}
            assert client.post("/api/tasks", json=task).status_code == 201

            set_mode(pool, "refuse")  # the cache answers for a minute
            again = client.get("/api/tasks/internal-users?limit=2").json()
            assert len(again["items"]) == 2 and again["nextCursor"]
    finally:
        fresh.stop()


# Keys


def test_keys_stay_cached_while_they_cannot_be_fetched_and_invented_kids_do_not_flood_the_pool(
    people: Given, pool: UserPool, firm: Installation, boss: Person
) -> None:
    _, body, signature = boss.token.split(".")
    pool.keys.mode = "refuse"
    before = pool.keys.calls
    with httpx2.Client(base_url=firm.url, timeout=20) as client:
        for number in range(20):
            invented = encoded(b'{"alg": "RS256", "kid": "%d"}' % number)
            answer = client.get("/api/me", headers={"Authorization": f"Bearer {invented}.{body}.{signature}"})
            assert answer.status_code in (401, 503)
    assert pool.keys.calls - before <= 3
    signed_in(people, pool, boss.email).get("/api/me")


def test_without_keys_a_valid_token_is_503_and_not_401(
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
            started = time.monotonic()
            answer = client.get("/api/me")
            problem(answer, 503)
            assert "keys" in answer.json()["detail"] and time.monotonic() - started < 8
            pool.keys.mode = "pass"
            eventually(lambda: client.get("/api/me").status_code == 200, seconds=30, why="keys are fetched again")
    finally:
        fresh.stop()


# Settings


@pytest.mark.parametrize("missing", ["COGNITO_USER_POOL_ID", "AUTH_CLIENT_IDS"])
def test_a_missing_setting_is_named(missing: str, pool: UserPool, firm: Installation) -> None:
    without = Installation(firm.database_url, firm.amqp_url, firm.directory, **(pool.environment | {missing: ""}))
    done = without.command("verify")
    without_api = without.start("api")
    assert without_api.processes["api"].wait(60) != 0
    assert missing in without_api.log("api") and "Traceback" not in without_api.log("api")
    assert "Traceback" not in done.stderr


def test_without_the_extra_the_error_says_what_to_install(
    pool: UserPool, firm: Installation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("bare")
    (directory / "boto3.py").write_text("raise ModuleNotFoundError(\"No module named 'boto3'\", name='boto3')\n")
    bare = Installation(firm.database_url, firm.amqp_url, directory, **pool.environment, PYTHONPATH=str(directory))
    bare.new_processes = True
    bare.start("api")
    assert bare.processes["api"].wait(60) != 0
    assert "stint[cognito]" in bare.log("api") and "Traceback" not in bare.log("api")

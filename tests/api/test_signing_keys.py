"""A new signing key: it signs at once, everybody knows it at once, and what the old one signed stays good."""

import threading
from collections.abc import Iterator

import httpx
import jwt
import pytest

from tests.api.answers import Json, problem
from tests.api.tokens import Mint
from tests.given import Given, Person
from tests.installation import Installation, eventually


@pytest.fixture
def apis(own: Installation, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Installation]]:
    """Two API processes over one database."""
    second = Installation(own.database_url, own.amqp_url, tmp_path_factory.mktemp("second"))
    try:
        yield [api.start("api").wait_until_ready() for api in (own, second)]
    finally:
        second.stop()


@pytest.fixture
def people(apis: list[Installation]) -> Iterator[Given]:
    made = Given(apis[0])
    yield made
    made.close()


def kid_of(person: Person) -> str:
    return str(jwt.get_unverified_header(person.token)["kid"])


def served(api: Installation) -> list[str]:
    keys: list[Json] = httpx.get(f"{api.url}/.well-known/jwks.json").json()["keys"]
    return [key["kid"] for key in keys]


def me(api: Installation, token: str) -> httpx.Response:
    return httpx.get(f"{api.url}/api/me", headers={"Authorization": f"Bearer {token}"}, timeout=20)


def rotate(api: Installation, *more: str) -> str:
    done = api.command("rotate-signing-key", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rotations_under_load_refuse_nobody(apis: list[Installation], people: Given) -> None:
    before, old = people.person(), people.person()
    refused: list[str] = []
    asked = 0
    ended = threading.Event()

    def load(api: Installation) -> None:
        nonlocal asked
        with httpx.Client(base_url=api.url, timeout=20) as client:
            while not ended.is_set():
                for person in (before, *fresh[-1:]):
                    answer = client.get("/api/me", headers={"Authorization": f"Bearer {person.token}"})
                    asked += 1
                    if answer.status_code != 200:
                        refused.append(f"{api.url} {kid_of(person)}: {answer.text}")

    fresh: list[Person] = []
    threads = [threading.Thread(target=load, args=(api,)) for api in apis]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            rotate(apis[0])
            fresh.append(people.person())  # signed by the new key, and asked for on both at once
            for api in apis:
                assert me(api, fresh[-1].token).status_code == 200
            seen = asked
            eventually(lambda seen=seen: asked > seen + 10)
    finally:
        ended.set()
        for thread in threads:
            thread.join()

    assert refused == []
    kids = [kid_of(person) for person in (*reversed(fresh), before)]
    assert len(set(kids)) == 5 and served(apis[0]) == served(apis[1]) == kids
    assert me(apis[1], old.token).status_code == 200


def test_a_retired_key_is_served_until_its_last_token_has_expired(apis: list[Installation], people: Given) -> None:
    before = people.person()
    rotate(apis[0])
    after = people.person()
    with apis[0].sql() as conn:
        conn.execute("UPDATE signing_keys SET retired_at = now() - interval '12 hours' WHERE retired_at IS NOT NULL")
        assert served(apis[0]) == [kid_of(after), kid_of(before)]
        conn.execute("UPDATE signing_keys SET retired_at = now() - interval '12 hours 6 minutes' WHERE retired_at IS NOT NULL")
    assert served(apis[0]) == [kid_of(after)]


def test_distrusted_keys_open_nothing_any_more(apis: list[Installation], people: Given) -> None:
    before = people.person()
    forged = Mint(apis[0])  # somebody has the private key
    assert "sign in again" in rotate(apis[0], "--distrust")
    assert served(apis[0]) == [kid_of(people.person())]  # and whoever is asked for a new key reads them all anew
    problem(me(apis[0], forged.token()), 401)
    assert me(apis[0], people.person().token).status_code == 200
    assert kid_of(before) not in served(apis[1])


def test_two_rotations_at_once_leave_one_key_that_signs(apis: list[Installation], people: Given) -> None:
    people.person()
    threads = [threading.Thread(target=rotate, args=(apis[0],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert apis[0].value("SELECT count(*) FROM signing_keys WHERE retired_at IS NULL") == 1
    assert len(served(apis[0])) == 4


def test_made_up_keys_are_refused_and_keep_nobody_else_waiting(apis: list[Installation], people: Given) -> None:
    mint, person = Mint(apis[0]) if served(apis[0]) else None, people.person()
    assert mint is not None
    made_up = [mint.token({"kid": f"made up {number}"}) for number in range(200)]
    with httpx.Client(base_url=apis[0].url, timeout=20) as client:
        for text in made_up:
            problem(client.get("/api/me", headers={"Authorization": f"Bearer {text}"}), 401)
    person.get("/api/me")

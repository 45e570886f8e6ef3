"""Rotation of signing keys: all processes accept the new key immediately, and tokens of the old one stay valid."""

import functools
import threading
import time
from collections.abc import Iterator

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from schemas.encryption import WrongSecretKey
from schemas.identity.signing_keys import decrypt_key, encrypt_key
from tests.identity.tokens import Mint
from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import SECRET_KEY, Installation, eventually


@pytest.fixture
def apis(own: Installation, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Installation]]:
    """Two API processes with one database."""
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
    keys: list[Json] = httpx2.get(f"{api.url}/.well-known/jwks.json").json()["keys"]
    return [key["kid"] for key in keys]


def me(api: Installation, token: str) -> httpx2.Response:
    return httpx2.get(f"{api.url}/api/me", headers={"Authorization": f"Bearer {token}"}, timeout=20)


def rotate(api: Installation, *more: str) -> str:
    done = api.command("rotate-signing-key", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rotations_under_load_refuse_nobody(apis: list[Installation], people: Given) -> None:
    before, old = people.person(), people.person()
    refused: list[str] = []
    requests = 0
    ended = threading.Event()

    def load(api: Installation) -> None:
        nonlocal requests
        with httpx2.Client(base_url=api.url, timeout=20) as client:
            while not ended.wait(0.01):
                for person in (before, *fresh[-1:]):
                    answer = client.get("/api/me", headers={"Authorization": f"Bearer {person.token}"})
                    requests += 1
                    if answer.status_code != 200:
                        refused.append(f"{api.url} {kid_of(person)}: {answer.text}")

    def has_sent(count: int) -> bool:
        return requests > count

    fresh: list[Person] = []
    threads = [threading.Thread(target=load, args=(api,)) for api in apis]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            rotate(apis[0])
            fresh.append(people.person())  # signed by the new key, and accepted by both processes immediately
            for api in apis:
                assert me(api, fresh[-1].token).status_code == 200
            enough = requests + 10
            eventually(functools.partial(has_sent, enough))
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


def test_tokens_of_distrusted_keys_are_refused(apis: list[Installation], people: Given) -> None:
    before = people.person()
    forged = Mint(apis[0])  # as an attacker with the private key
    assert "sign in again" in rotate(apis[0], "--distrust")
    assert served(apis[0]) == [kid_of(people.person())]  # a token with the new kid makes the process fetch all keys
    problem(me(apis[0], forged.token()), 401)
    assert me(apis[0], people.person().token).status_code == 200
    assert kid_of(before) not in served(apis[1])


def test_a_new_token_is_valid_at_once_for_who_verifies_strictly(apis: list[Installation], people: Given) -> None:
    people.person()
    (jwk,) = httpx2.get(f"{apis[0].url}/.well-known/jwks.json").json()["keys"]
    # `iat` in whole seconds is not after the present, also late in a second; PyJWT refuses a token of the future by default
    eventually(lambda: apis[0].value("SELECT extract(epoch FROM clock_timestamp()) %% 1 BETWEEN 0.5 AND 0.8") is True)
    token = people.person().token
    claims = jwt.decode(token, jwt.PyJWK(jwk), algorithms=["RS256"], audience="stint", issuer="urn:stint:local")
    assert claims["exp"] - claims["iat"] == 12 * 3600


def test_concurrent_rotations_leave_one_active_key(apis: list[Installation], people: Given) -> None:
    people.person()
    threads = [threading.Thread(target=rotate, args=(apis[0],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert apis[0].value("SELECT count(*) FROM signing_keys WHERE retired_at IS NULL") == 1
    assert len(served(apis[0])) == 4


def test_invented_kids_are_refused_and_do_not_delay_others(apis: list[Installation], people: Given) -> None:
    mint, person = Mint(apis[0]) if served(apis[0]) else None, people.person()
    assert mint is not None
    invented = [mint.token({"kid": f"invented {number}"}) for number in range(200)]
    with httpx2.Client(base_url=apis[0].url, timeout=20) as client:
        for text in invented:
            problem(client.get("/api/me", headers={"Authorization": f"Bearer {text}"}), 401)
    person.get("/api/me")


@pytest.mark.unit
def test_decrypting_the_key_takes_a_command_next_to_no_time() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = encrypt_key(private, SECRET_KEY)
    before = time.process_time()
    decrypted = decrypt_key(pem, f"a newer key of at least 32 bytes,{SECRET_KEY}")
    assert time.process_time() - before < 0.02  # a check of its numbers takes 0.04
    assert decrypted.private_numbers() == private.private_numbers()
    with pytest.raises(WrongSecretKey):
        decrypt_key(pem, "a newer key of at least 32 bytes")

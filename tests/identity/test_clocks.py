"""Clocks that are off: tokens have the times of Postgres, and `./stint doctor` names the clock that is wrong."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from schemas.outbox.clocks import wrong_clocks
from schemas.outbox.heartbeats import Process
from tests.identity.tokens import Mint
from tests.support.answers import at
from tests.support.given import Given
from tests.support.installation import CHECKOUT, Installation, eventually
from tests.sync.streams import subscribed


@pytest.fixture(scope="module")
def mint(stint: Installation) -> Mint:
    httpx2.get(f"{stint.url}/.well-known/jwks.json").raise_for_status()
    return Mint(stint)


@pytest.fixture(scope="module", params=[600, -600], ids=["ahead", "behind"])
def off(
    request: pytest.FixtureRequest, stint: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An API over the same database whose clock is off by ten minutes."""
    shift = {"PYTHONPATH": str(CHECKOUT / "tests/support/shifted_clock"), "STINT_TEST_CLOCK": str(request.param)}
    directory: Path = tmp_path_factory.mktemp("clock")
    installation = Installation(stint.database_url, stint.amqp_url, directory, **shift)
    installation.new_processes = True
    try:
        yield installation.start("api").wait_until_ready()
    finally:
        installation.stop()


def status(api: Installation, token: str) -> int:
    with at(api, token) as client:
        return client.get("/api/me").status_code


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize(("seconds", "expected"), [(2, 200), (50, 200), (75, 401), (600, 401)])
def test_a_token_may_be_a_minute_ahead(claim: str, seconds: int, expected: int, stint: Installation, mint: Mint) -> None:
    times: dict[str, Any] = {claim: int(time.time()) + seconds}
    assert status(stint, mint.token(**times)) == expected


@pytest.mark.parametrize("seconds", [1, 30, 59])
def test_no_token_is_valid_for_longer(seconds: int, stint: Installation, mint: Mint) -> None:
    assert status(stint, mint.token(exp=int(time.time()) - seconds)) == 401


def test_the_tokens_of_an_api_whose_clock_is_off_are_valid_everywhere(
    given: Given, stint: Installation, off: Installation, mint: Mint
) -> None:
    person = given.person()
    code = given.code(person)
    answer = httpx2.post(f"{off.url}/auth/token", json={"email": person.email, "code": code})
    token = answer.json()["idToken"]
    assert status(stint, token) == status(off, token) == 200
    # and it judges the tokens of others as they do
    assert status(off, person.token) == status(off, mint.token(iat=int(time.time()) + 30)) == 200
    assert status(off, mint.token(exp=int(time.time()) - 2)) == status(off, mint.token(iat=int(time.time()) + 75)) == 401


def test_a_command_on_a_host_whose_clock_is_off_prints_a_valid_token(
    given: Given, stint: Installation, off: Installation
) -> None:
    words = [sys.executable, "-m", "ops.cli", "token", "--role", "internal_user", "--email", f"{given.new_id()}@example.com"]
    done = subprocess.run(words, cwd=CHECKOUT, env=os.environ | off.environment, capture_output=True, text=True, check=True)
    assert status(stint, done.stdout.strip()) == status(off, done.stdout.strip()) == 200


def test_a_code_that_an_api_whose_clock_is_off_was_asked_for_is_sent(
    given: Given, stint: Installation, off: Installation
) -> None:
    person = given.person()
    assert httpx2.post(f"{off.url}/auth/code", json={"email": person.email}).status_code == 202
    # without a mail server, the mail of the code is what fails
    codes = "SELECT count(*) FROM sign_in_codes WHERE user_id = %s"
    eventually(lambda: stint.value(codes, person.id) == 1, why="the code is made")


def test_a_stream_of_an_api_whose_clock_is_off_ends_with_its_token(given: Given, off: Installation, mint: Mint) -> None:
    sub = given.new_id()
    long, short = (mint.token(sub=sub, exp=int(time.time()) + seconds) for seconds in (600, 4))
    elsewhere = Given(off)
    with subscribed(elsewhere.with_token(long)) as stream, subscribed(elsewhere.with_token(short)) as ending:
        assert ending.ends_properly()
        assert not stream.has_ended
    elsewhere.close()


def test_the_doctor_names_the_process_whose_clock_is_off(stint: Installation, off: Installation) -> None:
    pid = off.processes["api"].pid
    row = "SELECT count(*) FROM heartbeats WHERE process LIKE %s AND abs(clock_seconds) > 500"
    eventually(lambda: stint.value(row, f"%:{pid}") == 1, why="its heartbeat")
    found = [finding["what"] for finding in json.loads(stint.command("doctor", "--json").stdout)]
    [clock] = [what for what in found if "clock" in what and f":{pid} " in what]
    assert "api process" in clock and "600 s" in clock


# Which clock it is


def process(name: str, seconds: float | None, *, alive: bool = True) -> Process:
    now = datetime.now(UTC)
    return Process(process=name, kind="work", queues=[], started_at=now, seen_at=now, alive=alive, clock_seconds=seconds)


@pytest.mark.parametrize(("processes", "own_seconds", "expected"), [
    ([process("a:1", 0.1), process("a:2", -0.2), process("b:1", 9.0)], 0.0, []),
    ([process("a:1", 0.1), process("b:1", 600.0), process("b:2", 600.4)], 0.0, ["the host b (600 s ahead of Postgres)"]),
    ([process("a:1", -300.0)], -300.0, ["the host a (300 s behind Postgres)"]),
    ([process("a:1", 90.0), process("b:1", 91.0)], 90.0, ["Postgres (90 s behind all hosts)"]),
    ([process("a:1", 0.0), process("a:2", 0.0), process("a:3", 20.0)], 0.0, ["the work process a:3 (20 s ahead of Postgres)"]),
    ([process("b:1", None), process("b:2", 600.0, alive=False)], 0.0, []),
])  # fmt: skip
def test_the_clock_that_differs_from_the_others_is_named(
    processes: list[Process], own_seconds: float, expected: list[str]
) -> None:
    assert wrong_clocks(processes, host="a", own_seconds=own_seconds) == expected

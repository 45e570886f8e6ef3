"""Schemathesis: requests of every kind made from the OpenAPI document, and each answer held against it, with every check that
it has. As each role, over a firm with one of everything, so that a part of the ids in paths names something.

STINT_TEST_FULL=1 makes a hundred times as many requests.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.api.tenants import Tenant, tenant
from tests.given import Given
from tests.installation import CHECKOUT, Installation, new_database
from tests.sizes import FULL

# how many requests for each operation are made up at random, beside those that go through every edge of its schema
EXAMPLES = 300 if FULL else 3
# who may do most, and who may do least; the others are asked with STINT_TEST_FULL=1
ROLES = ["internal_admin", "customer_user", *(["internal_user", "customer_admin", "visitor", None] if FULL else [])]
# who may do less only has what is made up at random in the common run; every edge of every schema is for who gets there
PHASES = {} if FULL else {"customer_user": ["--phases", "fuzzing"]}

# where else than in paths an id of the firm's is meant
NAMED = {
    "customer_id": ("query.customerId", "body.customerId"),
    "pillar_id": ("body.pillarId",),
    "task_id": ("query.taskId", "body.taskId"),
    "bill_id": ("query.timeBillId",),
    "owner": ("query.userId", "body.assigneeId"),
}


@pytest.fixture(scope="module")
def firm(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A Stint of its own: whatever can be deleted will be."""
    installation = Installation(new_database(database_url), amqp_url_apart, tmp_path_factory.mktemp("fuzzed"))
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def given(firm: Installation) -> Iterator[Given]:
    with closing(Given(firm)) as made:
        yield made


@pytest.mark.slow(seconds=50)
@pytest.mark.timeout(3600 if FULL else 900)
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role or "without a token")
def test_every_answer_is_as_the_document_says(role: str | None, given: Given, firm: Installation, tmp_path: Path) -> None:
    own = tenant(given)
    config = tmp_path / "schemathesis.toml"
    config.write_text(configuration(own))
    result = schemathesis(firm, config, token_of(role, given, own), *PHASES.get(role or "", []))
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr
    log = firm.log("api")
    assert '"level": "ERROR"' not in log and "Traceback" not in log, log[-5000:]


def token_of(role: str | None, given: Given, own: Tenant) -> str | None:
    if role is None:
        return None
    customer_id = own.ids["customer_id"] if role.startswith("customer") else None
    return given.person(role, customer_id).token


def schemathesis(stint: Installation, config: Path, token: str | None, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs every check. Exits with 1 for a failure, with what to do to see it again."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{stint.url}/docs/openapi.json"]
    sent = [] if token is None else ["--header", f"Authorization: Bearer {token}"]
    return subprocess.run(
        [*command, *sent, "--no-color", "--checks", "all", "--max-examples", str(EXAMPLES), *options],
        cwd=config.parent, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True,
    )  # fmt: skip


def configuration(own: Tenant) -> str:
    """Schemathesis's own file: the hooks, and every other id a real one."""
    lines = [
        'hooks = "tests.api.fuzzing"',
        "warnings = false",  # which operations a role never gets into is what test_roles.py is about
        "continue-on-failure = true",
        "max-stream-events = 1",  # /api/events never ends
        "cache.enabled = false",
        "generation.allow-x00 = false",  # fits any schema of a text, and is refused in all of them: test_strict_json.py
    ]
    for name, value in own.ids.items():
        lines.append(f"dictionaries.{name}.values = [{text(value)}]")
        for where in (f"path.{name}", *NAMED.get(name, ())):
            lines.append(f"parameters.{text(where)} = {{ dictionary = {text(name)}, probability = 0.5 }}")
    return "\n".join(lines) + "\n"


def text(value: str) -> str:
    return f'"{value}"'

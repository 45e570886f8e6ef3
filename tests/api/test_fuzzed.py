"""Schemathesis: random requests made from the OpenAPI document, and all its checks on the responses. It runs with several
roles, on a firm with at least one row of each kind, so that some ids in paths exist.

STINT_TEST_FULL=1 sends 150 times as many random requests, and the edge cases of all operations in one run.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.api.table import TABLE
from tests.api.tenants import Tenant, tenant
from tests.support.given import Given
from tests.support.installation import CHECKOUT, Installation, new_database
from tests.support.sizes import FULL

# the number of random requests for each operation, in addition to those for each edge case of its schema
EXAMPLES = 300 if FULL else 2
# of how many operations one, chosen at random, gets the edge cases: those of all take a minute of a processor
OPERATIONS = 1 if FULL else 16
# the roles with most and fewest permissions; STINT_TEST_FULL=1 adds the others
ROLES = ["internal_admin", "customer_user", *(["internal_user", "customer_admin", "visitor", None] if FULL else [])]
# the role with fewest permissions sends only random requests: most edge cases would be refused anyway
PHASES = {} if FULL else {"customer_user": ["--phases", "fuzzing"]}

# query parameters and body fields that take ids of the firm
ID_FIELDS = {
    "customer_id": ("query.customerId", "body.customerId"),
    "pillar_id": ("query.pillarId", "body.pillarId"),
    "task_id": ("query.taskId", "body.taskId"),
    "bill_id": ("query.timeBillId",),
    "owner": ("query.userId", "body.assigneeId"),
}


@pytest.fixture(scope="module")
def firm(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A separate installation, because the test deletes rows."""
    installation = Installation(new_database(database_url), amqp_url_apart, tmp_path_factory.mktemp("fuzzed"))
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def given(firm: Installation) -> Iterator[Given]:
    with closing(Given(firm)) as given:
        yield given


@pytest.mark.slow
@pytest.mark.timeout(3600 if FULL else 900)
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role or "without a token")
def test_every_response_matches_the_document(role: str | None, given: Given, firm: Installation, tmp_path: Path) -> None:
    own = tenant(given)
    config = tmp_path / "schemathesis.toml"
    config.write_text(configuration(own))
    result = schemathesis(firm, config, token_of(role, given, own), *PHASES.get(role or "", []))
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr
    log = firm.log("api")
    assert '"level":"ERROR"' not in log and "Traceback" not in log, log[-5000:]


def token_of(role: str | None, given: Given, own: Tenant) -> str | None:
    if role is None:
        return None
    customer_id = own.ids["customer_id"] if role.startswith("customer") else None
    return given.person(role, customer_id).token


def schemathesis(stint: Installation, config: Path, token: str | None, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs all checks. The exit code is 1 after a failure; the output tells how to repeat it."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{stint.url}/docs/openapi.json"]
    header = [] if token is None else ["--header", f"Authorization: Bearer {token}"]
    return subprocess.run(
        [*command, *header, "--no-color", "--checks", "all", "--max-examples", str(EXAMPLES), *options],
        cwd=config.parent, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True,
    )  # fmt: skip


def configuration(own: Tenant) -> str:
    """Schemathesis's configuration: the hooks, and existing ids for half of all ids."""
    lines = [
        'hooks = "tests.api.fuzzing"',
        "warnings = false",  # about operations that always refuse the role: test_roles.py tests those
        "continue-on-failure = true",
        "max-stream-events = 1",  # /api/events never ends
        "cache.enabled = false",
        "generation.allow-x00 = false",  # matches the schema of every text, but is always refused: test_strict_json.py
    ]
    if without := sorted(random.sample(sorted(TABLE), len(TABLE) - len(TABLE) // OPERATIONS)):
        lines.append(
            f"operations = [{{ include-name = {json.dumps(without)}, phases = {{ coverage = {{ enabled = false }} }} }}]"
        )
    for name, value in own.ids.items():
        lines.append(f"dictionaries.{name}.values = [{quoted(value)}]")
        for where in (f"path.{name}", *ID_FIELDS.get(name, ())):
            lines.append(f"parameters.{quoted(where)} = {{ dictionary = {quoted(name)}, probability = 0.5 }}")
    return "\n".join(lines) + "\n"


def quoted(value: str) -> str:
    return f'"{value}"'

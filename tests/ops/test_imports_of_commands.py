"""A command imports and builds only what it needs: importing all of Stint's libraries takes longer than most commands."""

import json
import subprocess
import sys

import pytest

from tests.support.installation import CHECKOUT, Installation

# what only some processes and commands need
HEAVY = {
    "litestar", "uvicorn", "dramatiq", "pika", "xero_python", "slack_sdk", "aiohttp", "aiosmtplib", "boto3", "rich", "httpx2",
    "urllib3", "pydantic_settings", "opentelemetry",
}  # fmt: skip
SIGNING = {"cryptography", "jwt", "email_validator"}
DATABASE = {"asyncio", "psycopg", "pydantic"}
FOUND = {"doctor": 1, "dead": 4}  # what they exit with: something is wrong; there are no dead letters
# Runs each command in a fork of a process that has imported only the command line, and prints what each has imported.
RUNNER = """
import json, os, sys
from ops import cli
found = {}
for words in json.loads(sys.argv[1]):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            code = cli.main(words)
        except SystemExit as error:
            code = error.code
        os.write(writing, json.dumps([code, sorted(sys.modules)]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        found[" ".join(words)] = json.loads(answer.read())
    os.wait()
print(json.dumps(found))
"""


def imported(commands: list[list[str]], **environment: str) -> dict[str, set[str]]:
    """The modules that each command has imported at its end. Each has to succeed."""
    argv = [sys.executable, "-P", "-c", RUNNER, json.dumps(commands)]
    done = subprocess.run(argv, env=environment | {"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    failed = {words: code for words, (code, _) in found.items() if code not in (0, FOUND.get(words.split()[0]))}
    assert failed == {}, done.stderr
    return {words: set(modules) for words, (_, modules) in found.items()}


def test_a_command_on_the_database_imports_no_heavy_library(stint: Installation) -> None:
    words = [
        ["user", "list"],
        ["dead"],
        ["dead", "list", "--limit", "1"],
        ["token", "--role", "none", "--email", "imports@example.com"],
        ["token", "--role", "none", "--email", "imports@example.com"],  # a known address was checked when it was stored
        ["xero", "check", "--start-date", "2001-01-01", "--end-date", "2001-01-01"],
    ]
    found = imported(words, **stint.environment)
    assert {command: names & HEAVY for command, names in found.items() if names & HEAVY} == {}
    assert found["user list"] & SIGNING == set() and found["dead list --limit 1"] & SIGNING == set()
    assert "email_validator" not in found[" ".join(words[-2])]
    # only --fresh has Xero read, and nothing approves a bill
    unneeded = ("schemas.xero.checks", "schemas.xero.client", "schemas.hours.bill")
    assert {name for name in found[" ".join(words[-1])] if name.startswith(unneeded)} == set()


def test_the_status_imports_no_client_of_http(stint: Installation) -> None:
    found = imported([["status", "--json"]], **stint.environment)["status --json"]
    assert found & (HEAVY - {"pika"}) == set(), "it looks at RabbitMQ itself, as nobody is named to ask"
    bills = {"schemas.hours.time_bills", "schemas.hours.bill_approval", "schemas.xero.client"}
    assert found & bills == set()
    asking = imported([["status", "--json"], ["doctor", "--json"]], **stint.environment | {"STINT_URL": stint.url})
    assert [names & (HEAVY | SIGNING | DATABASE) for names in asking.values()] == [set(), set()], "they only ask the API"


@pytest.mark.processes
def test_a_command_without_a_database_imports_no_library() -> None:
    found = imported([["--version"], ["stop", "--state", "/nowhere"], ["dead", "replay", "--help"]])
    assert [command for command, names in found.items() if names & (HEAVY | SIGNING | DATABASE)] == []


@pytest.mark.processes
def test_what_asks_a_running_up_imports_no_library() -> None:
    script = "import sys, ops.cli, ops.running.diagnosis, ops.running.logs, ops.running.token; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-P", "-c", script], env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(names) & (HEAVY | SIGNING | DATABASE) == set()


@pytest.mark.processes
def test_what_requests_need_is_imported_before_the_first_one() -> None:
    script = "import sys; from schemas.base import build_models; build_models(); print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-P", "-c", script], env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "email_validator" in names


@pytest.mark.processes
def test_processes_that_send_no_traces_import_nothing_for_them() -> None:
    script = """
import sys
from schemas import tracing
from actors.runtime import relay, worker
from api import app
tracing.configure_tracing("api")
with tracing.span("a request", "server") as span:
    assert span is None and tracing.traceparent() is None and not tracing.is_on()
assert "opentelemetry" not in sys.modules
"""
    subprocess.run([sys.executable, "-P", "-c", script], env={"PYTHONPATH": str(CHECKOUT)}, check=True)

"""`./stint dead` for scripts, and while only Postgres answers: exit codes, only JSON, no questions."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.installation import CHECKOUT, Installation, new_database

NOWHERE = "127.0.0.1:1"
BODY = {"to": "jo@exampl.com", "subject": "Hello", "paragraphs": ["One"], "link": None, "reply_to": None}


@pytest.fixture(scope="module")
def alone(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Only Postgres: no process of Stint runs, and RabbitMQ and the API are unreachable."""
    stint = Installation(new_database(database_url), f"amqp://{NOWHERE}/", tmp_path_factory.mktemp("dead"))
    stint.environment |= {"PUBLIC_URL": f"http://{NOWHERE}", "SMTP_URL": f"smtp://{NOWHERE}"}
    yield stint
    assert stint.processes == {}


def dead(stint: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs it without a terminal and with an empty open input: a command that asks a question would wait indefinitely."""
    return stint.command("dead", *words)


def dead_letter(stint: Installation, state: str = "dead") -> str:
    """A dead letter of its own group."""
    group = uuid4().hex[:16]
    stint.rows(
        "INSERT INTO failure_groups (fingerprint, actor, error_class, frame) VALUES (%s, 'send_mail', 'E', '') RETURNING 1",
        group,
    )
    return str(
        stint.value(
            """
            INSERT INTO messages (id, actor, queue, body, state, attempts, max_attempts, error, fingerprint)
            VALUES (gen_random_uuid(), 'send_mail', 'mail', %s, %s, 5, 5, 'E: no', %s) RETURNING id
            """,
            json.dumps(BODY), state, group,
        )
    )  # fmt: skip


def replay(stint: Installation, state: str) -> str:
    ended = "NULL" if state == "running" else "now()"
    insert = f"INSERT INTO replays (who, reason, state, ended_at) VALUES ('jo', 'fixed', %s, {ended}) RETURNING id"
    return str(stint.value(insert, state))


# what stands in capitals is made for each run
ACTIONS = (
    "",
    "groups",
    "list --actor send_mail --since 1h",
    "show DEAD",
    "replay DEAD --dry-run",
    "replay DEAD --reason fixed",
    "replays",
    "watch ENDED",
    "cancel RUNNING",
    "edit DEAD --set to=jo@example.com --dry-run",
    "edit DEAD --set to=jo@example.com --reason typo",
    "discard DEAD --reason unneeded",
    "restore DISCARDED --reason needed",
    "export --since 1h",
)


def made(stint: Installation, action: str) -> list[str]:
    """The arguments of the action, with rows of its own."""
    rows = {
        "DEAD": dead_letter(stint),
        "DISCARDED": dead_letter(stint, "discarded"),
        "RUNNING": replay(stint, "running"),
        "ENDED": replay(stint, "done"),
    }
    return [rows.get(word, word) for word in action.split()]


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_works_with_only_postgres_and_prints_only_json(alone: Installation, action: str) -> None:
    told = dead(alone, *made(alone, action))
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.strip()

    answered = dead(alone, *made(alone, action), "--json")
    assert (answered.returncode, answered.stderr) == (0, "")
    # an export is one JSON object a line, with or without it
    texts = answered.stdout.splitlines() if action.startswith("export") else [answered.stdout]
    assert texts and all(isinstance(json.loads(text), dict | list) for text in texts)


UNKNOWN: dict[str, list[str]] = {
    "show": [],
    "replay": ["--reason", "fixed"],
    "watch": [],
    "cancel": [],
    "edit": ["--set", "to=jo@example.com", "--reason", "a typo"],
    "discard": ["--reason", "nobody needs it"],
    "restore": ["--reason", "somebody does"],
}


@pytest.mark.parametrize("beginning", [36, 8], ids=["a whole id", "its beginning"])
@pytest.mark.parametrize("action", UNKNOWN)
def test_an_unknown_id_matches_nothing(alone: Installation, action: str, beginning: int) -> None:
    answered = dead(alone, action, str(uuid4())[:beginning], *UNKNOWN[action], "--json")
    assert answered.returncode == 4
    assert "There is no" in json.loads(answered.stdout)["error"]
    assert answered.stderr.startswith("stint: There is no") and answered.stderr.count("\n") == 1


def test_one_unknown_id_among_others_moves_none_of_them(alone: Installation) -> None:
    row = dead_letter(alone)
    assert dead(alone, "discard", row, str(uuid4()), "--reason", "a slip").returncode == 4
    assert alone.value("SELECT state FROM messages WHERE id = %s", row) == "dead"


@pytest.mark.parametrize("action", ["list", "export", "replay", "discard", "restore"])
def test_a_filter_without_matches_has_its_own_exit_code(alone: Installation, action: str) -> None:
    dead_letter(alone)
    reason = [] if action in ("list", "export") else ["--reason", "fixed"]
    answered = dead(alone, action, "--q", uuid4().hex, *reason, "--json")
    assert (answered.returncode, answered.stderr) == (4, "")
    if action == "export":
        assert answered.stdout == ""
    else:
        json.loads(answered.stdout)


def test_without_dead_letters_the_exit_code_is_the_same(database_url: str, tmp_path: Path) -> None:
    empty = Installation(new_database(database_url), f"amqp://{NOWHERE}/", tmp_path)
    answered = dead(empty, "--json")
    found: dict[str, Any] = json.loads(answered.stdout)
    assert (answered.returncode, found["items"], found["dead"], found["unrecognized"]) == (4, [], 0, 0)


def test_a_missing_reason_is_an_error_and_not_a_question(alone: Installation) -> None:
    row, gone = dead_letter(alone), dead_letter(alone, "discarded")
    for words in (["replay", row], ["discard", row], ["restore", gone], ["edit", row, "--set", "to=jo@example.com"]):
        refused = dead(alone, *words, "--json")
        assert refused.returncode == 1
        assert "--reason" in json.loads(refused.stdout)["error"] and "--reason" in refused.stderr
    assert alone.value("SELECT state FROM messages WHERE id = %s", row) == "dead"


def test_an_unreachable_database_is_reported_as_json(alone: Installation, tmp_path: Path) -> None:
    away = Installation("postgresql://stint@127.0.0.1:1/stint", f"amqp://{NOWHERE}/", tmp_path)
    refused = dead(away, "list", "--json")
    assert refused.returncode == 1
    assert "Connection refused" in json.loads(refused.stdout)["error"]


def test_an_edit_shows_what_changes_and_no_secret(alone: Installation) -> None:
    row = dead_letter(alone)
    tried = dead(alone, "edit", row, "--set", "to=jo@example.com", "--dry-run").stdout
    assert '-  "to": "jo@exampl.com"' in tried and '+  "to": "jo@example.com"' in tried and "The body is valid." in tried
    assert alone.value("SELECT body ->> 'to' FROM messages WHERE id = %s", row) == BODY["to"]
    hidden = 'paragraphs=["password=hunter2-hunter2"]'
    for more in (["--dry-run"], ["--dry-run", "--json"], ["--reason", "a typo"]):
        told = dead(alone, "edit", row, "--set", hidden, *more)
        assert told.returncode == 0 and "hunter2" not in told.stdout
        assert "•••" in (str(json.loads(told.stdout)) if "--json" in more else told.stdout)
    row = dead_letter(alone)
    alone.rows('UPDATE messages SET body = body || \'{"subject": "token=abcdef"}\' WHERE id = %s RETURNING 1', row)
    assert "The change is in redacted text." in dead(alone, "edit", row, "--set", "subject=token=ghijkl", "--dry-run").stdout
    assert "Nothing changes." in dead(alone, "edit", row, "--set", "subject=token=•••", "--dry-run").stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_the_output_without_an_error(alone: Installation, unbuffered: str) -> None:
    for _ in range(5):
        dead_letter(alone)
    listens, speaks = os.pipe()
    os.close(listens)
    result = subprocess.run(
        [sys.executable, "-m", "ops.cli", "dead", "export"],
        cwd=CHECKOUT,
        env=os.environ | alone.environment | {"PYTHONUNBUFFERED": unbuffered},
        stdout=speaks,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(speaks)
    assert (result.returncode, result.stderr) == (141, "")

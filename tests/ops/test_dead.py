"""`./stint dead` for scripts, and for nights on which nothing but Postgres answers: exit codes, JSON alone, no questions."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.installation import CHECKOUT, Installation, new_database

NOWHERE = "127.0.0.1:1"
BODY = {"to": "jo@exampl.com", "subject": "Hello", "paragraphs": ["One"], "link": None, "reply_to": None}


@pytest.fixture(scope="module")
def alone(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Postgres alone: no part of Stint runs, and where RabbitMQ and the API should be nobody listens."""
    stint = Installation(new_database(database_url), f"amqp://{NOWHERE}/", tmp_path_factory.mktemp("dead"))
    stint.environment |= {"PUBLIC_URL": f"http://{NOWHERE}", "SMTP_URL": f"smtp://{NOWHERE}"}
    yield stint
    assert stint.processes == {}


def dead(stint: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs it without a terminal, and with an input that never says anything: who asks a question waits for ever."""
    listens, speaks = os.pipe()
    try:
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", "dead", *words],
            cwd=CHECKOUT,
            env=os.environ | stint.environment,
            stdin=listens,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(listens)
        os.close(speaks)


def letter(stint: Installation, state: str = "dead") -> str:
    """One of a group of its own."""
    group = uuid4().hex[:16]
    stint.rows(
        "INSERT INTO failure_groups (fingerprint, actor, error_class, frame) VALUES (%s, 'send_mail', 'E', '') RETURNING 1",
        group,
    )
    return str(
        stint.value(
            """
            INSERT INTO messages (id, actor, queue, body, state, attempts, allowance, error, fingerprint)
            VALUES (gen_random_uuid(), 'send_mail', 'mail', %s, %s, 5, 5, 'E: no', %s) RETURNING id
            """,
            json.dumps(BODY), state, group,
        )
    )  # fmt: skip


def replay(stint: Installation, state: str) -> str:
    ended = "NULL" if state == "running" else "now()"
    insert = f"INSERT INTO replays (who, reason, state, ended_at) VALUES ('jo', 'mended', %s, {ended}) RETURNING id"
    return str(stint.value(insert, state))


# what stands in capitals is made for each run
ACTIONS = (
    "",
    "groups",
    "list --actor send_mail --since 1h",
    "show DEAD",
    "replay DEAD --dry-run",
    "replay DEAD --reason mended",
    "watch ENDED",
    "cancel RUNNING",
    "edit DEAD --set to=jo@example.com --dry-run",
    "edit DEAD --set to=jo@example.com --reason typo",
    "discard DEAD --reason unneeded",
    "restore DISCARDED --reason needed",
    "export --since 1h",
)


def made(stint: Installation, action: str) -> list[str]:
    """The words of the action, about rows of its own."""
    rows = {
        "DEAD": letter(stint),
        "DISCARDED": letter(stint, "discarded"),
        "RUNNING": replay(stint, "running"),
        "ENDED": replay(stint, "done"),
    }
    return [rows.get(word, word) for word in action.split()]


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_works_on_postgres_alone_and_answers_a_program_in_json_alone(alone: Installation, action: str) -> None:
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
    "replay": ["--reason", "mended"],
    "watch": [],
    "cancel": [],
    "edit": ["--set", "to=jo@example.com", "--reason", "a typo"],
    "discard": ["--reason", "nobody needs it"],
    "restore": ["--reason", "somebody does"],
}


@pytest.mark.parametrize("beginning", [36, 8], ids=["a whole id", "its beginning"])
@pytest.mark.parametrize("action", UNKNOWN)
def test_an_id_that_nobody_knows_matches_nothing(alone: Installation, action: str, beginning: int) -> None:
    answered = dead(alone, action, str(uuid4())[:beginning], *UNKNOWN[action], "--json")
    assert answered.returncode == 4
    assert "There is no" in json.loads(answered.stdout)["error"]
    assert answered.stderr.startswith("stint: There is no") and answered.stderr.count("\n") == 1


def test_one_unknown_id_among_others_moves_none_of_them(alone: Installation) -> None:
    row = letter(alone)
    assert dead(alone, "discard", row, str(uuid4()), "--reason", "a slip").returncode == 4
    assert alone.value("SELECT state FROM messages WHERE id = %s", row) == "dead"


@pytest.mark.parametrize("action", ["list", "export", "replay", "discard", "restore"])
def test_a_filter_that_nothing_meets_is_told_by_the_exit_code(alone: Installation, action: str) -> None:
    letter(alone)
    reason = [] if action in ("list", "export") else ["--reason", "mended"]
    answered = dead(alone, action, "--q", uuid4().hex, *reason, "--json")
    assert (answered.returncode, answered.stderr) == (4, "")
    if action == "export":
        assert answered.stdout == ""
    else:
        json.loads(answered.stdout)


def test_when_nothing_is_dead_that_is_told_too(database_url: str, tmp_path: Path) -> None:
    empty = Installation(new_database(database_url), f"amqp://{NOWHERE}/", tmp_path)
    answered = dead(empty, "--json")
    found: dict[str, Any] = json.loads(answered.stdout)
    assert (answered.returncode, found["items"], found["dead"], found["foreign"]) == (4, [], 0, 0)


def test_a_reason_that_is_needed_is_not_asked_for_but_missed(alone: Installation) -> None:
    row, gone = letter(alone), letter(alone, "discarded")
    for words in (["replay", row], ["discard", row], ["restore", gone], ["edit", row, "--set", "to=jo@example.com"]):
        refused = dead(alone, *words, "--json")
        assert refused.returncode == 1
        assert "--reason" in json.loads(refused.stdout)["error"] and "--reason" in refused.stderr
    assert alone.value("SELECT state FROM messages WHERE id = %s", row) == "dead"


def test_a_database_that_is_away_is_told_in_json_too(alone: Installation, tmp_path: Path) -> None:
    away = Installation("postgresql://stint@127.0.0.1:1/stint", f"amqp://{NOWHERE}/", tmp_path)
    refused = dead(away, "list", "--json")
    assert refused.returncode == 1
    assert "Connection refused" in json.loads(refused.stdout)["error"]


def test_an_edit_shows_what_changes_and_no_secret(alone: Installation) -> None:
    row = letter(alone)
    tried = dead(alone, "edit", row, "--set", "to=jo@example.com", "--dry-run").stdout
    assert '-  "to": "jo@exampl.com"' in tried and '+  "to": "jo@example.com"' in tried and "It fits." in tried
    assert alone.value("SELECT body ->> 'to' FROM messages WHERE id = %s", row) == BODY["to"]
    hidden = 'paragraphs=["password=hunter2-hunter2"]'
    for more in (["--dry-run"], ["--dry-run", "--json"], ["--reason", "a typo"]):
        told = dead(alone, "edit", row, "--set", hidden, *more)
        assert told.returncode == 0 and "hunter2" not in told.stdout
        assert "•••" in (str(json.loads(told.stdout)) if "--json" in more else told.stdout)
    row = letter(alone)
    alone.rows('UPDATE messages SET body = body || \'{"subject": "token=abcdef"}\' WHERE id = %s RETURNING 1', row)
    assert "What changes is masked." in dead(alone, "edit", row, "--set", "subject=token=ghijkl", "--dry-run").stdout
    assert "Nothing changes." in dead(alone, "edit", row, "--set", "subject=token=•••", "--dry-run").stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_has_seen_enough_of_a_list_is_told_nothing_more(alone: Installation, unbuffered: str) -> None:
    for _ in range(5):
        letter(alone)
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

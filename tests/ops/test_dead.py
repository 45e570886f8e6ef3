"""`./stint dead` for scripts, and while only Postgres answers: exit codes, only JSON, no questions."""

import asyncio
import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.outbox.rows import connected
from tests.support import firm_rows
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
    "cancel RUNNING --reason wrong",
    "edit DEAD --set to=jo@example.com --dry-run",
    "edit DEAD --set to=jo@example.com --reason typo",
    "discard DEAD --dry-run",
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


def test_the_beginning_of_a_group_is_enough_if_no_other_one_begins_with_it(alone: Installation) -> None:
    row = dead_letter(alone)
    group = str(alone.value("SELECT fingerprint FROM messages WHERE id = %s", row))
    for words in (("list",), ("export",), ("replay", "--dry-run"), ("discard", "--dry-run")):
        assert dead(alone, *words, "--group", group[:10].upper()).returncode == 0, words
    [listed] = json.loads(dead(alone, "list", "--group", group[:10], "--json").stdout)
    assert listed["id"] == row
    assert dead(alone, "list", "--group", group[:3]).returncode == 4, "too short to mean one"
    alone.rows(
        "INSERT INTO unrecognized_groups (queue, reason) SELECT 'timers', n::text FROM generate_series(1, 400000) n"
        " WHERE left(md5('timers ' || n), 4) = %s LIMIT 1 RETURNING 1",
        group[:4],
    )
    several = dead(alone, "discard", "--group", group[:4], "--reason", "why")
    assert (several.returncode, several.stderr) == (1, f"stint: Several groups begin with {group[:4]}; use more characters.\n")
    assert dead(alone, "list", "--group", group).returncode == 0


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


@pytest.mark.parametrize("value", ['"a\\u0000b"', '"\\ud800"', '{"\\udfff": 1}', "[" * 300 + "]" * 300, "[" * 9000])
def test_an_edit_with_what_cannot_be_stored_is_refused_in_words(value: str, alone: Installation, tmp_path: Path) -> None:
    row, file = dead_letter(alone), tmp_path / "body.json"
    file.write_text(json.dumps(BODY)[:-1] + f', "subject": {value}}}')
    refused = dead(alone, "edit", row, "--body", str(file), "--reason", "a typo")
    assert refused.returncode == 1 and refused.stderr.startswith("stint: ") and len(refused.stderr.splitlines()) == 1
    assert alone.value("SELECT body FROM messages WHERE id = %s", row) == BODY


def test_who_acts_is_the_account_of_the_system_and_the_host_whatever_the_environment_says(
    alone: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setitem(alone.environment, name, "admin")
    row, running = dead_letter(alone), replay(alone, "running")
    alone.rows("UPDATE replays SET total = 1 WHERE id = %s RETURNING 1", running)
    assert dead(alone, "discard", row, "--reason", "unneeded").returncode == 0
    told = dead(alone, "cancel", running, "--reason", "the wrong group").stdout
    who = f"{pwd.getpwuid(os.geteuid()).pw_name} on {socket.gethostname()} (terminal)"
    assert f"It was cancelled by {who}: the wrong group." in told
    assert alone.value("SELECT who FROM message_events WHERE message_id = %s", row) == who
    refused = dead(alone, "cancel", replay(alone, "running"), "--reason", "\u00a0\u200b")
    assert refused.returncode == 1 and "reason" in refused.stderr


def test_a_replay_that_was_cancelled_or_has_skipped_most_is_no_success(alone: Installation) -> None:
    codes = []
    for state, outcomes in (
        ("done", ["succeeded", "skipped"]), ("done", ["succeeded", "skipped", "skipped"]), ("cancelled", ["succeeded"]),
        ("cancelled", ["failed"]), ("done", ["skipped"]),
    ):  # fmt: skip
        ended = replay(alone, state)
        alone.rows(
            "INSERT INTO replay_messages (replay_id, n, message_id, sent_at, outcome) SELECT %s, n, gen_random_uuid(),"
            " CASE WHEN outcome <> 'skipped' THEN now() END, outcome FROM unnest(%s::text[]) WITH ORDINALITY AS o (outcome, n)"
            " RETURNING 1",
            ended, outcomes,
        )  # fmt: skip
        alone.rows("UPDATE replays SET total = %s WHERE id = %s RETURNING 1", len(outcomes), ended)
        codes.append(dead(alone, "watch", ended).returncode)
    assert codes == [0, 5, 5, 3, 5]


def test_an_export_has_dead_letters_and_unrecognized_messages_in_the_order_of_the_list(alone: Installation) -> None:
    mark = uuid4().hex
    rows = [dead_letter(alone) for _ in range(2)]
    alone.rows("UPDATE messages SET error = %s WHERE id::text = ANY(%s) RETURNING 1", mark, rows)
    rows.append(
        str(
            alone.value(
                "INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES ('mail', %s, 'x', '{}') RETURNING id",
                mark,
            )
        )
    )
    exported = [json.loads(line) for line in dead(alone, "export", "--q", mark).stdout.splitlines()]
    assert [line["id"] for line in exported] == rows[::-1]
    assert [line["kind"] for line in exported] == ["unrecognized", "message", "message"]


def test_work_is_triggered_with_a_reason(alone: Installation) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return alone.command("trigger", *words)

    unknown = run("sync_bill", str(uuid4()), "--reason", "why")
    assert (unknown.returncode, unknown.stderr) == (1, "stint: id: There is no such time bill.\n")
    assert "--reason" in run("sync_bill", str(uuid4()), "--reason", " ").stderr
    assert "id" in run("sync_bill", "x", "--reason", "why").stderr
    bill = asyncio.run(a_bill(alone.database_url))
    told = json.loads(run("sync_bill", bill, "--reason", "wrong in Xero", "--json").stdout)
    assert (told["actor"], told["result"]) == ("sync_bill", "enqueued")
    assert "under way already" in run("sync_bill", bill[:8], "--reason", "again").stdout
    assert run("sync_bill", "00000000", "--reason", "why").stderr == "stint: There is no time bill 00000000.\n"
    shown = dead(alone, "show", told["id"]).stdout
    assert "trigger by " in shown and ": wrong in Xero" in shown and ": again" in shown
    assert ", never died;" in shown and "error:" not in shown
    assert "\n  time bill General Support, of Jo for Acme, 2026-03-02, 60 min\n" in shown
    stopped = dead(alone, "show", dead_stop(alone, bill)).stdout
    assert "\n  person Jo, 2026-03-02\n  task Servers, Acme\n" in stopped


def dead_stop(stint: Installation, bill: str) -> str:
    """A dead stop of the person and the customer of that bill."""
    return str(
        stint.value(
            """
            INSERT INTO messages (id, actor, queue, body, state, max_attempts)
            SELECT gen_random_uuid(), 'stop_timer', 'timers', jsonb_build_object('user_id', b.user_id, 'task_id', t.id,
                   'start_time', '2026-03-02T09:00:00Z'), 'dead', 5
            FROM time_bills b JOIN tasks t USING (customer_id) WHERE b.id = %s RETURNING id
            """,
            bill,
        )
    )


async def a_bill(url: str) -> str:
    async with connected(url) as conn:
        return str(await firm_rows.bill(conn, await firm_rows.firm(conn)))


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

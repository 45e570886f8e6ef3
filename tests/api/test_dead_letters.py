"""Dead letters over HTTP, with secrets masked. Replays are tested in tests/outbox/test_replays.py."""

import base64
import json
from typing import Any
from uuid import uuid4

import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually

SECRETS = {
    "password": "hunter2-hunter2",
    "apiKey": "key-5f9c-22",
    "note": "Authorization: Bearer abcdefgh12345678",
    "link": "https://app.example.com/?token=tok-998877&next=/x",
    "url": "amqp://stint:pass-word-1@rabbit:5672/",
    "jwt": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "slack": "xoxb-123456789012-abcdef",
    "hook": "https://hooks.slack.com/commands/T1/2/abcdefgh",
}
PLANTED = ["hunter2", "key-5f9c", "abcdefgh12345678", "tok-998877", "pass-word-1", "c2lnbmF0dXJl", "xoxb-1234", "T1/2/abc"]


@pytest.fixture
def admin(given: Given) -> Person:
    return given.admin()


def dead_letter(stint: Installation, body: Json, error: str = "builtins.ValueError: no", actor: str = "send_mail") -> str:
    """Inserts a dead message with one failed attempt, and returns its id."""
    with stint.sql() as conn:
        row = conn.execute(
            """
            WITH message AS (
                INSERT INTO messages (id, actor, queue, body, state, attempts, max_attempts, died_at, error, fingerprint)
                VALUES (gen_random_uuid(), %(actor)s, 'mail', %(body)s, 'dead', 1, 1, clock_timestamp(), %(error)s, %(group)s)
                RETURNING id
            ), attempt AS (
                INSERT INTO message_attempts (message_id, n, error_class, error, traceback, worker, frame)
                SELECT id, 1, 'ValueError', %(error)s, %(error)s, 'here:1', 'actors/mail.py:send_mail' FROM message
            ), failures AS (
                INSERT INTO failure_groups (fingerprint, actor, error_class, frame, alerted_at)
                VALUES (%(group)s, %(actor)s, 'ValueError', 'actors/mail.py:send_mail', now()) ON CONFLICT DO NOTHING
            )
            SELECT id::text FROM message
            """,
            {"actor": actor, "body": json.dumps(body), "error": error, "group": uuid4().hex[:16]},
        ).fetchone()
    assert row is not None
    return str(row[0])


def test_no_secret_in_a_body_or_an_error_is_shown(admin: Person, stint: Installation) -> None:
    text = "; ".join(str(value) for name, value in SECRETS.items() if name not in ("password", "apiKey"))
    nested = {"deep": [{"clientSecret": "hunter2-hunter2", "code": "key-5f9c"}]}
    row = dead_letter(
        stint,
        {**SECRETS, **nested},
        error=f"{text}; password=hunter2-hunter2; api_key: key-5f9c-22; secret {stint.environment['SECRET_KEY']}",
    )
    answers = [
        admin.http.get(f"/api/dead-letters/{row}"),
        admin.http.get("/api/dead-letters", params={"actor": "send_mail", "limit": 1000}),
        admin.http.get("/api/dead-letters/groups"),
    ]
    shown = [answer.text for answer in answers]
    printed = [
        stint.command("dead", *words) for words in (("show", row), ("list",), ("groups",), ("export",), ("show", row, "--json"))
    ]
    shown += [result.stdout + result.stderr for result in printed]
    for text in shown:
        assert not [secret for secret in (*PLANTED, stint.environment["SECRET_KEY"]) if secret in text]
    assert answers[0].json()["body"]["password"] == "•••"
    assert answers[0].json()["body"]["url"] == "amqp://stint:•••@rabbit:5672/"


def test_the_password_of_a_configured_url_is_masked_in_any_text(
    admin: Person, stint: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stint.environment, "SMTP_URL", "smtp://jo:of%2Fthe-mail@mail.example.com:587")
    row = dead_letter(stint, {"to": "jo@example.com"}, error="the server said: of/the-mail is wrong, so is of%2Fthe-mail")
    shown = stint.command("dead", "show", row).stdout
    assert "the server said" in shown and "the-mail" not in shown


PHRASES = [
    'password="correct horse battery"',
    "{'api_key': 'correct horse battery'}",
    "token=b'horse'",
    r'"{\"password\": \"correct horse\", \"x\": 1}"',
    'secret="a\\" horse"',
    "pwd=horse",
    "-----BEGIN PRIVATE KEY-----\nMIIEhorse",
]


@pytest.mark.parametrize("phrase", PHRASES)
def test_the_whole_of_a_secret_is_masked(phrase: str, admin: Person, stint: Installation) -> None:
    row = dead_letter(stint, {"paragraphs": [phrase]}, error=f"it said {phrase}")
    shown = admin.http.get(f"/api/dead-letters/{row}")
    assert "horse" not in shown.text and "it said" in shown.json()["error"]


def test_a_pattern_does_not_match_from_one_dead_letter_into_the_next(admin: Person, stint: Installation) -> None:
    mark = uuid4().hex
    errors = [f"{mark} -----END PRIVATE KEY-----", f"{mark} between", f"{mark} -----BEGIN PRIVATE KEY-----"]
    rows = [dead_letter(stint, {}, error=error) for error in errors]
    found = admin.get("/api/dead-letters", q=mark)["items"]
    assert [item["id"] for item in found] == rows[::-1]
    assert found[1]["error"] == f"{mark} between"


def test_an_edit_that_would_store_a_mask_is_refused(admin: Person, stint: Installation) -> None:
    body = {"to": "jo@example.com", "subject": "Hello", "paragraphs": ["One", "password=hunter2-hunter2, good luck"]}
    row = dead_letter(stint, body)
    shown = admin.get(f"/api/dead-letters/{row}")["body"]

    def edit(paragraphs: list[str], **words: Any) -> Any:
        body = {"body": {**shown, "paragraphs": paragraphs}, "reason": "a typo"}
        return admin.http.post(f"/api/dead-letters/{row}/edit", json=body, **words)

    assert refused_fields(edit(["One", "password=•••, bad luck"])) == ["body.paragraphs.1"]
    assert refused_fields(edit(["password=•••, good luck"])) == ["body.paragraphs.0"]
    printed = stint.command("dead", "edit", row, "--set", 'paragraphs=["password=•••"]', "--dry-run")
    assert printed.returncode == 1 and "body.paragraphs.0" in printed.stderr
    assert edit(["Two", "password=•••, good luck"]).status_code == 200
    assert stint.value("SELECT body->'paragraphs' FROM messages WHERE id = %s", row) == ["Two", body["paragraphs"][1]]


def test_an_edit_prints_only_json_with_json(stint: Installation) -> None:
    body: Json = {"to": "jo@exampl.com", "subject": "Hello", "paragraphs": ["One"]}
    row = dead_letter(stint, body)
    change = ("dead", "edit", row, "--set", "to=jo@example.com", "--json")
    tried = json.loads(stint.command(*change, "--dry-run").stdout)
    assert (tried["before"], tried["after"]) == (body, {**body, "to": "jo@example.com"})
    assert json.loads(stint.command(*change, "--reason", "a typo").stdout)["history"][0]["action"] == "edit"


def test_a_dead_letter_cannot_send_control_characters_to_the_terminal(stint: Installation) -> None:
    row = dead_letter(stint, {"paragraphs": ["x"]}, error="red \x1b[31m and \x1b]0;owned\x07")
    unrecognized = str(stint.value(
        "INSERT INTO unrecognized_messages (queue, reason, body, headers)"
        " VALUES ('timers', E'no \\x1b[2J', %s, '{}') RETURNING id",
        b"\x1b[2J hello",
    ))  # fmt: skip
    for words in (("show", row), ("show", unrecognized), ("list",), ("groups",)):
        printed = stint.command("dead", *words).stdout
        assert "\x1b" not in printed and "\x07" not in printed


def test_fields_named_like_secrets_are_masked_in_the_json_of_an_unrecognized_message(
    admin: Person, stint: Installation
) -> None:
    raw = b'{"kwargs": {"code": "123456", "authorization": "abc def", "n": 1}}'
    row = str(stint.value(
        "INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES ('timers', 'unknown', %s, '{}') RETURNING id",
        raw,
    ))  # fmt: skip
    shown = admin.get(f"/api/dead-letters/{row}")
    assert json.loads(shown["body"]) == {"kwargs": {"code": "•••", "authorization": "•••", "n": 1}}
    assert shown["raw"] is None


def test_an_edited_body_keeps_the_secrets_that_were_left_masked_and_is_replayed(admin: Person, stint: Installation) -> None:
    body = {"to": "jo@exampl.com", "subject": "Your token: tok-998877", "paragraphs": ["password=hunter2-hunter2"]}
    row = dead_letter(stint, body)
    shown = admin.get(f"/api/dead-letters/{row}")["body"]
    assert "hunter2" not in json.dumps(shown)
    edited = admin.post(
        f"/api/dead-letters/{row}/edit", {"body": {**shown, "to": "jo@example.com"}, "reason": "a typo"}, status=200
    )
    kept = stint.value("SELECT body FROM messages WHERE id = %s", row)
    assert kept == {**body, "to": "jo@example.com", "link": None, "reply_to": None}
    assert [event["action"] for event in edited["history"]] == ["edit", "replay"]
    discarded = dead_letter(stint, body)
    admin.post("/api/dead-letters/discard", {"select": {"ids": [discarded]}, "reason": "not needed"}, status=200)
    problem(admin.http.post(f"/api/dead-letters/{discarded}/edit", json={"body": shown, "reason": "again"}), 409)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"to": 5}, "body.to"), ({"colour": "red"}, "body.colour"), ({"paragraphs": None}, "body.paragraphs")],
)
def test_an_edited_body_that_does_not_fit_is_refused_with_the_field_named(
    change: Json, field: str, admin: Person, stint: Installation
) -> None:
    body: Json = {"to": "jo@example.com", "subject": "Hello", "paragraphs": ["One"]}
    row = dead_letter(stint, body)
    answer = admin.http.post(f"/api/dead-letters/{row}/edit", json={"body": body | change, "reason": "a typo"})
    assert refused_fields(answer) == [field]
    assert stint.value("SELECT state || ' ' || (body->>'to') FROM messages WHERE id = %s", row) == "dead jo@example.com"


def test_an_edit_for_an_unknown_actor_is_refused(admin: Person, stint: Installation) -> None:
    row = dead_letter(stint, {"x": 1}, actor="launch_rocket")
    answer = admin.http.post(f"/api/dead-letters/{row}/edit", json={"body": {"x": 2}, "reason": "a typo"})
    assert "launch_rocket" in problem(answer, 422)["detail"]


@pytest.mark.parametrize(
    "select", [{}, {"all": True, "group": "x"}, {"ids": []}, {"ids": ["x"]}, {"filter": {"colour": "red"}}, {"all": False}]
)
def test_a_selection_that_makes_no_sense_is_refused(select: Any, admin: Person) -> None:
    for verb in ("replay", "discard", "restore"):
        refused_fields(admin.http.post(f"/api/dead-letters/{verb}", json={"select": select, "reason": "why"}))


def test_a_filter_finds_only_what_it_names(admin: Person, stint: Installation) -> None:
    mark = uuid4().hex
    rows = [dead_letter(stint, {"to": f"{mark}-{number}"}, error=f"{mark} 100% of_it {number}") for number in range(3)]

    def found(**filters: Any) -> list[str]:
        return [item["id"] for item in admin.get("/api/dead-letters", **filters)["items"]]

    assert found(q=mark) == rows[::-1]
    assert found(q=f"{mark}-1") == [rows[1]]
    assert found(q=f"{mark} 100% OF_IT 2") == [rows[2]]
    assert found(q=f"{mark} 100_ of") == []
    assert (
        found(q=mark, actor="stop_timer") == found(q=mark, queue="bills") == found(q=mark, until="2026-01-01T00:00:00Z") == []
    )
    assert found(q=mark, actor="null") == found(q=mark, queue="null") == found(q=mark, fingerprint="NULL") == []
    assert found(q=mark, state="discarded") == []
    died = admin.get(f"/api/dead-letters/{rows[1]}")["diedAt"]
    assert found(q=mark, since=died) == rows[:0:-1]
    first = admin.get("/api/dead-letters", q=mark, limit=2)
    assert found(q=mark, limit=2, cursor=first["nextCursor"]) == rows[:1]


def test_an_unrecognized_message_is_shown_raw_and_can_be_discarded(admin: Person, stint: Installation) -> None:
    raw = b"\xff\x00 from elsewhere"
    row = str(stint.value(
        """
        INSERT INTO unrecognized_messages (queue, reason, body, headers)
        VALUES ('timers', 'unknown id', %s, '{}') RETURNING id
        """,
        raw,
    ))  # fmt: skip
    shown = admin.get(f"/api/dead-letters/{row}")
    assert (shown["kind"], shown["actor"], shown["queue"], shown["error"]) == (
        "unrecognized",
        None,
        "timers",
        "unknown id",
    )
    assert base64.b64decode(shown["raw"]) == raw
    assert row in [item["id"] for item in admin.get("/api/dead-letters", queue="timers")["items"]]
    move = {"select": {"ids": [row]}, "reason": "unknown sender"}
    assert admin.post("/api/dead-letters/discard", move, status=200) == {"count": 1}
    assert admin.get(f"/api/dead-letters/{row}")["state"] == "discarded"
    assert admin.post("/api/dead-letters/restore", move, status=200) == {"count": 1}
    assert admin.post("/api/dead-letters/replay", move, status=202)["selected"] == 0


def test_the_history_names_everybody_who_discarded_or_restored_and_the_reasons(
    admin: Person, stint: Installation, given: Given
) -> None:
    other = given.admin()
    unrecognized = str(stint.value(
        "INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES ('timers', 'unknown', 'x', '{}') RETURNING id"
    ))  # fmt: skip
    for row in (dead_letter(stint, {"to": "jo@example.com"}), unrecognized):
        done: list[tuple[str, str, str]] = []
        for number in range(2):  # twice: both are in the history
            for by, verb in ((admin, "discard"), (other, "restore")):
                move = {"select": {"ids": [row]}, "reason": f"{verb} {number}"}
                assert by.post(f"/api/dead-letters/{verb}", move, status=200) == {"count": 1}
                assert by.post(f"/api/dead-letters/{verb}", move, status=200) == {"count": 0}
                done.append((by.email, verb, f"{verb} {number}"))
        history = admin.get(f"/api/dead-letters/{row}")["history"]
        assert [(event["who"], event["action"], event["reason"]) for event in history] == done
        assert [event["at"] for event in history] == sorted({event["at"] for event in history}), "each has its own time"
        printed = stint.command("dead", "show", row).stdout
        assert f"discard by {admin.email}: discard 0" in printed and f"restore by {other.email}: restore 1" in printed


@pytest.mark.parametrize("depth", [300, 600, 900])
def test_a_deeply_nested_unrecognized_message_is_shown(depth: int, admin: Person, stint: Installation) -> None:
    row = str(stint.value(
        "INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES ('timers', 'unknown', %s, '{}') RETURNING id",
        b'{"a":' * depth + b'"token=abcdef"' + b"}" * depth,
    ))  # fmt: skip
    assert "abcdef" not in admin.get(f"/api/dead-letters/{row}")["body"]


def test_only_the_beginning_of_a_long_unrecognized_message_is_shown(admin: Person, stint: Installation) -> None:
    row = str(stint.value(
        "INSERT INTO unrecognized_messages (queue, reason, body, headers)"
        " VALUES ('timers', 'unknown', convert_to(repeat('endless ', 2000000), 'UTF8'), '{}') RETURNING id"
    ))  # fmt: skip
    shown = admin.get(f"/api/dead-letters/{row}")
    assert shown["body"].startswith("endless endless") and shown["body"].endswith("… (16,000,000 bytes in all)")
    assert len(shown["body"]) < 300_000 and shown["raw"] is None


def test_a_filter_discards_and_restores_what_it_lists(admin: Person, stint: Installation) -> None:
    mark = uuid4().hex
    ours = dead_letter(stint, {"to": mark})
    unrecognized = str(stint.value(
        "INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES ('timers', 'unknown', %s, '{}') RETURNING id",
        mark.encode(),
    ))  # fmt: skip

    def listed(state: str) -> set[str]:
        return {item["id"] for item in admin.get("/api/dead-letters", q=mark, state=state)["items"]}

    move = {"select": {"filter": {"q": mark}}, "reason": "unknown sender"}
    assert admin.post("/api/dead-letters/discard", move, status=200) == {"count": 2}
    assert (listed("dead"), listed("discarded")) == (set(), {ours, unrecognized})
    assert admin.post("/api/dead-letters/restore", move, status=200) == {"count": 2}
    assert listed("dead") == {ours, unrecognized}


def test_a_replayed_message_is_still_found_by_the_first_characters_of_its_id(stint: Installation) -> None:
    row = dead_letter(stint, {"to": "jo@example.com"})
    with stint.sql() as conn:
        conn.execute("UPDATE messages SET state = 'done', done_at = now() WHERE id = %s", (row,))
    shown = stint.command("dead", "show", row[:13], "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["state"] == "done"
    refused = stint.command("dead", "edit", row[:13], "--set", "to=x", "--reason", "why")
    assert refused.returncode == 1 and "only a dead one can be edited" in refused.stderr


def test_a_replay_is_followed_and_cancelled_over_http(admin: Person, stint: Installation) -> None:
    rows = [dead_letter(stint, {"to": "jo@example.com", "subject": "Hello", "paragraphs": ["One"]}) for _ in range(3)]
    body = {"select": {"ids": rows}, "reason": "fixed", "ratePerSecond": 0.01}
    replay = admin.post("/api/dead-letters/replay", body, status=202)
    path = f"/api/dead-letters/replays/{replay['id']}"
    assert (replay["state"], replay["selected"], replay["who"]) == ("running", 3, admin.email)
    assert admin.post("/api/dead-letters/replay", body | {"dryRun": True}, status=202)["id"] is None
    eventually(lambda: admin.get(path)["sent"] == 1, why="the first is sent, and at this rate no second one for a while")
    admin.delete(path)
    problem(admin.http.delete(path), 409)
    followed = admin.get(path)
    assert (followed["state"], followed["sent"]) == ("cancelled", 1)
    assert stint.value("SELECT count(*) FROM messages WHERE id = ANY(%s::uuid[]) AND replays = 0 AND state = 'dead'", rows) == 2

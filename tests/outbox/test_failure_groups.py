"""Groups of dead letters: different causes apart, the same cause together; and what an older version has grouped."""

from typing import Any
from uuid import UUID

import pytest

from schemas.masking import Redactor
from schemas.outbox import alerts, failed_attempts, outbox
from schemas.outbox.dead_letters import groups
from schemas.outbox.dead_letters.fingerprints import MAX_GROUPS, MAX_LENGTH, OTHERS, normalized
from schemas.outbox.failed_attempts import Failure
from schemas.postgres.connection import Connection
from tests.outbox.rows import message, over
from tests.outbox.test_alert_groups import settings
from tests.support.cpu import assert_linear, pumps
from tests.support.installation import new_database

ALIKE = [
    ("No user jo@example.com", "no user <Ada@Example.org>"),
    ("The value '6f0e3c9a-2f3b-4a55-9d3e-0a1b2c3d4e5f' is not valid", "The value 'x1' is not valid"),
    ("At most 59,940 minutes", "At most 60 minutes"),
    ("Closed on 2026-03-02T10:00:00Z", "Closed  on 2027-01-01"),
    ("No project 'Website' of “Acme & Sons”", "No project 'App, new' of “Bolt”"),
    ('It isn\'t "here"', 'It isn\'t "over there, is it"'),
    ("Bills a1, b2 are gone", "Bills c3 are gone"),
    ("Bills 'a', 'b' and 'c' are gone", "Bills 'd' and 'e' are gone"),
    ("(421, b'Try later')", "(451, b'Greylisted')"),
    ("GET https://a.example.com/x failed", "GET http://10.0.0.1:80/ failed"),
    (
        'new row violates check constraint "minutes"\nDETAIL:  Failing row contains (Acme, null).',
        'new row violates check constraint "minutes"\nDETAIL:  Failing row contains (Bolt, t).\nCONTEXT:  SQL function',
    ),
]
APART = [
    ("The task is LOCKED", "The task is INVOICED"),
    ('duplicate key violates unique constraint "bills_of_day_2"', 'duplicate key violates unique constraint "one_timer"'),
    ('null value in column "task_id" of relation "timers"', 'null value in column "user_id" of relation "timers"'),
    ("'NoneType' object has no attribute 'email'", "'NoneType' object has no attribute 'name'"),
    ("Slack refused the call: channel_not_found", "Slack refused the call: invalid_auth"),
    ("", "no"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_values_in_an_error_make_no_difference(one: str, other: str) -> None:
    assert normalized(one) == normalized(other) != ""


@pytest.mark.parametrize(("one", "other"), APART)
def test_other_words_are_another_cause(one: str, other: str) -> None:
    assert normalized(one) != normalized(other)


def test_the_words_of_an_error_are_found_in_time_in_proportion_to_its_length_and_are_limited() -> None:
    units = ("'", " '", "'a", " 'a'a", '" ', "a ", "b'", "‘’a", "# ", "1 ")
    for make in pumps(*units):
        assert_linear(normalized, make)
    assert max(len(normalized(unit * 5_000)) for unit in units) <= MAX_LENGTH
    assert normalized("word " * 59 + "half-a-secret") == " ".join(["word"] * 59)


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def fail(conn: Connection, error: str, *, frame: str = "actors/xero.py:f", final: bool = True) -> UUID:
    message_id = await message(conn, "sent")
    record = await outbox.lock(conn, message_id)
    assert record is not None
    failure = Failure("NonRetryable", error, "", "w", frame=frame, final=final)
    await failed_attempts.record_failed_attempt(conn, record, failure, base_seconds=1)
    return message_id


async def shown(conn: Connection, url: str) -> list[tuple[str, int]]:
    found = await groups.list_groups(conn, Redactor(settings(url)))
    return sorted((group.message, group.count) for group in found.items)


def test_a_death_is_recorded_in_the_group_of_its_words(url: str) -> None:
    async def check(conn: Connection) -> list[tuple[str, int]]:
        for error in ("The task is LOCKED", "The task is INVOICED", "No user jo@example.com", "No user ada@example.com"):
            await fail(conn, error)
        await fail(conn, "The task is LOCKED", frame="actors/xero.py:g")
        return await shown(conn, url)

    assert over(url, check) == [
        ("no user #", 2),
        ("the task is invoiced", 1),
        ("the task is locked", 1),
        ("the task is locked", 1),
    ]


def test_errors_whose_words_are_values_do_not_make_groups_without_end(url: str) -> None:
    """Each new group is a mail to the people on call."""
    words = [f"{one}{other}" for one in "abcdefgh" for other in "abcdefgh"]

    async def check(conn: Connection) -> tuple[int, dict[str, int], list[tuple[str, int]]]:
        for word in words:
            await fail(conn, f"Nobody is called {word}")
        await fail(conn, f"Nobody is called {words[0]}")
        found = await shown(conn, url)
        await conn.execute("UPDATE messages SET state = 'done', done_at = now()")
        await conn.execute("UPDATE failure_groups SET last_at = last_at - interval '31 days'")
        await fail(conn, "Another cause, a month later")
        return len(found), dict(found), await shown(conn, url)

    count, found, later = over(url, check)
    assert (count, found[OTHERS]) == (MAX_GROUPS + 1, len(words) - MAX_GROUPS)
    assert found[f"nobody is called {words[0]}"] == 2
    assert ("another cause, a month later", 1) in later, "what was not seen for a month takes no place"


def test_what_the_version_before_has_grouped_is_regrouped_without_new_alerts(url: str) -> None:
    old = """
        INSERT INTO failure_groups (fingerprint, actor, error_class, frame, first_at, last_at, alerted_at)
        VALUES ('old', 'recompute_bills', 'NonRetryable', 'actors/xero.py:f', now() - interval '9 days',
                now() - make_interval(secs => %s), now() - interval '9 days')
    """

    async def check(conn: Connection) -> list[Any]:
        dead = [await fail(conn, error) for error in ("The task is LOCKED", "The task is INVOICED", "The task is LOCKED")]
        await conn.execute("DELETE FROM failure_groups")
        await conn.execute("UPDATE messages SET fingerprint = 'old'")
        await conn.execute("UPDATE messages SET state = 'discarded' WHERE id = %s", (dead[1],))
        await conn.execute("UPDATE messages SET state = 'done', done_at = now(), replays = 1 WHERE id = %s", (dead[2],))
        await conn.execute(old, (60,))
        seen: list[Any] = [await groups.regroup(conn), await shown(conn, url)]  # a process of that version may be recording
        await conn.execute("UPDATE failure_groups SET last_at = now() - interval '1 hour'")
        seen += [await groups.regroup(conn), await groups.regroup(conn), await shown(conn, url)]
        again = await fail(conn, "The task is locked")
        same = "SELECT count(DISTINCT fingerprint) FROM messages WHERE id = ANY(%s)"
        seen += [await conn.value(same, ([dead[0], dead[2], again],)), await conn.value(same, (dead,))]
        seen += [await alerts.send_alerts(conn, settings(url)), await conn.value("SELECT count(*) FROM failure_groups")]
        return seen

    assert over(url, check) == [0, [("", 1)], 3, 0, [("the task is locked", 1)], 1, 2, [], 2]


def test_what_was_made_dead_without_a_group_gets_one(url: str) -> None:
    async def regroup(conn: Connection) -> Any:
        await message(conn, "dead", error="'No such bill 17'", died_at="now() - interval '1 hour'")
        await message(conn, "dead", error="'No such bill 18'", died_at="now()")
        before = await groups.list_groups(conn, Redactor(settings(url)))
        counts = [await groups.regroup(conn), await groups.regroup(conn)]
        return before.items, counts, await groups.list_groups(conn, Redactor(settings(url)))

    before, counts, found = over(url, regroup)
    [group] = found.items
    assert (before, counts, group.count, group.message) == ([], [2, 0], 2, "no such bill #")
    assert (group.last - group.first).total_seconds() == pytest.approx(3600, abs=60)


def test_many_dead_letters_are_regrouped_some_at_a_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "REGROUPED", 3)

    async def check(conn: Connection) -> list[int]:
        for number in range(7):
            await message(conn, "dead", fingerprint="'old'", error=f"'no {number}'")
        await conn.execute(
            "INSERT INTO failure_groups (fingerprint, actor, error_class, frame, last_at)"
            " VALUES ('old', 'recompute_bills', 'E', '', now() - interval '1 hour')"
        )
        return [await groups.regroup(conn) for _ in range(4)]

    assert over(url, check) == [3, 3, 1, 0]

"""Every rule of the pruning is valid SQL, and deletes what has served its purpose and nothing else."""

import asyncio
from uuid import uuid4

import psycopg
import pytest

from actors.runtime import rescuer
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from tests.support.installation import SECRET_KEY, new_database

NAMES = """
    SELECT 'message: ' || actor FROM messages WHERE state IN ('dead', 'discarded')
    UNION ALL SELECT 'unrecognized: ' || reason FROM unrecognized_messages
"""
# For each table a row that has to be deleted and one that has to be kept, as (values, the row's time before now).
ROWS = {
    "messages": (
        "(id, actor, queue, body, max_attempts, state, died_at, done_at)"
        " SELECT gen_random_uuid(), 'a', 'bills', '{}', 5, s, t, CASE s WHEN 'done' THEN t END",
        [("done", "31 days")],
        [("done", "29 days"), ("ready", "400 days"), ("dead", "400 days"), ("discarded", "400 days")],
    ),
    "recompute_jobs": ("(dry_run, finished_at) SELECT s::bool, t", [("true", "31 days")], [("true", "29 days")]),
    "queue_samples": (
        "(at, queue, waiting, later, running, dead, handled, oldest_seconds) SELECT t, 'bills', 0, 0, 0, 0, 0, 0",
        [("", "25 hours")],
        [("", "23 hours")],
    ),
    "rate_limits": ("(key, refilled_at) SELECT gen_random_uuid(), t", [("", "1 second")], [("", "-1 hour")]),
    "sign_in_codes": (
        "(id, user_id, code_hash, expires_at) SELECT gen_random_uuid(), %(user)s, 'x', t",
        [("", "1 second")],
        [("", "-1 hour")],
    ),
    "sign_in_links": (
        "(token_hash, user_id, access_version, expires_at) SELECT uuid_send(gen_random_uuid()), %(user)s, 0, t",
        [("", "1 second")],
        [("", "-1 hour")],
    ),
    "console_sessions": (
        "(token_hash, user_id, access_version, role, expires_at) SELECT uuid_send(gen_random_uuid()), %(user)s, 0, 'x', t",
        [("", "1 second")],
        [("", "-1 hour")],
    ),
    "slack_deduplication": ("(key, at) SELECT gen_random_uuid(), t", [("", "49 hours")], [("", "47 hours")]),
    "slack_homes": ("(slack_id, opened_at) SELECT gen_random_uuid(), t", [("", "31 days")], [("", "29 days")]),
    "slack_approval_days": ("(day) SELECT t::date", [("", "32 days")], [("", "29 days")]),
    "slack_reminder_days": ("(user_id, day) SELECT %(user)s, t::date", [("", "32 days")], [("", "29 days")]),
    "sync_operations": (
        "(user_id, op_id, fingerprint, created_at) SELECT %(user)s, gen_random_uuid(), 'x', t",
        [("", "91 days")],
        [("", "89 days")],
    ),
    "sync_epochs": (
        "(id, position, unbroken_since, written_by, began_at, ended_at)"
        " SELECT trunc(random() * 1e9), '0/0', t, pg_current_xact_id(), t, t",
        [("", "91 days")],
        [("", "89 days")],
    ),
    "xero_oauth_states": (
        "(state_hash, user_id, expires_at) SELECT uuid_send(gen_random_uuid()), %(user)s, t",
        [("", "1 second")],
        [("", "-1 hour")],
    ),
    "xero_calls": ("(tenant_id, ends_at) SELECT 'tenant', t", [("", "49 hours")], [("", "47 hours"), ("", "-1 minute")]),
}


@pytest.fixture(scope="module")
def conn_url(database_url: str) -> str:
    return new_database(database_url)


def test_each_rule_has_rows_here() -> None:
    assert [rule.table for rule in rescuer.PRUNE_RULES] == list(ROWS)


@pytest.mark.parametrize("rule", rescuer.PRUNE_RULES, ids=lambda rule: rule.table)
def test_a_rule_deletes_what_has_served_its_purpose_and_nothing_else(rule: rescuer.PruneRule, conn_url: str) -> None:
    columns, old, young = ROWS[rule.table]
    user = uuid4()
    with psycopg.connect(conn_url, autocommit=True) as conn:
        conn.execute("INSERT INTO users (id, email, name) VALUES (%s, %s, 'Jo')", (user, f"{user}@example.com"))
        for state, age in [*old, *young]:
            conn.execute(
                f"INSERT INTO {rule.table} {columns}"
                " FROM (SELECT %(state)s AS s, now() - %(age)s::interval AS t) AS given".encode(),
                {"user": user, "state": state, "age": age},
            )

        async def prune() -> None:
            async with await Connection.connect(conn_url, autocommit=True) as async_conn:
                await rescuer.prune(async_conn, days=30)

        asyncio.run(prune())
        left = conn.execute(f"SELECT count(*) FROM {rule.table}".encode()).fetchone()
        due = conn.execute(f"SELECT count(*) FROM {rule.table} WHERE {rule.condition}".encode(), {"days": 30}).fetchone()
    assert (left, due) == ((len(young),), (0,))


def test_a_message_that_was_edited_is_kept(conn_url: str) -> None:
    """Its history shows what was changed."""
    with psycopg.connect(conn_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO messages (id, actor, queue, body, max_attempts, state, replays, done_at)"
            " SELECT gen_random_uuid(), 'edited', 'bills', to_jsonb(n), 5, 'done', 1, now() - interval '1 year'"
            " FROM generate_series(1, 3) n"
        )
        conn.execute(
            "INSERT INTO message_events (message_id, who, action, reason)"
            " SELECT id, 'ann', (ARRAY['edit', 'replay', 'discard'])[body::int], 'typo' FROM messages WHERE actor = 'edited'"
        )
        conn.execute(rescuer.PRUNE_RULES[0].statement.encode(), {"days": 30})
        left = conn.execute("SELECT body FROM messages WHERE actor = 'edited'").fetchall()
        conn.execute("DELETE FROM messages WHERE actor = 'edited'")
    assert left == [(1,)]


# a row for each person, or epoch
SMALL = {"slack_homes", "sync_epochs"}


def test_a_round_reads_no_rows_that_are_kept(conn_url: str) -> None:
    """An index leads to what is old enough: with 10 million messages that are done, reading all took 17 s of each round."""
    read_all = set()
    with psycopg.connect(conn_url) as conn:
        conn.execute("SET LOCAL enable_seqscan = off")
        conn.execute("SET LOCAL enable_sort = off")
        for rule in rescuer.PRUNE_RULES:
            plan = conn.execute(f"EXPLAIN {rule.statement}".encode(), {"days": 30}).fetchall()
            column = rule.order.split(",")[0]
            if not any(f"Index Cond: ({column} < " in line for (line,) in plan):
                read_all.add(rule.table)
    assert read_all == SMALL


def test_a_round_deletes_no_more_than_the_limit_the_oldest_first(conn_url: str) -> None:
    rule = rescuer.PruneRule("slack_deduplication", "key", "at < clock_timestamp() - interval '48 hours'", "at", 2)
    with psycopg.connect(conn_url, autocommit=True) as conn:
        conn.execute("DELETE FROM slack_deduplication")
        conn.execute(
            "INSERT INTO slack_deduplication (key, at)"
            " SELECT n::text, now() - make_interval(days => n) FROM generate_series(3, 6) n"
        )
        conn.execute(rule.statement.encode())
        left = [key for (key,) in conn.execute("SELECT key FROM slack_deduplication ORDER BY at DESC").fetchall()]
    assert left == ["3", "4"]


def test_relays_that_prune_at_the_same_time_do_not_wait_for_each_other(conn_url: str) -> None:
    with psycopg.connect(conn_url) as one, psycopg.connect(conn_url, autocommit=True) as other:
        other.execute("INSERT INTO slack_deduplication (key, at) VALUES ('locked', now() - interval '99 days')")
        one.execute("SELECT FROM slack_deduplication WHERE key = 'locked' FOR UPDATE")
        other.execute("SET lock_timeout = '1s'")
        for rule in rescuer.PRUNE_RULES:
            other.execute(rule.statement.encode(), {"days": 30})


def test_what_was_discarded_is_deleted_only_after_the_days_that_are_set(conn_url: str) -> None:
    async def deleted() -> set[str]:
        async with await Connection.connect(conn_url, autocommit=True) as conn:
            await conn.execute("DELETE FROM messages")
            for name, state, died, discarded in (
                ("discarded long ago", "discarded", 40, 20),
                ("discarded yesterday", "discarded", 40, 1),
                ("edited", "discarded", 40, 20),
                ("dead", "dead", 40, None),
            ):
                message = await conn.value(
                    """
                    INSERT INTO messages (id, actor, queue, body, max_attempts, state, died_at)
                    VALUES (gen_random_uuid(), %s, 'bills', '{}', 5, %s, now() - make_interval(days => %s)) RETURNING id
                    """,
                    (name, state, died),
                )
                actions = [] if discarded is None else ["edit", "discard"] if name == "edited" else ["discard"]
                for action in actions:
                    await conn.execute(
                        "INSERT INTO message_events (message_id, at, who, action, reason)"
                        " VALUES (%s, now() - make_interval(days => %s), 'jo', %s, 'x')",
                        (message, discarded, action),
                    )
            for reason, days in (("discarded long ago", 20), ("discarded yesterday", 1), ("kept", None)):
                await conn.execute(
                    """
                    INSERT INTO unrecognized_messages (queue, reason, body, headers, at, discarded_at)
                    VALUES ('bills', %s, 'x', '', now() - interval '40 days', now() - make_interval(days => %s))
                    """,
                    (reason, days),
                )
            before = set(await conn.values(NAMES))
            for set_days in (None, 10.0):
                settings = Settings.model_validate(
                    {"database_url": conn_url, "secret_key": SECRET_KEY, "stint_discarded_days": set_days}
                )
                await rescuer.rescue_once(conn, settings)
                assert set_days or set(await conn.values(NAMES)) == before
            return before - set(await conn.values(NAMES))

    assert asyncio.run(deleted()) == {"message: discarded long ago", "unrecognized: discarded long ago"}

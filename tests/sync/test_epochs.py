"""Sync epochs: when one begins, and which cursors of earlier ones are valid."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest

from actors.runtime.rescuer import prune
from ops.verify import INVARIANTS
from schemas.postgres import foreign_xids, sync_cursor, sync_epochs, sync_start
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page
from schemas.postgres.migrate import migrate
from schemas.sync import live_events, pull
from tests.support.installation import new_database

Result = TypeVar("Result")
CHANGED_BY = """
SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.atttypid = 'xid8'::regtype
    AND c.relname NOT LIKE 'sync\\_epoch%' GROUP BY 1
"""
SOMEBODY = "INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), 'a@example.com', 'A') RETURNING id"


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def run(url: str, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    async def with_connection() -> Result:
        async with await Connection.connect(url, autocommit=True) as conn:
            return await work(conn)

    return asyncio.run(with_connection())


def value(url: str, query: str, *parameters: object) -> object:
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(query.encode(), parameters or None).fetchone()
        return None if row is None else row[0]


def restart(url: str) -> None:
    """As if Postgres had recovered from a crash: it empties unlogged tables."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("TRUNCATE sync_epoch_marker")


async def pulled(conn: Connection, since: str | None = None) -> dict[str, object]:
    answer: dict[str, object] = json.loads(await pull.pull(conn, Page(1000, since=since), user_id=uuid4()))
    return answer


async def is_valid(conn: Connection, cursor: str) -> bool:
    return not (await sync_start.parse_cursor(conn, cursor))[1]


def test_every_column_with_a_transaction_id_is_known(url: str) -> None:
    with psycopg.connect(url) as conn:
        found = conn.execute(CHANGED_BY.encode()).fetchall()
    assert {table: tuple(columns) for table, columns in found} == foreign_xids.CHANGED_BY


def test_the_first_reader_begins_an_epoch_and_later_ones_keep_it(url: str) -> None:
    assert value(url, "SELECT sync_epoch()") is None
    first = run(url, pulled)["syncTimestamp"]
    epoch = value(url, "SELECT sync_epoch()")
    assert isinstance(epoch, int) and isinstance(first, str) and UUID(first.partition(".")[0]).int >> 64 == epoch
    assert run(url, lambda conn: is_valid(conn, first))
    assert (value(url, "SELECT sync_epoch()"), value(url, "SELECT count(*) FROM sync_epochs")) == (epoch, 1)


def test_readers_that_come_at_once_begin_one_epoch(url: str) -> None:
    async def read() -> set[str]:
        connections = [await Connection.connect(url, autocommit=True) for _ in range(8)]
        answers = await asyncio.gather(*(pulled(conn) for conn in connections))
        for conn in connections:
            await conn.close()
        return {str(answer["syncTimestamp"])[:16] for answer in answers}

    assert len(asyncio.run(read())) == 1 and value(url, "SELECT count(*) FROM sync_epochs") == 1


def test_a_cursor_of_an_earlier_epoch_is_valid_up_to_the_recorded_position(url: str) -> None:
    async def cursors(conn: Connection) -> tuple[str, str]:
        early = str((await pulled(conn))["syncTimestamp"])
        await sync_epochs.record_position(conn)
        value(url, SOMEBODY)
        return early, str((await pulled(conn))["syncTimestamp"])

    early, late = run(url, cursors)
    for _ in range(3):
        restart(url)
        assert run(url, lambda conn: is_valid(conn, early)) and not run(url, lambda conn: is_valid(conn, late))
        assert run(url, pulled)["syncTimestamp"] not in (early, late)
    assert value(url, "SELECT count(*) FROM sync_epochs") == 4


@pytest.mark.parametrize("table", ["sync_epochs", "sync_epoch_marker"])
def test_rows_that_were_copied_prove_nothing(table: str, url: str) -> None:
    """A dump that is restored contains the rows as they were, with the transaction that wrote them."""
    cursor = str(run(url, pulled)["syncTimestamp"])
    run(url, sync_epochs.record_position)
    if table == "sync_epochs":
        restart(url)
    with psycopg.connect(url) as conn:
        conn.execute(f"CREATE TABLE kept AS TABLE {table}".encode())
        conn.execute(f"DELETE FROM {table}".encode())
        conn.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE kept".encode())
    assert value(url, "SELECT sync_epoch()") is None
    assert run(url, lambda conn: is_valid(conn, cursor)) == (table == "sync_epoch_marker")


def test_a_copied_database_begins_its_own_epoch(url: str, database_url: str) -> None:
    run(url, pulled)
    run(url, sync_epochs.record_position)
    before = value(url, "SELECT sync_epoch()")
    copy = f"t{uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {copy} TEMPLATE {url.partition('?')[0].rpartition('/')[2]}".encode())
    copied = url.replace(url.partition("?")[0].rpartition("/")[2], copy)
    assert value(copied, "SELECT sync_epoch()") is None
    run(copied, pulled)
    assert value(copied, "SELECT sync_epoch()") not in (None, before)


def test_ids_of_another_server_are_corrected_and_nothing_else_changes(url: str) -> None:
    somebody = value(url, SOMEBODY)
    cursor = str(run(url, pulled)["syncTimestamp"])
    run(url, sync_epochs.record_position)
    with psycopg.connect(url) as conn:
        conn.execute("ALTER TABLE users DISABLE TRIGGER touch")
        conn.execute("UPDATE users SET changed_xid = '99999999'")
        conn.execute("ALTER TABLE users ENABLE TRIGGER touch")
    before = value(url, "SELECT to_jsonb(u) - 'changed_xid' FROM users u WHERE id = %s", somebody)

    assert run(url, sync_epochs.adopt)

    assert value(url, "SELECT changed_xid::text FROM users WHERE id = %s", somebody) == "3"
    assert value(url, "SELECT to_jsonb(u) - 'changed_xid' FROM users u WHERE id = %s", somebody) == before
    assert not run(url, lambda conn: is_valid(conn, cursor))  # its client may not have the restored rows
    fresh = str(run(url, pulled)["syncTimestamp"])
    assert run(url, lambda conn: is_valid(conn, fresh))


def test_verify_names_rows_with_ids_of_another_server(url: str) -> None:
    somebody = value(url, SOMEBODY)
    run(url, pulled)
    (invariant,) = [one for one in INVARIANTS if "future" in one.rule]
    found = invariant.query.replace("%%", "%")
    assert value(url, found) is None
    with psycopg.connect(url) as conn:
        conn.execute("ALTER TABLE users DISABLE TRIGGER touch")
        conn.execute("UPDATE users SET changed_xid = '99999999'")
        conn.execute("ALTER TABLE users ENABLE TRIGGER touch")
    assert str(somebody) in str(value(url, found)) and "99999999" in str(value(url, found))
    run(url, sync_epochs.adopt)
    assert value(url, found) is None


def test_while_ids_of_another_server_are_there_each_sync_starts_again(url: str) -> None:
    value(url, SOMEBODY)
    with psycopg.connect(url) as conn:
        conn.execute("ALTER TABLE users DISABLE TRIGGER touch")
        conn.execute("UPDATE users SET changed_xid = '99999999'")
        conn.execute("ALTER TABLE users ENABLE TRIGGER touch")
    first = run(url, pulled)
    assert first["syncTimestamp"] == sync_cursor.UNTRUSTED and "reset" not in first
    again = run(url, lambda conn: pulled(conn, sync_cursor.UNTRUSTED))
    assert (again["syncTimestamp"], again["reset"]) == (sync_cursor.UNTRUSTED, True)

    asyncio.run(migrate(url))  # or a relay

    last = run(url, lambda conn: pulled(conn, sync_cursor.UNTRUSTED))
    assert last["reset"] is True and last["syncTimestamp"] != sync_cursor.UNTRUSTED
    assert "reset" not in run(url, lambda conn: pulled(conn, str(last["syncTimestamp"])))


def test_a_database_that_is_being_restored_gets_no_epoch(url: str) -> None:
    """pg_restore creates the primary keys last: until then, rows are missing."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("ALTER TABLE slack_channel_mappings DROP CONSTRAINT slack_channel_mappings_pkey")
        assert run(url, pulled)["syncTimestamp"] == sync_cursor.UNTRUSTED
        assert not run(url, sync_epochs.adopt)
        conn.execute("ALTER TABLE slack_channel_mappings ADD PRIMARY KEY (id)")
    assert run(url, pulled)["syncTimestamp"] != sync_cursor.UNTRUSTED


def test_a_read_only_database_answers_and_issues_no_cursor_of_an_unknown_epoch(url: str) -> None:
    known = str(run(url, pulled)["syncTimestamp"])

    async def read(conn: Connection) -> dict[str, object]:
        await conn.execute("SET default_transaction_read_only = on")
        return await pulled(conn, known)

    assert "reset" not in run(url, read)
    restart(url)
    answer = run(url, read)
    assert (answer["reset"], answer["syncTimestamp"]) == (True, sync_cursor.UNTRUSTED)


@pytest.mark.parametrize("has_epoch", [False, True])
def test_a_server_that_changes_between_the_statements_of_a_pull_is_noticed(
    has_epoch: bool, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pooler may do: the cursor is checked by one server, and another one, with or without an epoch, reads the rows."""
    cursor, checked = str(run(url, pulled)["syncTimestamp"]), sync_start.parse_cursor
    calls = 0

    async def check(conn: Connection, text: str, *, field: str = "lastSyncTimestamp") -> tuple[sync_cursor.Since, bool]:
        nonlocal calls
        calls += 1
        found = await checked(conn, text, field=field)
        if calls == 1:
            assert not found[1]
            restart(url)
            if has_epoch:
                await asyncio.to_thread(run, url, sync_epochs.begin)
        return found

    monkeypatch.setattr(sync_start, "parse_cursor", check)
    answer = run(url, lambda conn: pulled(conn, cursor))
    assert (answer["reset"], calls) == (True, 2)


def test_listeners_read_everything_again_when_an_epoch_has_begun(url: str) -> None:
    snapshot = run(url, live_events.current_snapshot)
    same = run(url, lambda conn: live_events.changes_since(conn, snapshot))
    assert (same.too_many, same.users) == (False, frozenset())
    restart(url)
    run(url, sync_epochs.begin)
    later = run(url, lambda conn: live_events.changes_since(conn, snapshot))
    assert (later.too_many, later.users) == (True, None)


def test_a_cursor_of_the_previous_version_is_valid_until_something_can_have_been_lost(url: str) -> None:
    old = str(value(url, "SELECT id::text || '.' || pg_snapshot_xmin(pg_current_snapshot())::text FROM installation"))
    assert run(url, lambda conn: is_valid(conn, old))
    restart(url)
    assert not run(url, lambda conn: is_valid(conn, old))


def test_a_forged_cursor_means_to_start_again(url: str) -> None:
    run(url, pulled)
    restart(url)
    run(url, pulled)
    epochs = [int(str(value(url, f"SELECT id FROM sync_epochs ORDER BY number OFFSET {n}"))) for n in range(2)]
    forged = [
        f"{UUID(int=epoch << 64 | position)}.{xid}"
        for epoch in (*epochs, 0, 2**63, 2**64 - 1)
        for position in (0, 2**64 - 1)
        for xid in (2**63, 2**64, 10**20 - 1)
    ]

    async def valid(conn: Connection) -> list[str]:
        return [cursor for cursor in forged if await is_valid(conn, cursor)]

    assert run(url, valid) == []


def test_an_epoch_that_ended_long_ago_is_pruned_with_its_cursors(url: str) -> None:
    cursor = str(run(url, pulled)["syncTimestamp"])
    run(url, sync_epochs.record_position)
    restart(url)
    assert run(url, lambda conn: is_valid(conn, cursor))
    value(url, "UPDATE sync_epochs SET ended_at = now() - interval '91 days' WHERE ended_at IS NOT NULL RETURNING 1")
    run(url, lambda conn: prune(conn, days=30))
    assert value(url, "SELECT count(*) FROM sync_epochs") == 1
    assert not run(url, lambda conn: is_valid(conn, cursor))

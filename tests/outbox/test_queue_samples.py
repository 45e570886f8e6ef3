"""Queues as they are now, and their samples: what is counted, one sample for each interval, and what is read for it."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from actors.runtime import rescuer
from schemas.outbox import metrics, queue_samples
from schemas.outbox.heartbeats import HandlerMetrics, add_totals
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from tests.hours.test_list_plans import nodes
from tests.outbox.rows import message, over
from tests.support.installation import SECRET_KEY, new_database


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def fill(conn: Connection) -> None:
    """Messages of `bills` in every state, and handled ones."""
    await message(conn, available_at="now() - interval '5 minutes'", created_at="now() - interval '4 minutes'")
    await message(conn, available_at="now() - interval '1 minute'")
    await message(conn, available_at="now() + interval '1 hour'")
    await message(conn, "sent", created_at="now() - interval '3 minutes'")
    await message(conn, "calling", lease_token="gen_random_uuid()", lease_until="now() + interval '1 minute'")
    await message(conn, "dead", died_at="now()", created_at="now() - interval '1 day'")
    await message(conn, "discarded", died_at="now()")
    await message(conn, "done", created_at="now() - interval '1 day'")
    await message(conn, "calling", queue="'xero'", lease_token="gen_random_uuid()", lease_until="now() + interval '1 minute'",
                  created_at="now() - interval '2 minutes'", available_at="now() - interval '2 minutes'")  # fmt: skip
    handled = HandlerMetrics()
    for actor, count in (("recompute_bills", 3), ("move_entries", 4), ("stop_timer", 5), ("of_a_later_version", 6)):
        for _ in range(count):
            handled[actor].add(0.1, succeeded=True)
        handled[actor].add(0.1, succeeded=False)
    await add_totals(conn, handled)


def test_each_queue_is_counted_by_what_its_messages_wait_for(url: str) -> None:
    async def read(conn: Connection) -> list[queue_samples.QueueSample]:
        await fill(conn)
        return await queue_samples.present(conn)

    found = {sample.queue: sample for sample in over(url, read)}
    assert list(found) == ["timers", "bills", "xero", "slack", "mail"]
    bills = found["bills"]
    assert (bills.waiting, bills.later, bills.running, bills.dead, bills.handled) == (2, 1, 2, 1, 7)
    assert 240 <= bills.oldest_seconds < 270, "a message that was enqueued to be due earlier has not waited since then"
    assert found["timers"].handled == 5
    assert (found["xero"].running, found["slack"].oldest_seconds) == (1, 0)
    assert 120 <= found["xero"].oldest_seconds < 150


def test_relays_record_one_sample_of_each_queue_in_an_interval(url: str) -> None:
    settings = Settings(database_url=url, secret_key=SECRET_KEY)

    async def record() -> None:
        async with await Connection.connect(url, autocommit=True) as one, await Connection.connect(url, autocommit=True) as two:
            await fill(one)
            await asyncio.gather(queue_samples.record(one), queue_samples.record(two))
            await rescuer.rescue_once(one, settings)
            # the interval may have ended meanwhile
            counts = await one.values("SELECT count(*) FROM queue_samples GROUP BY at")
            assert set(counts) == {5} and len(counts) <= 2
            await one.execute("UPDATE queue_samples SET at = at - interval '5 minutes'")
            await rescuer.rescue_once(two, settings)
            assert await one.value("SELECT count(DISTINCT at) FROM queue_samples") > len(counts)
            await one.execute("UPDATE queue_samples SET at = at - interval '61 minutes' WHERE queue = 'mail'")
            shown = await queue_samples.last_hour(one)
            assert set(shown) == {"timers", "bills", "xero", "slack"}
            times = [sample.at for sample in shown["bills"]]
            assert times == sorted(times) and shown["bills"][0].waiting == 2

    asyncio.run(record())


def test_a_long_queue_has_the_count_of_its_last_sample(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def shown(conn: Connection) -> list[list[int]]:
        present, depths = await queue_samples.present(conn), await queue_samples.depths(conn)
        assert [depth.name for depth in depths[:5]] == [sample.queue for sample in present]
        return [[sample.waiting for sample in present], [depth.ready for depth in depths]]

    async def read(conn: Connection) -> list[list[list[int]]]:
        for _ in range(6):
            await message(conn)
        await message(conn, available_at="now() + interval '1 hour'", queue="'xero'")
        await message(conn, queue="'of_a_later_version'")
        await queue_samples.record(conn)
        exact = await shown(conn)
        monkeypatch.setattr(queue_samples, "MOST_COUNTED", 4)
        long = await shown(conn)
        await conn.execute("DELETE FROM queue_samples")
        return [exact, long, await shown(conn)]

    known, all_queues = [0, 6, 0, 0, 0], [0, 6, 1, 0, 0, 1]
    assert over(url, read) == [[known, all_queues], [known, all_queues], [[0, 4, 0, 0, 0], [0, 4, 1, 0, 0, 1]]]


def test_what_pages_read_of_a_long_queue_is_short_whatever_the_planner_expects(url: str) -> None:
    """Right after an ANALYZE and before a VACUUM, a plan may prefer to read the table from its beginning."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as conn:
        conn.execute(
            """
            INSERT INTO messages (id, actor, queue, body, max_attempts, available_at)
            SELECT gen_random_uuid(), 'sync_bill', 'xero', jsonb_build_object('bill_id', repeat('x', 150)), 5,
                   now() - interval '1 hour' + make_interval(secs => n / 1000.0)
            FROM generate_series(1, 60000) n
            """
        )
        conn.execute("ANALYZE messages")
        for statement in (queue_samples._PRESENT, metrics._AT_MOST):
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode()
            row: dict[str, Any] = conn.execute(explain, queue_samples._parameters(most=1_000)).fetchone() or {}
            scans = [node for node in nodes(row["QUERY PLAN"][0]["Plan"]) if node.get("Relation Name") == "messages"]
            ran = [node for node in scans if node["Actual Loops"]]
            assert ran and "Seq Scan" not in {node["Node Type"] for node in ran}
            assert sum(node["Actual Rows"] * node["Actual Loops"] for node in ran) < 2_000


def test_no_message_that_is_done_is_read(url: str) -> None:
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as conn:
        for count, state in ((40_000, "done"), (2_000, "dead"), (2_000, "ready"), (500, "sent")):
            conn.execute(
                """
                INSERT INTO messages (id, actor, queue, body, max_attempts, state, done_at, died_at, sent_at)
                SELECT gen_random_uuid(), 'stop_timer', (ARRAY['timers', 'mail', 'xero'])[1 + n %% 3], '{}', 5, %s,
                       CASE WHEN %s = 'done' THEN now() END, CASE WHEN %s = 'dead' THEN now() END, now()
                FROM generate_series(1, %s) n
                """,
                (state, state, state, count),
            )
        conn.execute("VACUUM ANALYZE messages")
        conn.execute("SET plan_cache_mode = force_generic_plan")
        for most in (queue_samples.MOST_COUNTED, None):
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {queue_samples._PRESENT}".encode()
            row: dict[str, Any] = conn.execute(explain, queue_samples._parameters(most=most)).fetchone() or {}
            scans = [node for node in nodes(row["QUERY PLAN"][0]["Plan"]) if node.get("Relation Name") == "messages"]
            assert scans and "Seq Scan" not in {node["Node Type"] for node in scans}
            assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) < 6_000

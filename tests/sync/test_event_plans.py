"""The cost of live events in Postgres: of 20,000 tasks and 20,000 bills, a read touches only those that changed."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from schemas.postgres.connection import Connection
from schemas.sync import live_events
from tests.hours.test_list_plans import Recorded, buffers, explained, nodes, recording, touched
from tests.support.installation import OTHERS_SECONDS, eventually, new_database

CHANGED = 10
FILL = """
WITH people AS (
    INSERT INTO users (id, email, name)
    SELECT gen_random_uuid(), 'a@example.com', 'A' FROM generate_series(1, 5000) RETURNING id
), someone AS (SELECT id FROM people LIMIT 1),
customer AS (
    INSERT INTO customers (id, name, created_from, created_by)
    SELECT gen_random_uuid(), 'Acme', '', id FROM someone RETURNING id
), pillar AS (
    INSERT INTO pillars (id, customer_id, name, is_default)
    SELECT gen_random_uuid(), id, 'General Support', true FROM customer RETURNING id, customer_id
), moved AS (
    INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
    SELECT gen_random_uuid(), 'Fix it', p.customer_id, p.id, '', s.id FROM pillar p, someone s, generate_series(1, 20000)
    RETURNING id, customer_id
), bill AS (
    INSERT INTO time_bills (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
    SELECT s.id, p.customer_id, p.id, '1900-01-01'::date + day, 1, 'up' FROM pillar p, someone s, generate_series(1, 20000) day
    RETURNING id, customer_id
), moves AS (INSERT INTO task_moves (task_id, customer_id) SELECT id, customer_id FROM moved)
INSERT INTO bill_reopenings (bill_id, customer_id, changed_xid) SELECT id, customer_id, pg_current_xact_id() FROM bill
"""
# no transaction of another database is still open that would make the rows of FILL look like changes
IS_OLD = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::numeric > max(changed_xid::text::numeric) FROM tasks"
LARGE = {
    "tasks",
    "task_moves",
    "time_bills",
    "bill_reopenings",
    "users",
}  # the other tables have at most one row for each consultant


@pytest.fixture(scope="module")
def url(database_url: str) -> Iterator[str]:
    made = new_database(database_url)
    with psycopg.connect(made, autocommit=True) as conn:
        conn.execute(FILL.encode())
        conn.execute("VACUUM ANALYZE")
    yield made


def test_a_read_touches_only_the_rows_that_changed(url: str) -> None:
    recorded = Recorded()
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
        eventually(lambda: all(conn.execute(IS_OLD).fetchone() or ()), seconds=OTHERS_SECONDS)
        row = conn.execute("SELECT pg_current_snapshot()::text").fetchone()
        assert row is not None
        conn.execute("UPDATE tasks SET title = 'again' WHERE id IN (SELECT id FROM tasks LIMIT 10)")
        conn.execute("UPDATE time_bills SET memo = 'again' WHERE id IN (SELECT id FROM time_bills LIMIT 10)")

        async def read() -> live_events.Changes:
            async with await Connection.connect(url, autocommit=True, cursor_factory=recording(recorded)) as connection:
                return await live_events.changes_since(connection, live_events.Snapshot(row[0], None))

        found = asyncio.run(read())
        assert len(found.changes) == 2 * CHANGED and not found.too_many
        query, parameters = recorded.statements[-1]
        for generic in (False, True):
            conn.execute(f"SET plan_cache_mode = {'force_generic_plan' if generic else 'auto'}".encode())
            plan = explained(conn, query, parameters, generic=generic)
            scans = {node["Relation Name"]: node["Node Type"] for node in nodes(plan) if "Relation Name" in node}
            assert set(scans) >= LARGE
            assert not [name for name in LARGE if scans[name] == "Seq Scan"], scans
            assert touched(plan) <= 10 * 2 * CHANGED and buffers(plan) <= 200, plan

"""The cost of a sync: of 25,000 customers, or 100,000 rows of another kind, 10 of them changed, it reads the 10."""

import asyncio
import json
from uuid import uuid4

import psycopg
import pytest

from schemas.customers import customers
from schemas.identity.users import Role, User
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page
from schemas.sync import pull as sync
from tests.hours.test_list_plans import Recorded, buffers, explained, nodes, recording, touched
from tests.support.installation import new_database
from tests.support.once_per_run import once
from tests.support.sizes import PLANNED_ROWS

CHANGED = 10
FILL = """
WITH someone AS (INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), 'a@example.com', 'A') RETURNING id)
INSERT INTO customers (id, name, created_from, created_by)
SELECT gen_random_uuid(), 'Customer ' || number, '', someone.id FROM someone, generate_series(1, 25000) number
"""
# a sync timestamp of now
NOW = "SELECT id::text || '.' || pg_snapshot_xmax(pg_current_snapshot())::text FROM installation"


@pytest.fixture(scope="module")
def firm(database_url: str) -> tuple[str, str]:
    """The URL of a database, and a sync timestamp after which 10 customers changed."""
    return once("synced-customers", lambda: with_customers(database_url))


def last_change(url: str) -> str:
    """The time at which a customer last changed: the databases of this module may be minutes old when a test begins."""
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT max(updated_at) FROM customers").fetchone()
    assert row is not None
    return str(row[0].isoformat())


def with_customers(database_url: str) -> tuple[str, str]:
    url = new_database(database_url)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(FILL.encode())
        conn.execute("ALTER TABLE customers DISABLE TRIGGER touch")
        conn.execute("UPDATE customers SET updated_at = now() - interval '1 day'")
        conn.execute("ALTER TABLE customers ENABLE TRIGGER touch")
        conn.execute("VACUUM ANALYZE customers")
        row = conn.execute(NOW).fetchone()
        assert row is not None
        conn.execute("UPDATE customers SET notes = 'new' WHERE id IN (SELECT id FROM customers LIMIT 10)")
    return url, row[0]


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("role", [Role.internal, Role.customer_user])
def test_a_sync_of_customers_reads_only_those_that_changed(role: Role, by_time: bool, firm: tuple[str, str]) -> None:
    url, since = firm
    since = last_change(url) if by_time else since
    recorded = Recorded()
    with psycopg.connect(url, autocommit=True) as conn:
        own = conn.execute("SELECT id FROM customers WHERE notes = 'new' LIMIT 1").fetchone()
        assert own is not None
        user = User(id=uuid4(), email="", name="", role=role, customer_id=own[0] if role is Role.customer_user else None)

        async def sync() -> int:
            async with await Connection.connect(url, autocommit=True, cursor_factory=recording(recorded)) as connection:
                page = await customers.list_page(connection, Page(since=since), user=user)
                return len(json.loads(page)["items"])

        assert asyncio.run(sync()) == (CHANGED if role is Role.internal else 1)
        query, parameters = recorded.statements[-1]
        for generic in (False, True):
            conn.execute(f"SET plan_cache_mode = {'force_generic_plan' if generic else 'auto'}".encode())
            plan = explained(conn, query, parameters, generic=generic)
            scans = [node for node in nodes(plan) if node.get("Relation Name") == "customers"]
            assert scans and all("Index" in node["Node Type"] or "Bitmap" in node["Node Type"] for node in scans), plan
            assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans) <= CHANGED, plan
            assert touched(plan) <= 10 * CHANGED and buffers(plan) <= 100, plan


# 100,000 pillars and tasks; 100,000 entries on 10,000 bills of one consultant, and 10,000 on 1,000 of another
HOURS = f"""
WITH someone AS (SELECT id FROM users LIMIT 1),
other AS (INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), 'b@example.com', 'B') RETURNING id),
customer AS (INSERT INTO customers (id, name, created_from, created_by) SELECT gen_random_uuid(), 'C', '', id FROM someone
             RETURNING id),
pillar AS (INSERT INTO pillars (id, customer_id, name) SELECT gen_random_uuid(), id, 'General Support' FROM customer
           RETURNING id, customer_id),
areas AS (INSERT INTO pillars (id, customer_id, name)
          SELECT gen_random_uuid(), customer.id, number::text FROM customer, generate_series(1, {PLANNED_ROWS}) number),
task AS (INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
         SELECT gen_random_uuid(), number::text, p.customer_id, p.id, '', s.id
         FROM pillar p, someone s, generate_series(1, {PLANNED_ROWS}) number RETURNING id),
bill AS (INSERT INTO time_bills (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
         SELECT u.id, p.customer_id, p.id, '2000-01-01'::date + number, 1, 'nearest'
         FROM pillar p, (SELECT id, {PLANNED_ROWS} / 10 FROM someone UNION ALL SELECT id, 1000 FROM other) u (id, days),
              generate_series(1, u.days) number
         RETURNING id, user_id, customer_id, pillar_id, date)
INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, bill_id)
SELECT gen_random_uuid(), (SELECT id FROM task LIMIT 1), user_id, customer_id, pillar_id, date + hour * interval '1 hour',
       date + (hour + 1) * interval '1 hour', date, id
FROM bill, generate_series(1, 10) hour
"""
APPROVED = """
UPDATE time_bills SET status = 'approved', approved_at = now(), approved_by = user_id, approved_seconds = 0
WHERE id IN (SELECT id FROM time_bills WHERE user_id = %s ORDER BY date LIMIT 10)
"""
SYNCED = ("customers", "pillars", "tasks", "time_bills", "time_entries")


@pytest.fixture(scope="module")
def hours(database_url: str) -> tuple[str, User, str]:
    """The URL of a database, a consultant, and a sync timestamp after which 10 rows of each kind changed and 10 bills were
    approved."""
    return once("synced-hours", lambda: with_hours(database_url))


def with_hours(database_url: str) -> tuple[str, User, str]:
    url, _ = with_customers(database_url)
    with psycopg.connect(url, autocommit=True) as conn:
        for table in SYNCED:  # as if all rows were last changed a day ago
            conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER touch".encode())
            conn.execute(f"ALTER TABLE {table} ALTER changed_xid SET DEFAULT '3'".encode())
            conn.execute(f"ALTER TABLE {table} ALTER updated_at SET DEFAULT now() - interval '1 day'".encode())
        conn.execute("ALTER TABLE time_entries DISABLE TRIGGER USER")  # no two entries overlap, so no flag is to be set
        conn.execute(HOURS.encode())
        conn.execute("ALTER TABLE time_entries ENABLE TRIGGER USER")
        for table in SYNCED:
            conn.execute(f"ALTER TABLE {table} ENABLE TRIGGER touch".encode())
            conn.execute(f"VACUUM ANALYZE {table}".encode())
        row = conn.execute(NOW).fetchone()
        own = conn.execute("SELECT user_id FROM time_bills GROUP BY 1 ORDER BY count(*) DESC LIMIT 1").fetchone()
        assert row is not None and own is not None
        for table in SYNCED:
            mine = "WHERE user_id = %(me)s" if table.startswith("time_") else "WHERE %(me)s::uuid IS NOT NULL"
            statement = f"UPDATE {table} SET version = version + 1 WHERE id IN (SELECT id FROM {table} {mine} LIMIT 10)"
            conn.execute(statement.encode(), {"me": own[0]})
        conn.execute(APPROVED.encode(), own)
    return url, User(id=own[0], email="", name="", role=Role.internal, customer_id=None), row[0]


@pytest.mark.slow
@pytest.mark.parametrize("by_time", [False, True])
def test_a_sync_of_everything_reads_only_what_changed(by_time: bool, hours: tuple[str, User, str]) -> None:
    url, user, since = hours
    since = last_change(url) if by_time else since
    recorded = Recorded()

    async def pull() -> dict[str, int]:
        async with await Connection.connect(url, autocommit=True, cursor_factory=recording(recorded)) as connection:
            answer = json.loads(await sync.pull(connection, Page(1000, since=since), user_id=user.id))
            return {kind: len(rows) for kind, rows in answer.items() if isinstance(rows, list)}

    counts = asyncio.run(pull())
    # with a plain time, also the customers that changed within its overlap
    assert 10 <= counts["customers"] <= (20 if by_time else 10) and (counts["pillars"], counts["tasks"]) == (10, 10)
    # 10 of their own, and those of the approved bills, or with a plain time those of all bills that changed
    assert 10 <= counts["timeBills"] <= 20 and 100 <= counts["timeEntries"] <= 210
    query, parameters = recorded.statements[-1]
    with psycopg.connect(url, autocommit=True) as conn:
        for generic in (False, True):
            conn.execute(f"SET plan_cache_mode = {'force_generic_plan' if generic else 'auto'}".encode())
            plan = explained(conn, query, parameters, generic=generic)
            scans = [node for node in nodes(plan) if node.get("Relation Name") in SYNCED]
            assert scans and all("Index" in node["Node Type"] or "Bitmap" in node["Node Type"] for node in scans), plan
            assert sum(node.get("Rows Removed by Filter", 0) for node in scans) <= 250, plan
            assert buffers(plan) <= 12 * sum(counts.values()), plan


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_a_first_load_reads_each_page_by_its_indexes(second: bool, hours: tuple[str, User, str]) -> None:
    url, user, _ = hours
    recorded = Recorded()

    async def pull() -> None:
        async with await Connection.connect(url, autocommit=True, cursor_factory=recording(recorded)) as connection:
            page = json.loads(await sync.pull(connection, Page(1000), user_id=user.id))
            if second:
                await sync.pull(connection, Page(1000, page["nextCursor"]), user_id=user.id)

    asyncio.run(pull())
    query, parameters = recorded.statements[-1]
    with psycopg.connect(url, autocommit=True) as conn:
        plan = explained(conn, query, parameters, generic=False)
    scans = [node for node in nodes(plan) if node.get("Relation Name") in SYNCED]
    assert scans and all("Index" in node["Node Type"] for node in scans), plan
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= 2_500, plan

"""What a sync costs: of 100,000 customers with 10 changed, it reads the 10."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from psycopg import AsyncConnection

from schemas import customers
from schemas.listing import Page
from schemas.users import Role, User
from tests.installation import new_database
from tests.test_plans import Recorded, buffers, explained, nodes, recording, touched

CHANGED = 10
FILL = """
WITH someone AS (INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), 'a@example.com', 'A') RETURNING id)
INSERT INTO customers (id, name, created_from, created_by)
SELECT gen_random_uuid(), 'Customer ' || number, '', someone.id FROM someone, generate_series(1, 100000) number
"""


@pytest.fixture(scope="module")
def firm(database_url: str) -> Iterator[tuple[str, str]]:
    """The URL of its database, and a sync timestamp after which 10 customers changed."""
    url = new_database(database_url)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(FILL.encode())
        conn.execute("ALTER TABLE customers DISABLE TRIGGER touch")
        conn.execute("UPDATE customers SET updated_at = now() - interval '1 day'")
        conn.execute("ALTER TABLE customers ENABLE TRIGGER touch")
        conn.execute("VACUUM ANALYZE customers")
        row = conn.execute(
            "SELECT id::text || '.' || pg_snapshot_xmax(pg_current_snapshot())::text FROM installation"
        ).fetchone()
        assert row is not None
        conn.execute("UPDATE customers SET notes = 'new' WHERE id IN (SELECT id FROM customers LIMIT 10)")
    yield url, row[0]


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("role", [Role.internal, Role.customer_user])
def test_a_sync_of_customers_reads_only_those_that_changed(role: Role, by_time: bool, firm: tuple[str, str]) -> None:
    url, since = firm
    since = datetime.now(UTC).isoformat() if by_time else since
    recorded = Recorded()
    with psycopg.connect(url, autocommit=True) as conn:
        own = conn.execute("SELECT id FROM customers WHERE notes = 'new' LIMIT 1").fetchone()
        assert own is not None
        user = User(id=uuid4(), email="", name="", role=role, customer_id=own[0] if role is Role.customer_user else None)

        async def sync() -> int:
            async with await AsyncConnection.connect(url, autocommit=True, cursor_factory=recording(recorded)) as connection:
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

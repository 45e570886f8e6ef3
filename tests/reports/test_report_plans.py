"""The cost of reports where years of bills are stored: only the bills of the days that are asked for are read, by an index."""

import asyncio
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncCursor

from schemas.hours.time_bills import BillFilter
from schemas.identity.users import Role, User
from schemas.postgres.connection import Connection
from schemas.reports import hours
from schemas.reports.choices import choices
from schemas.reports.models import Level
from tests.hours.test_list_plans import Recorded, buffers, explained, nodes
from tests.support import firm_rows
from tests.support.installation import new_database
from tests.support.sizes import FULL

# A firm of 20 people that has bills for 22 years, or fewer: three a day and person, for 40 customers with two pillars each.
YEARS = 22 if FULL else 5
PEOPLE, CUSTOMERS, BILLS_A_DAY = 20, 40, 3
YEAR = BillFilter(start_date=date(2012, 1, 1), end_date=date(2012, 12, 31))
BILLS_A_YEAR = 366 * PEOPLE * BILLS_A_DAY

FIRM = """
    INSERT INTO customers (id, name, created_from, created_by)
    SELECT gen_random_uuid(), 'Customer ' || n, 'x', %(by)s FROM generate_series(1, %(customers)s) n;
    INSERT INTO pillars (id, customer_id, name, is_default)
    SELECT gen_random_uuid(), id, 'General Support', true FROM customers;
    INSERT INTO pillars (id, customer_id, name) SELECT gen_random_uuid(), id, 'Hosting' FROM customers;
    INSERT INTO users (id, email, name, role)
    SELECT id, id || '@example.com', 'Jo', 'internal_user' FROM (
        SELECT gen_random_uuid() AS id FROM generate_series(1, %(people)s)) new;
"""
BILLS = """
    INSERT INTO time_bills (
        user_id, customer_id, pillar_id, date, seconds, rounding_increment, rounding_mode, status, approved_by, approved_at,
        approved_seconds, xero_status)
    SELECT u.id, p.customer_id, p.id, day, 7000, 6, 'up', 'approved', u.id, '2030-01-01', 7000, 'queued'
    FROM generate_series(make_date(%(year)s, 1, 1)::timestamp, make_date(%(year)s, 12, 31), '1 day') day
    CROSS JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n FROM users WHERE role = 'internal_user') u
    CROSS JOIN generate_series(1, %(bills)s) AS b (n)
    JOIN (SELECT id, customer_id, row_number() OVER (ORDER BY id) - 1 AS n FROM pillars) p
        ON p.n = (extract(doy FROM day)::int + 7 * u.n + 31 * b.n) %% (2 * %(customers)s)
"""


def recording(recorded: Recorded) -> type[AsyncCursor[Any]]:
    class Recording(AsyncCursor[Any]):
        async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            text = query if isinstance(query, str) else bytes(query).decode()
            if isinstance(params, dict) and "FROM time_bills" in text:
                recorded.statements.append((text, params))
            return await super().execute(query, params, **options)

    return Recording


async def fill(url: str) -> tuple[UUID, UUID, UUID]:
    """The ids of a customer, one of its pillars and a person."""
    async with await Connection.connect(url, autocommit=True) as conn:
        by = (await firm_rows.user(conn)).id
        values = {"by": by, "customers": CUSTOMERS, "people": PEOPLE, "bills": BILLS_A_DAY}
        for statement in FIRM.split(";")[:-1]:
            await conn.execute(statement, values)
        await conn.execute("SET synchronous_commit = off")
        for year in range(2010, 2010 + YEARS):
            await conn.execute(BILLS, values | {"year": year})
        await conn.execute("ANALYZE time_bills, customers, pillars, users")
        row: tuple[UUID, UUID, UUID] = await conn.one("SELECT customer_id, pillar_id, user_id FROM time_bills LIMIT 1")
        return row


def user(role: Role, customer_id: UUID | None = None) -> User:
    return User(id=uuid4(), email="a@example.com", name="A", role=role, customer_id=customer_id)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_report_reads_the_bills_of_its_days_only(database_url: str) -> None:
    url = new_database(database_url)
    customer, pillar, person = asyncio.run(fill(url))
    firm, theirs = user(Role.internal), user(Role.customer_user, customer)
    by_customer = 3 * BILLS_A_YEAR // CUSTOMERS
    month = replace(YEAR, start_date=date(2012, 5, 1), end_date=date(2012, 5, 31))
    # each with the number of rows of time_bills that it may read
    reports: list[tuple[tuple[Level, ...], BillFilter, User, int]] = [
        *(((level,), YEAR, firm, BILLS_A_YEAR) for level in hours.LEVELS),
        (("customer", "month"), YEAR, firm, BILLS_A_YEAR),
        (("person", "week"), replace(YEAR, status="approved"), firm, BILLS_A_YEAR),
        (("day", "person"), month, firm, BILLS_A_YEAR // 11),
        (("person", "day"), replace(YEAR, user_id=person), firm, BILLS_A_YEAR // PEOPLE),
        (("pillar", "month"), replace(YEAR, customer=str(customer)), firm, by_customer),
        (("month",), replace(YEAR, customer=str(customer), pillar_id=pillar), firm, by_customer),
        (("pillar", "month"), YEAR, theirs, by_customer),
        (("person", "day"), month, theirs, by_customer // 11),
    ]
    recorded = Recorded()

    async def run() -> None:
        async with await Connection.connect(url, autocommit=True, cursor_factory=recording(recorded)) as conn:
            for levels, filters, by, _ in reports:
                await hours.report(conn, levels, filters, user=by)
                await hours.table(conn, levels, filters, user=by)
            await choices(conn, customer)

    asyncio.run(run())
    assert len(recorded.statements) == 2 * len(reports) + 1
    limits = [*(most for *_, most in reports for _ in range(2)), PEOPLE]
    faults = []
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
        for (query, parameters), most in zip(recorded.statements, limits, strict=True):
            for generic in (False, True):
                conn.execute(f"SET plan_cache_mode = {'force_generic_plan' if generic else 'auto'}".encode())
                plan = explained(conn, query, parameters, generic=generic)
                scans = [node for node in nodes(plan) if node.get("Relation Name") == "time_bills"]
                read = sum(
                    node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in scans
                )
                if any(node["Node Type"] == "Seq Scan" for node in scans) or read > most or buffers(plan) > 2 * most + 200:
                    types = [node["Node Type"] for node in scans]
                    faults.append((f"generic={generic}", types, read, most, buffers(plan), parameters))
    assert not faults, "\n".join(map(str, faults))

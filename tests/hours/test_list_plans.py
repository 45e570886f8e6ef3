"""The cost of lists at a million time entries (fewer in the common run): no sequential scan of a large table, and a month costs
the same as at a tenth of the entries."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncCursor, sql

from ops.demo.run import Filled, fill
from schemas.customers import customers, tasks
from schemas.customers.tasks import TaskFilter
from schemas.hours import time_bills, time_entries
from schemas.hours.entry_rules import EntryRules
from schemas.hours.time_bills import BillFilter
from schemas.hours.time_entries import EntryFilter
from schemas.identity import users
from schemas.identity.users import Role, User
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page
from schemas.reports.present import WEEK
from tests.support.installation import new_database
from tests.support.once_per_run import once
from tests.support.sizes import PLANNED_ENTRIES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SMALL_TABLE = 1_000  # rows: for a smaller table a sequential scan is right
# Buffers of 8 kB that a page of 200 rows may touch, with the rows that its ids refer to, and for a customer's user the rows of
# the weeks that are not approved yet. A scan of an index with a million entries touches some hundred thousand.
MAX_BUFFERS = 8_000

Plan = dict[str, Any]


@dataclass
class Recorded:
    """The list statements that a function runs."""

    statements: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


def recording(recorded: Recorded, of: bytes = b"pg_snapshot_xmin") -> type[AsyncCursor[Any]]:
    class Recording(AsyncCursor[Any]):
        async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            if isinstance(params, dict) and of in bytes(query):
                recorded.statements.append((bytes(query).decode(), params))
            return await super().execute(query, params, **options)

    return Recording


@dataclass(frozen=True)
class Firm:
    """A demo firm, and some of its ids."""

    url: str
    filled: Filled
    customer_id: UUID
    customer_name: str
    task_id: UUID
    bill_id: UUID

    @property
    def month(self) -> tuple[date, date]:
        """First and last day of a month in the middle of the year."""
        start = (self.filled.first_day + timedelta(days=150)).replace(day=1)
        return start, (start + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def firm_of(database_url: str, entries: int) -> Firm:
    url = new_database(database_url)

    async def make() -> Filled:
        async with await Connection.connect(url, autocommit=True) as conn:
            return await fill(conn, entries=entries, rules=EntryRules("Europe/Berlin", 12 * 3600, 24))

    filled = asyncio.run(make())
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(
            """
            SELECT c.id, c.name, e.task_id, e.bill_id FROM time_entries e JOIN customers c ON c.id = e.customer_id
            WHERE e.user_id = %s LIMIT 1
            """,
            (filled.consultant_id,),
        ).fetchone()
    assert row is not None
    return Firm(url, filled, *row)


@pytest.fixture(scope="module")
def all_entries(database_url: str) -> Iterator[Firm]:
    yield once("all-entries", lambda: firm_of(database_url, PLANNED_ENTRIES))


@pytest.fixture(scope="module")
def tenth(database_url: str) -> Iterator[Firm]:
    yield once("tenth-of-entries", lambda: firm_of(database_url, PLANNED_ENTRIES // 10))


def internal() -> User:
    return User(id=uuid4(), email="a@example.com", name="A", role=Role.internal, customer_id=None)


def customers_own(firm: Firm) -> User:
    return User(id=uuid4(), email="c@example.com", name="C", role=Role.customer_user, customer_id=firm.customer_id)


def entry_filters(firm: Firm) -> list[EntryFilter]:
    start, end = firm.month
    zone, user_id = "Europe/Berlin", firm.filled.consultant_id
    return [
        EntryFilter(zone=zone),
        EntryFilter(zone=zone, user_id=user_id),
        EntryFilter(zone=zone, user_id=user_id, start_date=start, end_date=end),
        EntryFilter(zone=zone, user_id=uuid4()),
        EntryFilter(zone=zone, task_id=firm.task_id),
        EntryFilter(zone=zone, task_id=uuid4()),
        EntryFilter(zone=zone, time_bill_id=firm.bill_id),
        EntryFilter(zone=zone, time_bill_id=uuid4()),
        EntryFilter(zone=zone, customer=str(firm.customer_id)),
        EntryFilter(zone=zone, customer=firm.customer_name.upper()),
        EntryFilter(zone=zone, customer="No such customer"),
        EntryFilter(zone=zone, customer=str(firm.customer_id), start_date=start, end_date=end),
        EntryFilter(zone=zone, start_date=start, end_date=start),
        EntryFilter(zone=zone, start_date=date(1999, 1, 1), end_date=date(1999, 12, 31)),
        EntryFilter(zone=zone, overlap=True),
        EntryFilter(zone=zone, overlap=True, user_id=user_id),
        EntryFilter(zone=zone, overlap=False, user_id=user_id),
        EntryFilter(zone=zone, start_date=start),
        EntryFilter(zone=zone, end_date=end),
        EntryFilter(zone=zone, user_id=user_id, task_id=firm.task_id, customer=str(firm.customer_id), start_date=start),
    ]


def bill_filters(firm: Firm) -> list[BillFilter]:
    start, end = firm.month
    user_id = firm.filled.consultant_id
    return [
        BillFilter(),
        *(BillFilter(status=status) for status in ("pending", "approved", "rejected")),
        BillFilter(xero_status=["failed"]),
        BillFilter(xero_status=["failed", "not_mapped"]),
        BillFilter(xero_status=["synced"]),
        BillFilter(xero_status=["none", "queued"]),
        BillFilter(user_id=user_id),
        BillFilter(user_id=user_id, start_date=start, end_date=end),
        BillFilter(user_id=user_id, status="pending"),
        BillFilter(user_id=user_id, status="rejected"),
        BillFilter(user_id=uuid4()),
        BillFilter(customer=str(firm.customer_id)),
        BillFilter(customer=firm.customer_name.lower()),
        BillFilter(customer="No such customer"),
        BillFilter(customer=str(firm.customer_id), status="rejected"),
        BillFilter(start_date=start, end_date=start),
        BillFilter(start_date=start, end_date=end, status="approved"),
        BillFilter(end_date=start),
        BillFilter(start_date=date(1999, 1, 1), end_date=date(1999, 12, 31)),
    ]


async def run_all(conn: Connection, firm: Firm, now: str) -> None:
    """Reads every list, with every filter, as each kind of user."""
    page = Page()
    for user in (internal(), customers_own(firm)):
        for entry_filter in entry_filters(firm):
            if entry_filter.overlap is not None and user.role is Role.customer_user:
                continue  # Forbidden: customers do not see which entries overlap
            for enrich in (False, True):
                await time_entries.list_page(conn, page, entry_filter, user=user, enrich=enrich)
        for bill_filter in bill_filters(firm):
            if bill_filter.xero_status and user.role is Role.customer_user:
                continue  # Forbidden, too: where bills stand on their way to Xero
            for enrich in (False, True):
                await time_bills.list_page(conn, page, bill_filter, user=user, enrich=enrich)
        for task_filter in (
            TaskFilter(),
            TaskFilter(assignee_id=firm.filled.consultant_id),
            TaskFilter(customer=str(firm.customer_id)),
            TaskFilter(customer=firm.customer_name),
            TaskFilter(status="archived"),
        ):
            for since in (None, now):
                await tasks.list_page(conn, Page(since=since), task_filter, user=user)
        await customers.list_page(conn, page, user=user)
    await users.list_internal_page(conn, page, include_legacy_admins=True)


def recorded_at(firm: Firm) -> list[tuple[str, dict[str, Any]]]:
    recorded = Recorded()

    async def record() -> None:
        async with await Connection.connect(firm.url, autocommit=True, cursor_factory=recording(recorded)) as conn:
            now = await conn.value("SELECT id::text || '.' || pg_snapshot_xmin(pg_current_snapshot())::text FROM installation")
            await run_all(conn, firm, now)
            first = json.loads(await time_entries.list_page(conn, Page(limit=1000), EntryFilter(zone="UTC"), user=internal()))
            await time_entries.list_page(conn, Page(cursor=first["nextCursor"]), EntryFilter(zone="UTC"), user=internal())

    asyncio.run(record())
    return recorded.statements


def explained(conn: psycopg.Connection[Any], query: str, parameters: dict[str, Any], *, generic: bool) -> Plan:
    """The plan of the executed statement: for these values, or a generic one."""
    conn.execute("SELECT sync_epoch()")  # its first call on a connection reads the catalog
    if not generic:
        row = conn.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}".encode(), parameters).fetchone()
    else:
        names: list[str] = []

        def numbered(found: re.Match[str]) -> str:
            if found[1] not in names:
                names.append(found[1])
            return f"${names.index(found[1]) + 1}"

        text = re.sub(r"%\((\w+)\)s", numbered, query).replace("%%", "%")
        conn.execute("DEALLOCATE ALL")
        conn.execute(f"PREPARE list AS {text}".encode())
        values = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, (parameters[name] for name in names))))
        call = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE list{}").format(values if names else sql.SQL(""))
        row = conn.execute(call).fetchone()
    assert row is not None
    plan: Plan = row[0][0]["Plan"]
    return plan


def nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def buffers(plan: Plan) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def test_no_list_scans_a_large_table(all_entries: Firm) -> None:
    with psycopg.connect(all_entries.url, autocommit=True, prepare_threshold=None) as conn:
        sizes: dict[str, float] = dict(conn.execute("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'").fetchall())
        assert sizes["time_entries"] > 0.9 * PLANNED_ENTRIES
        faults = []
        for query, parameters in recorded_at(all_entries):
            for generic in (False, True):
                conn.execute(f"SET plan_cache_mode = {'force_generic_plan' if generic else 'auto'}".encode())
                plan = explained(conn, query, parameters, generic=generic)
                scans = [node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
                large = [name for name in scans if sizes[name] > SMALL_TABLE]
                if large or buffers(plan) > MAX_BUFFERS:
                    condition = " ".join(query[query.rindex("WHERE") : query.index("ORDER BY")].split())
                    faults.append((f"generic={generic}", large, buffers(plan), condition, parameters))
    assert not faults, "\n".join(map(str, faults))


def test_the_hours_of_a_week_are_read_for_each_person_by_an_index(all_entries: Firm) -> None:
    with psycopg.connect(all_entries.url, autocommit=True) as conn:
        people = [row[0] for row in conn.execute("SELECT DISTINCT user_id FROM time_bills ORDER BY 1 LIMIT 200").fetchall()]
        values = {"people": people, "first": all_entries.month[0], "zone": "Europe/Berlin"}
        for generic in (False, True):
            plan = explained(conn, WEEK, values, generic=generic)
            scans = [node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
            assert set(scans) <= {"timers"} and touched(plan) < 400 * len(people), "many more than the entries of a week"


def touched(plan: Plan) -> float:
    """The rows that all steps of the plan produced or filtered out."""
    steps = ((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in nodes(plan))
    return float(sum(steps))


def month_of(firm: Firm, user_id: UUID) -> tuple[int, tuple[str, dict[str, Any]]]:
    """The number of entries in a user's month, and the statement that lists them."""
    recorded = Recorded()
    start, end = firm.month
    filters = EntryFilter(zone="Europe/Berlin", user_id=user_id, start_date=start, end_date=end)

    async def read() -> int:
        async with await Connection.connect(firm.url, autocommit=True, cursor_factory=recording(recorded)) as conn:
            page = await time_entries.list_page(conn, Page(limit=1000), filters, user=internal())
            return len(json.loads(page)["items"])

    return asyncio.run(read()), recorded.statements[0]


def test_one_users_month_costs_the_same_at_all_entries_as_at_a_tenth(all_entries: Firm, tenth: Firm) -> None:
    """The cost is the number of rows touched per row of the answer, which is the same on any machine. (Each factor of about a
    hundred adds one index level; `./stint bench` measures the time.)"""
    costs = []
    for firm in (tenth, all_entries):
        with psycopg.connect(firm.url, autocommit=True) as conn:
            user_ids = [
                row[0] for row in conn.execute("SELECT DISTINCT user_id FROM time_bills ORDER BY 1 LIMIT 20").fetchall()
            ]
            per_row = []
            for user_id in user_ids:
                rows, statement = month_of(firm, user_id)
                assert 50 < rows < 400
                per_row.append(touched(explained(conn, *statement, generic=False)) / rows)
            costs.append(sorted(per_row)[len(per_row) // 2])
    print("rows touched per row at a tenth and at all entries:", costs)
    assert costs[1] <= 1.2 * costs[0]

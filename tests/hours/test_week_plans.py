"""The cost of a week of everybody's bills where years of them are stored."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from schemas.hours.weeks import bills as week_bills
from schemas.hours.weeks import own
from schemas.hours.weeks.bills import GridFilter
from schemas.postgres.connection import Connection
from tests.hours.test_list_plans import SMALL_TABLE, Firm, Recorded, buffers, explained, firm_of, nodes, recording
from tests.support.once_per_run import once
from tests.support.sizes import PLANNED_ENTRIES

pytestmark = [pytest.mark.slow(seconds=25), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def all_entries(database_url: str) -> Iterator[Firm]:
    yield once("all-entries", lambda: firm_of(database_url, PLANNED_ENTRIES))


def test_a_week_of_everybodys_bills_reads_only_that_week(all_entries: Firm) -> None:
    recorded = Recorded()
    first = all_entries.month[0]

    async def read() -> int:
        async with await Connection.connect(all_entries.url, autocommit=True, cursor_factory=recording(recorded, b"")) as conn:
            ids = [user_id for user_id, _ in await week_bills.list_people(conn, first, GridFilter())]
            people = await week_bills.read_week(conn, first, ids)
            bills = [bill for person in people for bill in person.bills]
            await week_bills.read_entries(conn, [bill.id for bill in bills[:5]])
            await week_bills.first_pending_day(conn, before=first)
            entries = await own.read_entries(conn, all_entries.filled.consultant_id, first, zone="Europe/Berlin")
            assert 10 < len(entries) < 200
            await own.read_timer(conn, all_entries.filled.consultant_id)
            return len(bills)

    count = asyncio.run(read())
    assert count > 50 and len(recorded.statements) == 6
    with psycopg.connect(all_entries.url, autocommit=True, prepare_threshold=None) as conn:
        sizes: dict[str, float] = dict(conn.execute("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'").fetchall())
        for query, parameters in recorded.statements:
            for generic in (False, True):
                conn.execute(f"SET plan_cache_mode = {'force_generic_plan' if generic else 'auto'}".encode())
                plan = explained(conn, query, parameters, generic=generic)
                scans = [node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
                print(count, "bills:", buffers(plan), "buffers,", plan["Actual Total Time"], "ms")
                assert not [name for name in scans if sizes[name] > SMALL_TABLE], query
                assert buffers(plan) < 40 * count + 200, query

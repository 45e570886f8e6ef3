"""Reading again and again which entries are invoiced: each page alone, in a database without workers."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from schemas.messages import CheckInvoiced
from schemas.postgres.connection import Connection
from schemas.xero import bill_calls, entry_records, rate_limits
from schemas.xero.bill_sync import PendingCall
from schemas.xero.checks import chain
from schemas.xero.checks.chain import PendingCheck
from schemas.xero.checks.projects import ProjectToCheck
from schemas.xero.entries.entry import Entry, EntryContent, EntryPage
from schemas.xero.entry_records import EntryRecord
from schemas.xero.planning.steps import Call, CallKind
from schemas.xero.tokens import Access
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.xero.test_records import SETTINGS

ACCESS = Access("tenant", "token")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CONTENT = EntryContent(user_id="u", task_id="t", date_utc=NOON, minutes=60, description="memo")
PROJECT = ProjectToCheck("project", NOON, datetime(2100, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Shown:
    """What the bill shows."""

    status: str
    error: str | None
    invoiced: bool
    messages: int


async def bill(conn: Connection, entry_id: str = "e", *, status: str = "ACTIVE", error: str | None = None, **more: Any) -> UUID:
    """A bill with an entry that has this status in Xero, as far as Stint knows; `error` is that of a refused reopening."""
    columns = {
        "xero_status": "synced", "xero_error": error, "xero_time_entry_id": entry_id,
        "xero_invoiced_at": None if status == "ACTIVE" else "2026-03-05",
    } | more  # fmt: skip
    bill_id = await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", **columns)
    await conn.execute(
        """
        INSERT INTO xero_entries (bill_id, tenant_id, project_id, entry_ids, content, entry_status, reopen_error,
                                  invoice_checked_at)
        VALUES (%s, 'tenant', 'project', %s, %s, %s, %s, now() - interval '1 hour')
        """,
        (bill_id, [entry_id], Jsonb(CONTENT.model_dump(mode="json")), status, error if "xero_status" not in more else None),
    )
    return bill_id


async def read_page(conn: Connection, *entries: tuple[str, str], project: ProjectToCheck = PROJECT, last: bool = True) -> None:
    """Records a page of a project with these entries: id and status."""
    page = EntryPage([Entry(entry_id, CONTENT, status) for entry_id, status in entries], last)
    async with conn.transaction():
        await chain.record_result(conn, PendingCheck(CheckInvoiced(), ACCESS, project, None), page, SETTINGS)


async def shown(conn: Connection, bill_id: UUID) -> Shown:
    row = await conn.one(
        """
        SELECT xero_status, xero_error, xero_invoiced_at IS NOT NULL,
               (SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND body->>'bill_id' = b.id::text)
        FROM time_bills b WHERE id = %s
        """,
        (bill_id,),
    )
    return Shown(*row)


@pytest.mark.parametrize("history", ["LOCKED ACTIVE", "INVOICED ACTIVE", "LOCKED INVOICED", "INVOICED ACTIVE INVOICED ACTIVE"])
def test_a_bill_follows_the_status_of_its_entry_both_ways(history: str, url: str) -> None:
    async def check(conn: Connection) -> None:
        bill_id = await bill(conn)
        for status in history.split():
            await read_page(conn, ("another", "INVOICED"), ("e", status))
            assert await shown(conn, bill_id) == Shown("synced", None, status != "ACTIVE", 0)

    over(url, check)


@pytest.mark.parametrize("status", ["LOCKED", "INVOICED"])
def test_an_error_of_an_entry_that_could_not_be_changed_goes_with_its_cause(status: str, url: str) -> None:
    async def check(conn: Connection) -> None:
        not_reopened = await bill(conn, "e1", status=status, error="It was not reopened.")
        differs = await bill(conn, "e2", status=status, error="It differs.", xero_status="failed")
        await read_page(conn, ("e1", "ACTIVE"), ("e2", "ACTIVE"))

        assert await shown(conn, not_reopened) == Shown("synced", "It was not reopened.", False, 1)  # its message removes it
        assert (await entry_records.lock(conn, not_reopened, message_id=not_reopened)).reopen_error is None
        sent = await shown(conn, differs)
        assert (sent.status, sent.invoiced, sent.messages) == ("queued", False, 1)
        assert (await entry_records.lock(conn, differs, message_id=differs)).entry_status == "ACTIVE"

    over(url, check)


def test_a_page_changes_nothing_of_entries_that_are_not_on_it_or_as_they_were(url: str) -> None:
    async def check(conn: Connection) -> list[Shown]:
        bills = [
            await bill(conn, "not on it", status="INVOICED"),
            await bill(conn, "still", status="LOCKED", error="It was not reopened."),
            await bill(conn, "failed", error="no", xero_status="failed"),
        ]
        await read_page(conn, ("still", "LOCKED"), ("failed", "ACTIVE"))
        await read_page(conn, ("not on it", "ACTIVE"), project=ProjectToCheck("another", NOON, PROJECT.at))
        return [await shown(conn, bill_id) for bill_id in bills]

    assert over(url, check) == [
        Shown("synced", None, True, 0), Shown("synced", "It was not reopened.", True, 0), Shown("failed", "no", False, 0)
    ]  # fmt: skip


def test_a_page_that_was_asked_for_before_an_entry_was_seen_invoiced_does_not_take_that_back(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        bill_id, found = await bill(conn), []
        before = await conn.value("SELECT clock_timestamp()")
        call = Call(CallKind.fetch_entry, ACCESS, "project", "e")
        pending = PendingCall(bill_id, bill_id, call, EntryRecord(), None, math.inf)
        await bill_calls.record_result(conn, pending, Entry("e", CONTENT, "LOCKED"), SETTINGS)
        for at in (before, await conn.value("SELECT clock_timestamp()")):
            await read_page(conn, ("e", "ACTIVE"), project=ProjectToCheck("project", NOON, at), last=False)
            found.append((await shown(conn, bill_id)).invoiced)
        return found

    assert over(url, check) == [True, False]


@pytest.mark.parametrize(("calls_per_day", "last", "seconds"), [(5000, True, 86.4), (5000, False, 86.4), (100, True, 900)])
def test_checks_of_projects_and_pages_take_a_fifth_of_the_calls_of_a_day(
    calls_per_day: int, last: bool, seconds: float, url: str
) -> None:
    async def check(conn: Connection) -> float:
        await bill(conn)
        settings = SETTINGS.model_copy(update={"xero_calls_per_day": calls_per_day})
        pending = PendingCheck(CheckInvoiced(), ACCESS, PROJECT, None)
        page = EntryPage([Entry("e", CONTENT, "ACTIVE")], last)
        async with conn.transaction():
            await chain.record_result(conn, pending, page, settings)
        query = """
            SELECT extract(epoch FROM m.available_at - clock_timestamp())::float
            FROM messages m JOIN xero_connection x ON x.check_message_id = m.id
        """
        return float(await conn.value(query))

    assert over(url, check) == pytest.approx(seconds, abs=20)


def test_projects_whose_entries_are_all_invoiced_are_checked_too_and_large_ones_less_often(url: str) -> None:
    async def check(conn: Connection) -> list[str | None]:
        await firm_rows.connect_xero(conn)
        await bill(conn, status="INVOICED")
        found = []
        # an entry that a process of the version before saw invoiced has no time; 501 entries are two pages
        for checked_ago, entries in ((None, 1), (14, 1), (16, 1), (16, 501), (29, 501), (31, 501)):
            await conn.execute("DELETE FROM xero_entries WHERE entry_ids[1] <> 'e'")
            rows = await firm_rows.firm(conn)
            for number in range(1, entries):
                columns: dict[str, Any] = {"xero_status": "synced", "date": NOON.date() - timedelta(days=number)}
                other = await firm_rows.bill(conn, rows, status="approved", **columns)
                await conn.execute(
                    """
                    INSERT INTO xero_entries (bill_id, tenant_id, project_id, entry_ids, content)
                    SELECT %s, tenant_id, project_id, '{x}', content FROM xero_entries WHERE entry_ids = '{e}'
                    """,
                    (other,),
                )
            await conn.execute("UPDATE xero_entries SET invoice_checked_at = now() - make_interval(mins => %s)", (checked_ago,))
            message_id = await conn.value(
                "UPDATE xero_connection SET check_message_id = gen_random_uuid() RETURNING check_message_id"
            )
            planned = await chain.next_check(conn, CheckInvoiced(), message_id=message_id, settings=SETTINGS)
            found.append(planned.project.id if planned and planned.project else None)
            if planned and planned.slot:
                await rate_limits.release(conn, planned.slot)
        return found

    assert over(url, check) == ["project", None, "project", None, None, "project"]

"""Bills against entries: what is compared, in a database without workers; the CSV; and the request for a fresh reading."""

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from schemas.errors import Conflict, Invalid
from schemas.messages import CheckInvoiced
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page
from schemas.xero import rate_limits
from schemas.xero.checks import chain, projects
from schemas.xero.client_errors import DoesNotExist, OutcomeUnknown
from schemas.xero.entries.entry import EntryContent, EntryPage
from schemas.xero.reconciliation import comparison, readings
from schemas.xero.reconciliation.table import as_csv
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.xero.test_records import SETTINGS

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CONTENT = EntryContent(user_id="u", task_id="t", date_utc=NOON, minutes=60, description="memo")
FIVE = Jsonb({"content": CONTENT.model_copy(update={"minutes": 5}).model_dump(mode="json")})
DELETED = Jsonb({"content": None})
ACCEPTED = Jsonb({"minutes": 5, "reason": "agreed", "by": "ann", "at": "2026-03-05T00:00:00Z"})
JANUARY, DECEMBER = date(2026, 1, 1), date(2026, 12, 31)


async def bill(conn: Connection, xero_status: str, *, day: str = "2026-03-02", has_entry: bool = True, **more: Any) -> UUID:
    """An approved bill of an hour; `more` has columns of both tables."""
    own = {name: more.pop(name) for name in list(more) if name in ("xero_error", "xero_accepted", "xero_difference")}
    rows = await firm_rows.firm(conn, name=f"Customer {uuid4()}")
    bill_id = await firm_rows.bill(conn, rows, status="approved", xero_status=xero_status, date=day, **own)
    if has_entry:
        values = {"bill_id": bill_id, "tenant_id": "tenant", "project_id": "project", "entry_ids": [f"of {bill_id}"]} | more
        values["content"] = Jsonb(CONTENT.model_dump(mode="json"))
        names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
        await conn.execute(f"INSERT INTO xero_entries ({names}) VALUES ({places})", values)
    return bill_id


async def stray(conn: Connection, entry_id: str, bill_id: UUID, *, day: str | None = "2026-03-02", seconds: int = 90) -> None:
    await conn.execute(
        """
        INSERT INTO xero_stray_entries (tenant_id, entry_id, project_id, bill_id, minutes, date, first_seen_at, seen_at)
        VALUES ('tenant', %s, 'project', %s, 7, %s, '2026-03-03', timestamptz '2026-03-03' + make_interval(secs => %s))
        """,
        (entry_id, bill_id, day, seconds),
    )


async def compare(
    conn: Connection, start: date = JANUARY, end: date = DECEMBER, *, limit: int = 200, cursor: str | None = None
) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await comparison.compare(conn, start, end, Page(limit, cursor), SETTINGS))
    return found


def test_each_bill_and_each_stray_entry_has_its_result_and_cause(url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        expected = {
            await bill(conn, "synced"): ("agrees", None, 60, 60),
            await bill(conn, "synced", xero_accepted=ACCEPTED, difference=FIVE, accepted=True): ("accepted", None, 60, 5),
            await bill(conn, "synced", xero_accepted=ACCEPTED, difference=DELETED, accepted=True): ("accepted", None, 60, None),
            await bill(conn, "differs", difference=FIVE, xero_error="no"): ("differs", "changed", 60, 5),
            await bill(conn, "failed", difference=FIVE, overwrite=True): ("differs", "failed", 60, 5),
            await bill(conn, "differs", difference=DELETED): ("missing", "deleted", 60, None),
            await bill(conn, "queued", has_entry=False): ("missing", "queued", 60, None),
            await bill(conn, "failed", entry_ids=[]): ("missing", "failed", 60, None),
            await bill(conn, "not_mapped", has_entry=False): ("missing", "not_mapped", 60, None),
            await bill(conn, "not_connected", has_entry=False): ("missing", "not_connected", 60, None),
            await bill(conn, "withdrawing", withdrawing=True): ("too_many", "withdrawing", 60, 60),
        }
        await bill(conn, "none", has_entry=False)
        await firm_rows.bill(conn, await firm_rows.firm(conn))  # pending
        copied, unknown = next(iter(expected)), uuid4()
        await stray(conn, "copy", copied)
        await stray(conn, "of no bill", unknown)
        await stray(conn, "seen once", unknown, seconds=30)
        found = await compare(conn)
        by_bill = {UUID(item["billId"]): item for item in found["items"] if item["cause"] != "stray"}
        shown = {bill_id: (item["result"], item["cause"], item["minutes"], item["xeroMinutes"])
                 for bill_id, item in by_bill.items()}  # fmt: skip
        assert shown == expected
        strays = {item["timeEntryId"]: item for item in found["items"] if item["cause"] == "stray"}
        shown_strays = {
            entry: (item["billId"], item["result"], item["minutes"], item["xeroMinutes"]) for entry, item in strays.items()
        }
        assert shown_strays == {
            "copy": (str(copied), "too_many", None, 7),
            "of no bill": (str(unknown), "too_many", None, 7),
        }
        assert strays["copy"]["customerName"] and strays["of no bill"]["customerName"] is None
        assert found["allAgree"] is False
        counts = {name: total["count"] for name, total in found["totals"].items()}
        assert counts == {"all": 13, "agrees": 1, "accepted": 2, "differs": 2, "missing": 5, "tooMany": 3}
        assert found["totals"]["differs"] == {"count": 2, "minutes": 120, "xeroMinutes": 10}
        assert found["totals"]["tooMany"] == {"count": 3, "minutes": 60, "xeroMinutes": 74}

    over(url, check)


def test_all_agree_if_nothing_differs_is_missing_or_is_too_many_in_these_days(url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        assert (await compare(conn))["allAgree"] is True
        await bill(conn, "synced")
        await bill(conn, "synced", xero_accepted=ACCEPTED, difference=FIVE, accepted=True)
        await bill(conn, "differs", day="2025-12-31", difference=FIVE)
        await stray(conn, "e", uuid4(), day="2027-01-01")
        found = await compare(conn)
        assert found["allAgree"] is True and found["totals"]["all"]["count"] == 2
        assert (await compare(conn, date(2025, 12, 31)))["allAgree"] is False
        assert (await compare(conn, DECEMBER, date(2027, 1, 1)))["allAgree"] is False

    over(url, check)


def test_pages_have_each_row_once_the_latest_day_first_and_totals_of_all(url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        for number in range(7):
            await bill(conn, "synced", day=f"2026-03-{1 + number // 2:02}")
        await stray(conn, "e", uuid4(), day="2026-03-02")
        whole, pages, cursor = (await compare(conn))["items"], [], None
        while True:
            found = await compare(conn, limit=3, cursor=cursor)
            assert found["totals"]["all"]["count"] == 8
            pages.append(found["items"])
            if (cursor := found["nextCursor"]) is None:
                break
        assert [len(page) for page in pages] == [3, 3, 2]
        assert [item for page in pages for item in page] == whole
        assert [item["date"] for item in whole] == sorted((item["date"] for item in whole), reverse=True)

    over(url, check)


def test_wrong_days_and_cursors_are_refused(url: str) -> None:
    async def check(conn: Connection) -> None:
        for start, end, cursor in (
            (DECEMBER, JANUARY, None), (JANUARY, JANUARY + timedelta(days=366), None), (JANUARY, DECEMBER, "x")
        ):  # fmt: skip
            with pytest.raises(Invalid):
                await compare(conn, start, end, cursor=cursor)
        await compare(conn, JANUARY, JANUARY + timedelta(days=365))

    over(url, check)


def test_it_says_when_each_project_was_last_read(url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        await bill(conn, "synced")
        rows = await firm_rows.firm(conn, name="Acme")
        await conn.execute("UPDATE customers SET xero_project_id = 'project' WHERE id = %s", (rows.customer,))
        assert (await compare(conn))["projects"] == []
        before = await conn.value("SELECT clock_timestamp()")
        planned = await next_check(conn)
        await record(conn, planned, EntryPage([], last=False))
        assert (await compare(conn))["projects"] == []
        await record(conn, planned, EntryPage([], last=True))
        [read] = (await compare(conn))["projects"]
        assert (read["projectId"], read["customers"], read["error"]) == ("project", ["Acme"], None)
        assert datetime.fromisoformat(read["readAt"]) > before
        await record(conn, planned, DoesNotExist("there is no such project", status=404))
        [failed] = (await compare(conn))["projects"]
        assert failed == read | {"error": "there is no such project"}

    over(url, check)


async def next_check(conn: Connection) -> chain.PendingCheck:
    message_id = await conn.value("UPDATE xero_connection SET check_message_id = gen_random_uuid() RETURNING check_message_id")
    planned = await chain.next_check(conn, CheckInvoiced(), message_id=message_id, settings=SETTINGS)
    assert planned is not None and planned.project is not None and planned.slot is not None
    await rate_limits.release(conn, planned.slot)
    return planned


async def record(conn: Connection, planned: chain.PendingCheck, result: object) -> None:
    async with conn.transaction():
        await chain.record_result(conn, planned, result, SETTINGS)


def test_a_requested_reading_reads_every_project_at_once_until_half_of_the_days_calls_are_used(url: str) -> None:
    async def check(conn: Connection) -> None:
        with pytest.raises(Conflict):
            await readings.request(conn)
        await firm_rows.connect_xero(conn)
        for project in ("one", "two"):
            await bill(conn, "synced", project_id=project, invoice_checked_at=datetime.now(UTC))
        async with conn.transaction():
            requested_at = await readings.request(conn)
        assert await readings.progress(conn, requested_at) == readings.Progress(2, 0, 0, 0, None)
        assert await pause(conn) == 5
        await record(conn, await next_check(conn), OutcomeUnknown("no answer"))
        assert (await readings.progress(conn, requested_at)).read == 0  # it is tried again
        for number, result in enumerate((EntryPage([], last=True), DoesNotExist("no", status=404)), start=1):
            planned = await next_check(conn)
            await record(conn, planned, result)
            now = await readings.progress(conn, requested_at)
            assert (now.projects, now.read, now.failed) == (2, number, number - 1)
        assert await pause(conn) == pytest.approx(86.4)
        async with conn.transaction():
            await readings.request(conn)
        assert await pause(conn) == 5
        await conn.execute(
            "INSERT INTO xero_calls (tenant_id, finished, ends_at) SELECT 'tenant', true, now() FROM generate_series(1, 2500)"
        )
        assert await pause(conn) == pytest.approx(86.4)
        await conn.execute("UPDATE xero_connection SET needs_reconnect_at = now()")
        with pytest.raises(Conflict):
            await readings.progress(conn, requested_at)

    over(url, check)


async def pause(conn: Connection) -> float:
    return await projects.pause(conn, "tenant", SETTINGS)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("Acme", "Acme"),
        ("=HYPERLINK(\"http://evil.example\")", "'=HYPERLINK(\"http://evil.example\")"),
        ("+1", "'+1"), ("-1", "'-1"), ("@SUM(1)", "'@SUM(1)"), ("\uff1d1", "'\uff1d1"), ("  =1", "  '=1"), ("\t=1", "\t'=1"),
        ("a;=1", "a;'=1"), ("a,\t@b", "a,\t'@b"), ("a|=cmd", "a|'=cmd"), ("a\r\n=1", "a\r\n'=1"),
        ("A-B + C=D", "A-B + C=D"), ("a@example.com", "a@example.com"), ("O'Neil, \"x\"", "O'Neil, \"x\""),
    ],
)  # fmt: skip
def test_no_name_becomes_a_formula_in_a_spreadsheet(name: str, cell: str) -> None:
    row = dict.fromkeys(CSV_COLUMNS) | {"customerName": name, "minutes": 60, "xeroMinutes": 0}
    [heads, values] = csv.reader(io.StringIO(as_csv([row]), newline=""))
    assert heads == CSV_COLUMNS
    assert dict(zip(heads, values, strict=True)) == dict.fromkeys(CSV_COLUMNS, "") | {
        "customerName": cell, "minutes": "60", "xeroMinutes": "0"
    }  # fmt: skip


CSV_COLUMNS = [
    "result", "cause", "reason", "date", "billId", "customerName", "pillarName", "userName", "minutes", "xeroMinutes",
    "timeEntryId", "projectId", "readAt", "billUpdatedAt",
]  # fmt: skip

"""Time entries that somebody has changed in Xero: what a page of a list has read, in a database without workers."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from schemas.hours import bill_reopening
from schemas.identity.users import User
from schemas.messages import CheckInvoiced
from schemas.postgres.connection import Connection
from schemas.xero import entry_records, rate_limits
from schemas.xero.checks import chain, differences
from schemas.xero.checks.chain import PendingCheck
from schemas.xero.checks.projects import ProjectToCheck
from schemas.xero.differences import accepting, alerts
from schemas.xero.differences.accepting import AcceptResult, BillsToAccept
from schemas.xero.entries.entry import Entry, EntryContent, EntryPage
from schemas.xero.planning.steps import Done
from schemas.xero.tokens import Access
from tests.outbox.rows import connected, message, over
from tests.support import firm_rows
from tests.xero.test_records import SETTINGS

ACCESS = Access("tenant", "token")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CONTENT = EntryContent(user_id="u", task_id="t", date_utc=NOON, minutes=60, description="memo")
LATER = datetime(2100, 1, 1, tzinfo=UTC)
PROJECT = ProjectToCheck("project", NOON, LATER)
WHOLE = CheckInvoiced(project_id="project", started_at=NOON)
OTHER = CONTENT.model_copy(update={"minutes": 5})


async def bill(conn: Connection, entry_id: str, *, day: str = "2026-03-02", **entry: Any) -> UUID:
    """A synced bill with its entry; `entry` has columns of xero_entries."""
    rows = await firm_rows.firm(conn, name=f"Customer {entry_id}")
    columns = {"xero_status": entry.pop("xero_status", "synced"), "xero_time_entry_id": entry_id, "date": day}
    columns["xero_synced_at"] = entry.pop("xero_synced_at", "2026-03-03")
    bill_id = await firm_rows.bill(conn, rows, status="approved", **columns)
    values = {"bill_id": bill_id, "tenant_id": "tenant", "project_id": "project", "entry_ids": [entry_id]} | entry
    values["content"] = Jsonb(CONTENT.model_dump(mode="json"))
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    await conn.execute(f"INSERT INTO xero_entries ({names}) VALUES ({places})", values)
    return bill_id


async def read_page(
    conn: Connection, *entries: tuple[str, EntryContent], message: CheckInvoiced = WHOLE, last: bool = True
) -> None:
    """Records a page of the project with these entries."""
    page = EntryPage([Entry(entry_id, content, "ACTIVE") for entry_id, content in entries], last)
    async with conn.transaction():
        await chain.record_result(conn, PendingCheck(message, ACCESS, PROJECT, None), page, SETTINGS)


async def read_next(conn: Connection, bills: Iterable[UUID]) -> list[bool]:
    """For each bill: whether its entry is to be read, and has a message for that."""
    query = """
        SELECT recheck, EXISTS (SELECT FROM messages m WHERE m.actor = 'sync_bill' AND m.body->>'bill_id' = e.bill_id::text)
        FROM xero_entries e WHERE bill_id = %s
    """
    found = []
    for bill_id in bills:
        recheck, has_message = await conn.one(query, (bill_id,))
        assert recheck == has_message
        found.append(recheck)
    return found


def test_only_an_entry_that_a_list_shows_otherwise_is_read(url: str) -> None:
    async def check(conn: Connection) -> None:
        same, changed = await bill(conn, "same"), await bill(conn, "changed")
        known = await bill(conn, "known", xero_status="differs", difference=Jsonb({"content": OTHER.model_dump(mode="json")}))
        restored = await bill(conn, "restored", xero_status="differs", difference=Jsonb({"content": None}))
        await read_page(
            conn, ("same", CONTENT), ("changed", OTHER), ("known", OTHER), ("restored", CONTENT), ("another", OTHER)
        )
        assert await read_next(conn, (same, changed, known, restored)) == [False, True, False, True]

    over(url, check)


@pytest.mark.parametrize(
    "entry",
    [
        {"withdrawing": True},
        {"outcome_unknown": True, "create_attempted_at": "2026-03-02"},
        {"entry_ids": ["changed", "copy"]},
        {"entry_read_at": "2100-01-02"},
        {"tenant_id": "another"},
        {"project_id": "another"},
        {"xero_status": "queued"},
    ],
    ids=str,
)
def test_an_entry_that_stint_is_working_on_or_has_read_since_the_page_was_asked_for_is_not_read(
    entry: dict[str, Any], url: str
) -> None:
    async def check(conn: Connection) -> None:
        changed = await bill(conn, "changed", **entry)
        await read_page(conn, ("changed", OTHER))
        assert await read_next(conn, [changed]) == [False]

    over(url, check)


def test_an_entry_that_no_page_of_a_whole_reading_shows_is_read(url: str) -> None:
    async def check(conn: Connection) -> None:
        before = await conn.value("SELECT clock_timestamp()")
        bills = [
            await bill(conn, "missing"),
            await bill(conn, "listed"),
            await bill(conn, "just created", xero_synced_at=before),
            await bill(conn, "known as deleted", xero_status="differs", difference=Jsonb({"content": None})),
            await bill(conn, "found there lately", entry_read_at=before - timedelta(hours=5), listed_at="2026-03-03"),
            await bill(conn, "found there long ago", entry_read_at=before - timedelta(hours=7), listed_at="2026-03-03"),
            await bill(conn, "listed since it was read", entry_read_at="2026-03-03", listed_at=before - timedelta(hours=1)),
        ]
        pages = [
            WHOLE.model_copy(update={"started_at": before, "part": "recent"}),
            WHOLE.model_copy(update={"started_at": before, "part": "older", "page": 1}),
            WHOLE.model_copy(update={"started_at": before, "part": "older", "page": 2}),
        ]
        await read_page(conn, ("listed", CONTENT), message=pages[0])
        await read_page(conn, message=pages[1], last=False)
        assert await read_next(conn, bills) == [False] * len(bills)
        await read_page(conn, message=pages[2].model_copy(update={"started_at": None}))  # of the version before
        assert await read_next(conn, bills) == [False] * len(bills)
        await read_page(conn, message=pages[2])
        assert await read_next(conn, bills) == [True, False, False, False, False, True, True]

    over(url, check)


def test_the_latest_days_are_read_first_and_each_read_counts_among_the_calls_of_the_checks(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "MOST_READ", 2)

    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        bills = [await bill(conn, f"e{day}", day=f"2026-03-0{day}") for day in (1, 3, 2)]
        await read_page(conn, *((f"e{day}", OTHER) for day in (1, 2, 3)))
        assert await read_next(conn, bills) == [False, True, True]
        query = """
            SELECT extract(epoch FROM m.available_at - clock_timestamp())::float
            FROM messages m JOIN xero_connection x ON x.check_message_id = m.id
        """
        assert await conn.value(query) == pytest.approx(3 * 86.4, abs=20)

    over(url, check)


@pytest.mark.slow
def test_a_project_with_20_000_entries_is_read_within_the_days_calls_the_last_month_first(url: str) -> None:
    """Xero accepts 5,000 calls a day, and the checks take 1,000 of them: a page in 86.4 seconds."""

    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        rows = await firm_rows.firm(conn)
        await conn.execute(
            """
            WITH made AS (
                INSERT INTO time_bills (user_id, customer_id, pillar_id, date, seconds, rounding_increment, rounding_mode,
                                        status, approved_by, approved_at, approved_seconds, xero_status, xero_synced_at)
                SELECT %(user)s, %(customer)s, %(pillar)s, date '1990-01-01' + n, 3600, 1, 'nearest', 'approved', %(user)s,
                       now(), 3600, 'synced', now()
                FROM generate_series(1, 20000) n RETURNING id, date)
            INSERT INTO xero_entries (bill_id, tenant_id, project_id, entry_ids, content)
            SELECT id, 'tenant', 'project', ARRAY[id::text],
                   jsonb_build_object('user_id', 'u', 'task_id', 't', 'minutes', 60, 'description', 'memo',
                                      'date_utc', to_char(date, 'YYYY-MM-DD"T12:00:00Z"')) FROM made
            """,
            vars(rows),
        )
        calls, message = [], CheckInvoiced()
        while (planned := await next_check(conn, message)) is not None:
            assert planned.project is not None
            calls.append((planned.message.part, planned.message.page))
            async with conn.transaction():
                # 10 entries of the last month, and 19,990 of those before
                last = planned.message.part == "recent" or planned.message.page == 40
                await chain.record_result(conn, planned, EntryPage([], last), SETTINGS)
            message = CheckInvoiced.model_validate(await conn.value(
                "SELECT m.body FROM messages m JOIN xero_connection x ON x.check_message_id = m.id"
            ))  # fmt: skip
            await conn.execute(
                "UPDATE xero_entries SET recheck = false, listed_at = 'infinity' "
                "WHERE recheck OR listed_at IS DISTINCT FROM 'infinity'"
            )
        assert calls == [("recent", 1), *(("older", page) for page in range(1, 41))]
        await conn.execute("UPDATE xero_entries SET invoice_checked_at = now() - interval '9 hours 59 minutes'")
        assert await next_check(conn, CheckInvoiced()) is None
        await conn.execute("UPDATE xero_entries SET invoice_checked_at = now() - interval '10 hours 1 minute'")
        assert await next_check(conn, CheckInvoiced()) is not None
        assert len(calls) * 86.4 < 3600  # seconds of one reading
        assert len(calls) * 24 / 10 < 1000  # calls of a day

    over(url, check)


async def next_check(conn: Connection, message: CheckInvoiced) -> PendingCheck | None:
    message_id = await conn.value("UPDATE xero_connection SET check_message_id = gen_random_uuid() RETURNING check_message_id")
    await conn.execute("UPDATE xero_connection SET expires_at = now() + interval '30 minutes'")
    planned = await chain.next_check(conn, message, message_id=message_id, settings=SETTINGS)
    if planned is not None and planned.slot is not None:
        await rate_limits.release(conn, planned.slot)
        await conn.execute("DELETE FROM xero_calls")
    return planned


def test_admins_get_one_mail_a_day_about_bills_that_differ(url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        await conn.execute("UPDATE users SET revoked_at = now() WHERE role = 'internal_admin'")
        admins = [await firm_rows.user(conn), await firm_rows.user(conn)]
        await firm_rows.user(conn, "internal_user")
        bills = [await bill(conn, f"e{number}") for number in range(3)]
        await conn.execute("UPDATE users SET revoked_at = now() WHERE id <> ALL(%s)", ([admin.id for admin in admins],))
        sent = "SELECT body FROM messages WHERE actor = 'send_mail' ORDER BY body->>'to'"
        for bill_id in bills:
            await alerts.tell_admins(conn, bill_id, Done("differs", "Its time entry was deleted in Xero."), SETTINGS)
        mails = await conn.values(sent)
        assert [mail["to"] for mail in mails] == sorted(admin.email for admin in admins)
        assert "The firm" in mails[0]["subject"] and mails[0]["link"]["url"].endswith("/xero")
        text = " ".join(mails[0]["paragraphs"])
        assert "Customer e0 on 2026-03-02" in text and "Its time entry was deleted in Xero." in text
        await conn.execute("UPDATE xero_tenants SET differs_told_at = differs_told_at - interval '1 day'")
        await alerts.tell_admins(conn, bills[0], Done("differs", "no"), SETTINGS)
        assert len(await conn.values(sent)) == 4

    over(url, check)


def test_what_is_known_of_a_change_survives_being_written_and_read(url: str) -> None:
    async def check(conn: Connection) -> None:
        bill_id = await bill(
            conn, "e", difference=Jsonb({"content": OTHER.model_dump(mode="json")}), accepted=True, recheck=True
        )
        record = await entry_records.lock(conn, bill_id, message_id=bill_id)
        assert record.difference is not None and record.difference.content == OTHER
        await entry_records.save(conn, bill_id, record.gone())
        record = await entry_records.lock(conn, bill_id, message_id=bill_id)
        assert record.difference is not None and record.difference.is_deletion
        assert (record.accepted, record.recheck, record.overwrite, record.entry_ids) == (False, False, False, ("e",))
        assert record.entry_read_at is not None

    over(url, check)


def test_a_reopening_ends_what_an_admin_chose(url: str) -> None:
    async def check(conn: Connection) -> None:
        change = Jsonb({"content": OTHER.model_dump(mode="json")})
        for chosen in ("accepted", "overwrite"):
            columns: dict[str, Any] = {"difference": change, chosen: True}
            bill_id = await bill(conn, chosen, **columns)
            await bill_reopening.withdraw(conn, bill_id)
            record = await entry_records.lock(conn, bill_id, message_id=bill_id)
            assert (record.withdrawing, record.accepted, record.overwrite) == (True, False, False)
            assert record.difference is not None and record.difference.content == OTHER

    over(url, check)


SHOWN = Jsonb({"deleted": False, "minutes": 5, "date": "2026-03-02", "description": "memo", "changed": ["minutes"]})


async def differing(conn: Connection, entry_id: str = "e", **entry: Any) -> UUID:
    """A bill that shows that its entry was changed."""
    change = Jsonb({"content": OTHER.model_dump(mode="json")})
    bill_id = await bill(conn, entry_id, xero_status="differs", difference=change, **entry)
    await conn.execute("UPDATE time_bills SET xero_difference = %s, xero_synced_at = NULL WHERE id = %s", (SHOWN, bill_id))
    return bill_id


async def accept(conn: Connection, bill_id: UUID, by: User) -> AcceptResult:
    async with conn.transaction():
        answer = await accepting.accept_selected(conn, BillsToAccept(ids=[bill_id], reason="agreed"), by=by)
    return answer.results[0]


def test_what_is_being_written_is_not_accepted(url: str) -> None:
    async def check(conn: Connection) -> None:
        by = await firm_rows.user(conn)
        for state, result in (("calling", "skipped"), ("done", "accepted")):
            bill_id = await differing(conn, state, claimed_by=await message(conn, state))
            assert (await accept(conn, bill_id, by)).result == result

    over(url, check)


def test_of_concurrent_acceptances_one_is_recorded(url: str) -> None:
    async def check(conn: Connection) -> None:
        bill_id, by = await differing(conn), await firm_rows.user(conn)

        async def one() -> str:
            async with connected(url) as other:
                return (await accept(other, bill_id, by)).result

        assert sorted(await asyncio.gather(*(one() for _ in range(4)))) == ["accepted", "skipped", "skipped", "skipped"]
        status, accepted = await conn.one("SELECT xero_status, xero_accepted FROM time_bills WHERE id = %s", (bill_id,))
        assert status == "synced" and accepted | {"at": ""} == {"minutes": 5, "reason": "agreed", "by": by.email, "at": ""}

    over(url, check)

"""What Stint stores about Xero, each function alone: states, tokens, and what is known of a bill's entry."""

import asyncio
import math
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from schemas.customers import customers
from schemas.customers.customers import CustomerChange
from schemas.encryption import WrongSecretKey, encrypt
from schemas.errors import Invalid
from schemas.messages import QueueBills
from schemas.postgres import sync_epochs
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import backlog, bill_calls, bill_sync, connection, entry_records, tokens
from schemas.xero.bill_sync import PendingCall
from schemas.xero.client_errors import NotSent, OutcomeUnknown, RateLimited, Refused, XeroError
from schemas.xero.entries.entry import Entry, EntryContent, EntryPage
from schemas.xero.entry_records import EntryRecord
from schemas.xero.planning.steps import Call, CallKind
from schemas.xero.tokens import Access
from tests.outbox.rows import connected, message, over
from tests.support import firm_rows
from tests.support.installation import SECRET_KEY

SETTINGS = Settings(
    database_url="", secret_key=SecretStr(SECRET_KEY), xero_client_id="app", xero_client_secret=SecretStr("secret")
)
CONTENT = EntryContent(user_id="u", task_id="t", date_utc=datetime(2026, 3, 2, 12, tzinfo=UTC), minutes=60, description="memo")
MESSAGE = uuid4()


def test_a_state_is_of_one_user_for_ten_minutes_and_one_use(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        starter, other = await firm_rows.user(conn), await firm_rows.user(conn)
        found = []
        for by, age in ((other, "0 s"), (starter, "9 minutes 50 seconds"), (starter, "10 minutes 1 second")):
            state = (await connection.start_consent(conn, by=starter, settings=SETTINGS)).state
            await conn.execute("UPDATE xero_oauth_states SET expires_at = expires_at - %s::interval", (age,))
            for _ in range(2):
                try:
                    await connection.consume_state(conn, state, by=by)
                    found.append(True)
                except Invalid:
                    found.append(False)
        return found

    assert over(url, check) == [False, False, True, False, False, False]


def test_a_state_is_not_stored_in_readable_form(url: str) -> None:
    async def check(conn: Connection) -> bool:
        state = (await connection.start_consent(conn, by=await firm_rows.user(conn), settings=SETTINGS)).state
        return state in str(await conn.all("SELECT encode(state_hash, 'escape') FROM xero_oauth_states"))

    assert over(url, check) is False


@pytest.mark.parametrize("moved", ["access_token = refresh_token", "id = gen_random_uuid()"])
def test_an_encrypted_token_is_bound_to_its_row_and_column(moved: str, url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        found = await tokens.access(conn, SETTINGS)
        assert found is not None and found.token == "access"
        await conn.execute(f"UPDATE xero_connection SET {moved}")
        with pytest.raises(WrongSecretKey):
            await tokens.access(conn, SETTINGS)

    over(url, check)


def test_a_token_is_renewed_a_minute_before_it_expires(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        await firm_rows.connect_xero(conn)
        found = []
        for seconds in (70, 50):
            await conn.execute("UPDATE xero_connection SET expires_at = now() + make_interval(secs => %s)", (seconds,))
            access = await tokens.access(conn, SETTINGS)
            found.append(access is not None and access.token is not None)
        return found

    assert over(url, check) == [True, False]


def test_of_two_renewals_the_second_waits_and_finds_the_new_token(url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        await conn.execute("UPDATE xero_connection SET expires_at = now()")
        async with connected(url) as other:
            async with other.transaction():
                await other.execute("SELECT FROM xero_connection FOR NO KEY UPDATE")
                await other.execute("UPDATE xero_connection SET expires_at = now() + interval '1 hour'")
                waiting = asyncio.ensure_future(tokens.renew(conn, SETTINGS, seconds=1))
                await asyncio.sleep(0.1)
                assert not waiting.done()
            await waiting  # without a call to Xero, which is not there

    over(url, check)


def test_the_organisation_of_a_bill_that_is_being_synced_cannot_change(url: str) -> None:
    async def check(conn: Connection) -> None:
        await firm_rows.connect_xero(conn)
        async with connected(url) as other, other.transaction():
            assert await tokens.access(other, SETTINGS, lock=True) is not None
            with pytest.raises(Exception, match="lock timeout"):
                await firm_rows.connect_xero(conn)

    over(url, check)


async def attempted(conn: Connection) -> tuple[UUID, EntryRecord]:
    """An approved bill whose create request is on its way, and what was known before."""
    bill_id = await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", xero_status="queued")
    return bill_id, await attempt(conn, bill_id, revision=1)


async def attempt(conn: Connection, bill_id: UUID, *, revision: int) -> EntryRecord:
    """Records that a create request is on its way, and returns what was known before."""
    before = await entry_records.lock(conn, bill_id, message_id=MESSAGE)
    call = create_call(revision)
    now = await conn.value("SELECT clock_timestamp()")
    await entry_records.save(conn, bill_id, bill_sync.known_before(before, call, at=now))
    return before


def create_call(revision: int = 1) -> Call:
    return Call(CallKind.create_entry, Access("tenant", "token"), "project", content=CONTENT, revision=revision)


def pending(bill_id: UUID, call: Call, before: EntryRecord) -> PendingCall:
    return PendingCall(bill_id, MESSAGE, call, before, None, math.inf)


async def known(conn: Connection, bill_id: UUID) -> tuple[bool, bool, int]:
    """Whether an entry may exist, whether it has to be looked for, and the revision."""
    record = await entry_records.lock(conn, bill_id, message_id=MESSAGE)
    return record.may_exist, record.outcome_unknown, record.revision


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotSent("no"), (False, False, 1)),
        (RateLimited("no", seconds=1), (False, False, 1)),
        (Refused("no", status=400), (False, False, 1)),
        (OutcomeUnknown("?"), (True, True, 1)),
        (XeroError("Xero did not answer in time"), (True, True, 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_after_a_failed_create_an_entry_may_exist_unless_xero_refused_it(
    error: XeroError, expected: tuple[bool, bool, int], url: str
) -> None:
    async def check(conn: Connection) -> tuple[bool, bool, int]:
        bill_id, before = await attempted(conn)
        assert await known(conn, bill_id) == (True, True, 1)
        await bill_calls.record_failure(conn, pending(bill_id, create_call(), before), error)
        return await known(conn, bill_id)

    assert over(url, check) == expected


def test_an_earlier_create_may_still_be_executed_after_a_later_one_was_refused(url: str) -> None:
    async def check(conn: Connection) -> tuple[bool, bool]:
        bill_id, before = await attempted(conn)
        find = Call(CallKind.find_entry, Access("tenant", "token"), "project", content=CONTENT, mark="[bill:x]")
        first = await bill_calls.record_result(conn, pending(bill_id, find, before), EntryPage([], last=True), SETTINGS)
        before = await attempt(conn, bill_id, revision=1)
        await bill_calls.record_failure(conn, pending(bill_id, create_call(), before), RateLimited("no", seconds=1))
        record = await entry_records.lock(conn, bill_id, message_id=MESSAGE)
        assert record.create_attempted_at == record.first_attempted_at == first.create_attempted_at is not None
        return record.may_exist, record.outcome_unknown

    assert over(url, check) == (True, False)


def test_a_repeat_keeps_the_time_of_the_first_request_under_its_key_and_a_new_key_begins_anew(url: str) -> None:
    async def check(conn: Connection) -> None:
        bill_id, _ = await attempted(conn)
        records = []
        for revision in (1, 2):
            await attempt(conn, bill_id, revision=revision)
            records.append(await entry_records.lock(conn, bill_id, message_id=MESSAGE))
        repeat, new = records
        assert repeat.first_attempted_at and repeat.create_attempted_at
        assert repeat.first_attempted_at < repeat.create_attempted_at
        assert new.first_attempted_at == new.create_attempted_at

    over(url, check)


@pytest.mark.parametrize(
    ("error", "unknown"), [(OutcomeUnknown("?"), True), (NotSent("no"), False), (Refused("no", status=400), False)]
)
def test_an_entry_may_be_gone_once_its_deletion_was_asked_for(error: XeroError, unknown: bool, url: str) -> None:
    async def check(conn: Connection) -> bool:
        bill_id, before = await attempted(conn)
        record = await bill_calls.record_result(
            conn, pending(bill_id, create_call(), before), Entry("e", CONTENT, "ACTIVE"), SETTINGS
        )
        delete = Call(CallKind.delete_entry, Access("tenant", "token"), "project", "e")
        now = await conn.value("SELECT clock_timestamp()")
        await entry_records.save(conn, bill_id, bill_sync.known_before(record, delete, at=now))
        assert (await entry_records.lock(conn, bill_id, message_id=MESSAGE)).delete_attempted_at
        await bill_calls.record_failure(conn, pending(bill_id, delete, record), error)
        return (await entry_records.lock(conn, bill_id, message_id=MESSAGE)).delete_attempted_at is not None

    assert over(url, check) == unknown


@pytest.mark.parametrize(("seconds_ago", "is_certain"), [(130, False), (150, True)])
def test_an_entry_that_was_read_too_early_may_still_be_deleted(seconds_ago: int, is_certain: bool, url: str) -> None:
    async def check(conn: Connection) -> bool:
        bill_id, before = await attempted(conn)
        found = await bill_calls.record_result(
            conn, pending(bill_id, create_call(), before), Entry("e", CONTENT, "ACTIVE"), SETTINGS
        )
        await entry_records.save(conn, bill_id, found.delete_attempted(found.read_at - timedelta(seconds=seconds_ago)))
        planned_on = await entry_records.lock(conn, bill_id, message_id=MESSAGE)
        fetch = Call(CallKind.fetch_entry, Access("tenant", "token"), "project", "e")
        record = await bill_calls.record_result(
            conn, pending(bill_id, fetch, planned_on), Entry("e", CONTENT, "LOCKED"), SETTINGS
        )
        return record.delete_attempted_at is None

    assert over(url, check) == is_certain


def test_a_list_that_still_shows_a_deleted_entry_is_not_believed(url: str) -> None:
    async def check(conn: Connection) -> tuple[tuple[str, ...], bool]:
        bill_id, before = await attempted(conn)
        mark = f"[bill:{bill_id}]"
        entry = Entry("e", CONTENT.model_copy(update={"description": mark}), "ACTIVE")
        created = await bill_calls.record_result(conn, pending(bill_id, create_call(), before), entry, SETTINGS)
        delete = Call(CallKind.delete_entry, Access("tenant", "token"), "project", "e")
        await bill_calls.record_result(conn, pending(bill_id, delete, created), None, SETTINGS)
        before = await attempt(conn, bill_id, revision=2)
        find = Call(CallKind.find_entry, Access("tenant", "token"), "project", content=CONTENT, mark=mark)
        record = await bill_calls.record_result(conn, pending(bill_id, find, before), EntryPage([entry], last=True), SETTINGS)
        return record.entry_ids, record.may_exist

    assert over(url, check) == ((), True)


def test_an_entry_is_found_by_its_mark_and_an_invoiced_one_is_kept(url: str) -> None:
    async def check(conn: Connection) -> tuple[str, ...]:
        bill_id, before = await attempted(conn)
        mark = f"[bill:{bill_id}]"

        def entry(number: int, description: str, status: str = "ACTIVE") -> Entry:
            return Entry(f"e{number}", CONTENT.model_copy(update={"description": description}), status)

        page = EntryPage([entry(1, f"memo {mark}"), entry(2, "memo [bill:another]"), entry(3, mark, "INVOICED")], last=True)
        call = Call(CallKind.find_entry, Access("tenant", "token"), "project", content=CONTENT, mark=mark)
        await bill_calls.record_result(conn, pending(bill_id, call, before), page, SETTINGS)
        return (await entry_records.lock(conn, bill_id, message_id=MESSAGE)).entry_ids

    assert over(url, check) == ("e3", "e1")


def test_a_search_ends_only_with_the_last_page(url: str) -> None:
    async def check(conn: Connection) -> list[tuple[bool, int]]:
        bill_id, before = await attempted(conn)
        call = Call(CallKind.find_entry, Access("tenant", "token"), "project", content=CONTENT, mark="[bill:x]", page=1)
        found = []
        for last in (False, True):
            await bill_calls.record_result(conn, pending(bill_id, call, before), EntryPage([], last=last), SETTINGS)
            record = await entry_records.lock(conn, bill_id, message_id=MESSAGE)
            found.append((record.outcome_unknown, record.searched_pages))
        return found

    assert over(url, check) == [(True, 1), (False, 0)]


def test_bills_that_are_older_than_what_postgres_may_have_lost_are_in_doubt(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        old = await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", created_at="2026-03-02T12:00:00Z")
        new = await firm_rows.bill(conn, await firm_rows.firm(conn, name="New"), created_at="2100-01-01T00:00:00Z")

        async def in_doubt(bill_id: UUID) -> bool:
            async with conn.transaction():
                locked = await bill_sync.lock_bill(conn, bill_id, SETTINGS)
            assert locked is not None
            return locked.bill.lost_before is not None

        never_lost = [await in_doubt(old), await sync_epochs.begin(conn), await in_doubt(old)]
        await conn.execute("TRUNCATE sync_epoch_marker")  # as a crash, a failover and a restore of a base backup do
        no_epoch = await in_doubt(old)
        await sync_epochs.begin(conn)
        return [*never_lost, no_epoch, await in_doubt(old), await in_doubt(new)]

    assert over(url, check) == [False, True, False, True, True, False]


def test_a_look_of_several_pages_for_an_entry_that_is_not_known_is_not_forgotten(url: str) -> None:
    async def check(conn: Connection) -> list[tuple[bool, bool]]:
        bill_id = await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", xero_status="queued")
        before = await entry_records.lock(conn, bill_id, message_id=MESSAGE)
        now = await conn.value("SELECT clock_timestamp()")
        access = Access("tenant", "token")
        call = Call(CallKind.find_entry, access, "project", content=CONTENT, mark="[bill:x]", lost_before=now)
        await entry_records.save(conn, bill_id, bill_sync.known_before(before, call, at=now))
        found = []
        for page in (None, EntryPage([], last=False), EntryPage([], last=True)):
            if page is not None:
                await bill_calls.record_result(conn, pending(bill_id, call, before), page, SETTINGS)
            found.append((await known(conn, bill_id))[:2])
        return found

    assert over(url, check) == [(True, True), (True, True), (True, False)]


def test_a_bill_that_another_message_is_calling_for_is_left_to_it(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        bill_id, _ = await attempted(conn)
        calling, done = await message(conn, "calling"), await message(conn, "done")
        found = []
        for other in (calling, done, MESSAGE):
            await entry_records.claim_for_message(conn, bill_id, message_id=other)
            found.append((await entry_records.lock(conn, bill_id, message_id=MESSAGE)).claimed_by_other)
        return found

    assert over(url, check) == [True, False, False]


def test_a_dead_message_makes_only_a_waiting_bill_failed(url: str) -> None:
    async def check(conn: Connection) -> list[str]:
        rows, found = await firm_rows.firm(conn), []
        for status in ("queued", "withdrawing", "synced", "not_mapped"):
            bill_id = await firm_rows.bill(conn, rows, status="approved", xero_status=status)
            await bill_sync.mark_failed(conn, {"bill_id": str(bill_id)})
            for unknown in ({}, {"bill_id": "x"}, {"bill_id": None}, {"bill_id": str(MESSAGE)}):
                await bill_sync.mark_failed(conn, unknown)
            found.append(await conn.value("SELECT xero_status FROM time_bills WHERE id = %s", (bill_id,)))
        return found

    assert over(url, check) == ["failed", "failed", "synced", "not_mapped"]


def test_a_connection_queues_the_bills_that_waited_for_it_and_no_others(url: str) -> None:
    async def check(conn: Connection) -> list[str]:
        await firm_rows.connect_xero(conn)
        rows, bills = await firm_rows.firm(conn), {}
        for status in ("not_connected", "withdrawing", "failed", "synced", "not_mapped"):
            bills[await firm_rows.bill(conn, rows, status="approved", xero_status=status)] = status
        await backlog.queue_next_chunk(conn, QueueBills(because="connected"), SETTINGS)
        queued = await conn.values("SELECT body->>'bill_id' FROM messages WHERE actor = 'sync_bill'")
        return sorted(bills[UUID(bill_id)] for bill_id in queued)

    assert over(url, check) == ["not_connected", "withdrawing"]


def test_a_mapping_queues_the_bills_of_its_customer_only(url: str) -> None:
    async def check(conn: Connection) -> bool:
        await firm_rows.connect_xero(conn)
        bills = []
        for name in ("one", "two"):
            rows = await firm_rows.firm(conn, name=name)
            await conn.execute("UPDATE customers SET xero_project_id = 'p' WHERE id = %s", (rows.customer,))
            await conn.execute("UPDATE pillars SET xero_task_id = 't' WHERE customer_id = %s", (rows.customer,))
            bills.append(await firm_rows.bill(conn, rows, status="approved", xero_status="not_mapped"))
        await backlog.queue_next_chunk(conn, QueueBills(because="mapped", customer_id=rows.customer), SETTINGS)
        queued = await conn.values("SELECT body->>'bill_id' FROM messages WHERE actor = 'sync_bill'")
        return queued == [str(bills[1])]

    assert over(url, check) is True


def test_the_same_text_is_encrypted_differently_each_time() -> None:
    assert encrypt("a", secret_key=SECRET_KEY, context="c") != encrypt("a", secret_key=SECRET_KEY, context="c")


def test_connecting_enqueues_the_message_for_the_bills_that_waited(url: str) -> None:
    async def check(conn: Connection) -> list[dict[str, str | None]]:
        await firm_rows.connect_xero(conn)
        return await conn.values("SELECT body FROM messages WHERE actor = 'queue_bills' ORDER BY body->>'because'")

    reasons = ("access", "connected", "mapped")
    assert over(url, check) == [{"because": why, "customer_id": None, "after": None} for why in reasons]


def test_mapping_a_customer_enqueues_the_message_for_its_bills(url: str) -> None:
    async def check(conn: Connection) -> list[int]:
        rows, counted = await firm_rows.firm(conn), []
        for change in ({"xeroContactId": "contact"}, {"xeroProjectId": "project"}):
            await customers.change(conn, rows.customer, CustomerChange.model_validate(change))
            waiting = "SELECT count(*) FROM messages WHERE actor = 'queue_bills' AND body->>'customer_id' = %s"
            counted.append(await conn.value(waiting, (str(rows.customer),)))
        return counted

    assert over(url, check) == [0, 1]

"""What Postgres itself refuses about hours and bills, whatever the code does (docs/decisions/0003-constraints.md)."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from schemas.errors import Invalid
from schemas.hours import batch_approval, bill_approval
from schemas.hours.batch_approval import BatchApproval
from schemas.hours.bill_sums import BillKey, ensure_open_bill, ensure_open_bills, mark_stale, recalculate
from schemas.identity.users import lock_user
from schemas.postgres.connection import Connection
from tests.outbox.rows import connected, over
from tests.support import firm_rows
from tests.support.firm_rows import DAY, FirmRows
from tests.support.installation import new_database

APPROVED: dict[str, Any] = {"status": "approved", "xero_status": "queued"}


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def refuses(url: str, error: type[psycopg.Error], change: str, **bill: Any) -> None:
    """The change of a bill with one entry is refused. `change`: SQL, with the ids as parameters."""

    async def check(conn: Connection) -> None:
        rows, other = await firm_rows.firm(conn), await firm_rows.firm(conn)
        bill_id = await firm_rows.bill(conn, rows, **bill)
        ids = {
            "bill": bill_id, "entry": await firm_rows.entry(conn, rows, bill_id), "customer": rows.customer,
            "other_customer": other.customer, "other_pillar": other.pillar, "other_user": other.user, "user": rows.user,
            "task": rows.task,
        }  # fmt: skip
        with pytest.raises(error):
            await conn.execute(change, ids)

    over(url, check)


@pytest.mark.parametrize(
    "change",
    [
        "user_id = %(other_user)s", "date = date + 1", "customer_id = %(other_customer)s, pillar_id = %(other_pillar)s",
        "bill_id = gen_random_uuid()",
    ],
)  # fmt: skip
def test_an_entry_is_on_a_bill_of_its_own_user_customer_pillar_and_day(change: str, url: str) -> None:
    refuses(url, psycopg.errors.ForeignKeyViolation, f"UPDATE time_entries SET {change} WHERE id = %(entry)s")


def test_a_pillar_is_its_customers(url: str) -> None:
    for table, row in (("tasks", "task"), ("time_bills", "bill")):
        change = f"UPDATE {table} SET pillar_id = %(other_pillar)s WHERE id = %({row})s"
        refuses(url, psycopg.errors.ForeignKeyViolation, change)


def test_there_is_one_open_bill_for_a_key(url: str) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        await firm_rows.bill(conn, rows, **APPROVED)
        await firm_rows.bill(conn, rows, **APPROVED)
        await firm_rows.bill(conn, rows, deleted_at="2026-03-03")
        await firm_rows.bill(conn, rows)
        for status in ("pending", "rejected"):
            with pytest.raises(psycopg.errors.UniqueViolation):
                await firm_rows.bill(conn, rows, status=status)

    over(url, check)


@pytest.mark.parametrize(
    "change",
    [
        "seconds = seconds + 1", "stale = true", "deleted_at = now()", "approved_at = NULL", "approved_by = NULL",
        "approved_seconds = NULL", "approved_seconds = NULL, seconds = seconds + 1",
    ],
)  # fmt: skip
def test_an_approved_bill_is_frozen(change: str, url: str) -> None:
    refuses(url, psycopg.errors.CheckViolation, f"UPDATE time_bills SET {change} WHERE id = %(bill)s", **APPROVED)


# a CHECK whose condition is null is met; these columns may be null, and then there is nothing to check
NULL_MEANS = {
    ("replay_messages", "outcome"): "not known yet",
    ("replays", "canary"): "no canary",
    ("replays", "rate_per_second"): "no limit",
    ("slack_users", "refusal"): "a person of this workspace",
    ("working_hours", "days"): "as the settings say",
    ("working_hours", "seconds_a_day"): "as the settings say",
}


def test_no_other_check_is_met_because_a_column_is_null(url: str) -> None:
    query = """
        SELECT conrelid::regclass::text, attname, pg_get_constraintdef(c.oid)
        FROM pg_constraint c JOIN pg_attribute a ON attrelid = conrelid AND attnum = ANY (conkey) AND NOT attnotnull
        WHERE contype = 'c' AND connamespace = 'public'::regnamespace
    """
    with psycopg.connect(url) as conn:
        found = conn.execute(query).fetchall()
    assert ("time_bills", "approved_at") in [(table, column) for table, column, _ in found]
    for table, column, check in found:
        tested_for_null = f"({column} IS NULL)" in check or f"({column} IS NOT NULL)" in check
        assert tested_for_null or (table, column) in NULL_MEANS, check


def test_a_user_has_one_timer(url: str) -> None:
    timer = "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%(user)s, gen_random_uuid(), %(task)s, '2026-03-02')"
    refuses(url, psycopg.errors.UniqueViolation, f"WITH first AS ({timer}) {timer}")


def test_a_start_writes_to_no_index_of_timers_but_those_of_its_keys(url: str) -> None:
    with psycopg.connect(url) as conn:
        unique = "SELECT array_agg(i.indisunique) FROM pg_index i WHERE i.indrelid = 'timers'::regclass"
        assert conn.execute(unique).fetchone() == ([True, True],)


def test_an_entry_does_not_end_before_it_starts(url: str) -> None:
    refuses(
        url,
        psycopg.errors.CheckViolation,
        "UPDATE time_entries SET end_time = start_time - interval '1 second' WHERE id = %(entry)s",
    )


@pytest.mark.parametrize(
    ("seconds", "increment", "mode", "minutes"),
    [
        (0, 15, "up", 0), (1, 15, "up", 15), (900, 15, "up", 15), (901, 15, "up", 30), (29, 1, "nearest", 0),
        (30, 1, "nearest", 1), (89, 1, "nearest", 1), (90, 1, "nearest", 2), (449, 15, "nearest", 0), (450, 15, "nearest", 15),
    ],
)  # fmt: skip
def test_minutes_are_rounded_by_the_rule_of_the_bill(seconds: int, increment: int, mode: str, minutes: int, url: str) -> None:
    async def check(conn: Connection) -> int:
        rows = await firm_rows.firm(conn)
        bill = await firm_rows.bill(conn, rows, seconds=seconds, rounding_increment=increment, rounding_mode=mode)
        return int(await conn.value("SELECT minutes FROM time_bills WHERE id = %s", (bill,)))

    assert over(url, check) == minutes


def key_of(rows: FirmRows) -> BillKey:
    return BillKey(rows.user, rows.customer, rows.pillar, DAY)


def test_of_two_transactions_that_open_a_bill_one_waits_and_both_get_the_same(url: str) -> None:
    async def check(conn: Connection) -> bool:
        rows = await firm_rows.firm(conn)
        async with connected(url) as other:
            async with other.transaction():
                first = await ensure_open_bill(other, key_of(rows))
                waiting = asyncio.ensure_future(ensure_open_bill(conn, key_of(rows)))
                await asyncio.sleep(0.1)
                assert not waiting.done()
            return await waiting == first

    assert over(url, check) is True


def test_a_bill_that_is_approved_before_it_is_locked_is_not_taken_for_open(url: str) -> None:
    async def check(conn: Connection) -> bool:
        rows = await firm_rows.firm(conn)
        bill = await firm_rows.bill(conn, rows)
        async with connected(url) as other, conn.transaction():
            await other.execute("BEGIN")
            approve = """
                UPDATE time_bills SET status = 'approved', approved_by = user_id, approved_at = now(),
                    approved_seconds = seconds, xero_status = 'queued' WHERE id = %s
            """
            await other.execute("SELECT FROM time_bills WHERE id = %s FOR NO KEY UPDATE", (bill,))
            waiting = asyncio.ensure_future(ensure_open_bills(conn, [key_of(rows)]))  # finds it open, and waits for its lock
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await other.execute(approve, (bill,))
            await other.execute("COMMIT")
            ids, statuses = await waiting
            return ids[key_of(rows)] != bill and set(statuses.values()) == {"pending"}

    assert over(url, check) is True


def test_a_sum_is_of_the_entries_that_are_not_deleted_and_an_approved_one_stays(url: str) -> None:
    async def check(conn: Connection) -> list[int]:
        rows, sums = await firm_rows.firm(conn), []
        for more in ({}, APPROVED):
            bill = await firm_rows.bill(conn, rows, seconds=7, **more)
            await firm_rows.entry(conn, rows, bill)
            await firm_rows.entry(conn, rows, bill, deleted_at="2026-03-03")
            await recalculate(conn, [bill])
            sums.append(await conn.value("SELECT seconds FROM time_bills WHERE id = %s", (bill,)))
        return sums

    assert over(url, check) == [3600, 7]


def test_many_bills_are_summed_as_each_of_them_alone(url: str) -> None:
    async def check(conn: Connection) -> list[list[object]]:
        written: list[list[object]] = []
        for alone in (True, False):
            ids = []
            for bill, entries in (
                ({}, [{}, {"deleted_at": DAY}]), ({"stale": True}, [{}]), ({}, [{}]), (APPROVED, [{}, {}]), ({}, []),
                ({"seconds": 7}, [{"deleted_at": DAY}]), ({"deleted_at": DAY}, [{}, {}]), ({"seconds": 0}, [{}, {}]),
            ):  # fmt: skip
                rows = await firm_rows.firm(conn)
                ids.append(await firm_rows.bill(conn, rows, **bill))
                for entry in entries:
                    await firm_rows.entry(conn, rows, ids[-1], **entry)
            changes = [change for some in ([[i] for i in ids] if alone else [ids]) for change in await recalculate(conn, some)]
            sums = "SELECT seconds, stale, deleted_at IS NULL, version FROM time_bills WHERE id = %s"
            found: list[object] = [await conn.one(sums, (bill_id,)) for bill_id in ids]
            known = sorted((ids.index(change.bill_id), change.before, change.after, change.removed) for change in changes)
            written.append([*found, *known])
        return written

    alone, together = over(url, check)
    assert alone == together
    assert len(alone) == 8 + 4  # the bills, and those of them that were written


def test_a_bill_whose_entries_change_has_another_version(url: str) -> None:
    """So that nobody approves it with the figures from before."""

    async def check(conn: Connection) -> tuple[bool, int]:
        bill = await firm_rows.bill(conn, await firm_rows.firm(conn))
        await mark_stale(conn, [bill])
        found = await conn.one("SELECT stale, version FROM time_bills WHERE id = %s", (bill,))
        return bool(found[0]), int(found[1])

    assert over(url, check) == (True, 2)


@pytest.mark.parametrize(
    ("start", "approved"),
    [(None, True), ("2026-03-02T12:00Z", False), ("2026-03-03T03:00Z", False), ("2026-03-03T12:00Z", True)],
)
def test_an_approval_enqueues_the_sync_of_its_bill_and_needs_no_running_timer(
    start: str | None, approved: bool, url: str
) -> None:
    """The day of a timer is that of the firm's zone: at 3:00 UTC it is still the day before in New York."""

    async def check(conn: Connection) -> tuple[bool, int]:
        by = await firm_rows.user(conn)
        rows = await firm_rows.firm(conn, by=by.id)
        bill = await firm_rows.bill(conn, rows)
        await firm_rows.entry(conn, rows, bill)
        if start is not None:
            timer = "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, gen_random_uuid(), %s, %s)"
            await conn.execute(timer, (rows.user, rows.task, start))
        done = await bill_approval.approve(conn, [bill], by=by, zone="America/New_York")
        syncs = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND body->>'bill_id' = %s"
        return bill in done, await conn.value(syncs, (str(bill),))

    assert over(url, check) == (approved, int(approved))


def test_a_second_change_of_one_users_hours_waits_for_the_first(url: str) -> None:
    async def check(conn: Connection) -> None:
        one, other_user = (await firm_rows.user(conn)).id, (await firm_rows.user(conn)).id
        async with connected(url) as other, other.transaction():
            assert await lock_user(other, one)
            assert await lock_user(conn, other_user)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await lock_user(conn, one)

    over(url, check)


def test_a_list_that_was_read_by_a_time_cannot_be_approved(url: str) -> None:
    """A time does not tell which changes were uncommitted when the list was read."""

    async def check(conn: Connection) -> None:
        body = BatchApproval.model_validate({"filter": {}, "syncTimestamp": datetime.now(UTC).isoformat()})
        async with conn.transaction():
            with pytest.raises(Invalid, match="read the list again"):
                await batch_approval.approve_all(conn, body, by=await firm_rows.user(conn), zone="UTC")

    over(url, check)

"""The chunks of a recompute job: which bills each of them processes, and the progress that it records."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from schemas.hours.recompute import chunks, jobs
from schemas.hours.recompute.jobs import RecomputeScope
from schemas.messages import Recompute
from schemas.postgres.connection import Connection
from tests.outbox.rows import connected, over
from tests.support import firm_rows
from tests.support.firm_rows import DAY, FirmRows
from tests.support.installation import new_database

WRONG = "SELECT count(*) FROM time_bills WHERE deleted_at IS NULL AND seconds <> 3600"


async def days(conn: Connection, rows: FirmRows, count: int) -> list[UUID]:
    """That many bills of an hour, each on another day. Their ids in order."""
    bills = []
    for number in range(count):
        day = DAY + timedelta(days=number)
        bill = await firm_rows.bill(conn, rows, date=day)
        times = {"start_time": f"{day}T09:00:00Z", "end_time": f"{day}T10:00:00Z"}
        await firm_rows.entry(conn, rows, bill, date=day, **times)
        bills.append(bill)
    return sorted(bills)


async def progress(conn: Connection, *, dry_run: bool = False) -> list[tuple[int, int]]:
    """Runs a job, and returns what it has done after each chunk, and its total."""
    job = await jobs.start_job(conn, RecomputeScope.model_validate({"dryRun": dry_run}), by=None)
    found = []
    while await conn.value("SELECT finished_at IS NULL FROM recompute_jobs WHERE id = %s", (job,)):
        body = await conn.value(
            "SELECT m.body FROM recompute_jobs j JOIN messages m ON m.id = j.message_id WHERE j.id = %s", (job,)
        )
        async with conn.transaction():
            await chunks.process_chunk(conn, Recompute.model_validate(body))
        found.append(await conn.one("SELECT done, total FROM recompute_jobs WHERE id = %s", (job,)))
    return found


def test_each_chunk_continues_after_the_bills_that_the_one_before_has_processed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "BILLS", 3)
    monkeypatch.setattr(chunks, "CORRECTIONS", 2)

    async def work(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        bills = await days(conn, rows, 7)
        assert await progress(conn) == [(3, 7), (6, 7), (7, 7)], (
            "the first chunk has no entries to bill, and reads bills at once"
        )
        assert await progress(conn, dry_run=True) == [(3, 7), (6, 7), (7, 7)]

        await conn.execute("UPDATE time_bills SET seconds = 1")
        assert await progress(conn, dry_run=True) == [(3, 7), (6, 7), (7, 7)]
        assert await conn.value(WRONG) == 7
        assert await progress(conn) == [(2, 7), (4, 7), (6, 7), (7, 7)], "a chunk corrects two bills"
        assert await conn.value(WRONG) == 0

        # a bill without entries is removed; entries without a bill get new ones, which do not count
        await conn.execute("UPDATE time_entries SET deleted_at = now() WHERE bill_id = %s", (bills[0],))
        await conn.execute("UPDATE time_entries SET bill_id = NULL WHERE bill_id = ANY(%s)", (bills[1:4],))
        await conn.execute("UPDATE time_bills SET deleted_at = now() WHERE id = ANY(%s)", (bills[1:4],))
        done = await progress(conn)
        assert done[0] == (3, 7) and done[-1] == (7, 7), "four bills and three entries"
        assert [each for each, total in done if each > total] == []
        assert await conn.value("SELECT count(*) FROM time_bills WHERE deleted_at IS NULL") == 6
        assert await conn.value(WRONG) == 0

    over(new_database(database_url), work)


def test_the_second_phase_does_not_begin_while_the_first_one_has_locks(database_url: str) -> None:
    """The first phase finds entries without a bill, and has locked their user when another transaction has billed them."""
    url = new_database(database_url)

    async def work(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        bill = await firm_rows.bill(conn, rows)
        await firm_rows.entry(conn, rows, None)
        job = await jobs.start_job(conn, RecomputeScope.model_validate({}), by=None)
        body = "SELECT m.body FROM recompute_jobs j JOIN messages m ON m.id = j.message_id WHERE j.id = %s"
        first = Recompute.model_validate(await conn.value(body, (job,)))
        async with connected(url) as other:
            pid = await other.value("SELECT pg_backend_pid() FROM set_config('lock_timeout', '0', false)")

            async def process() -> None:
                async with other.transaction():
                    await chunks.process_chunk(other, first)

            async with conn.transaction():
                await conn.execute("SELECT FROM users FOR NO KEY UPDATE")
                processing = asyncio.create_task(process())
                while not await conn.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)):
                    assert not processing.done()
                    await asyncio.sleep(0.01)
                await conn.execute("UPDATE time_entries SET bill_id = %s", (bill,))
            await processing
        assert (await conn.value(body, (job,)))["phase"] == "bills"
        assert await conn.value("SELECT finished_at IS NULL FROM recompute_jobs WHERE id = %s", (job,))

    over(url, work)

"""The chunks of a recompute job. One message processes one chunk.

A job has two phases:

- `entries` gives bills to entries without one, in the order of users and days;
- `bills` corrects the sums of open bills, and removes bills without entries, in the order of the bills' ids.

A chunk first reads without locks. Then it locks only the rows that differ, and reads them again under the locks.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from schemas.hours.bill_sums import BillKey, ensure_open_bills, lock_bills, recalculate, reopen_rejected
from schemas.hours.recompute.jobs import OPEN_BILL, RunningJob, lock_job, queue_next_chunk, record_changes
from schemas.identity.users import lock_users
from schemas.messages import Recompute
from schemas.postgres.connection import Connection

ENTRIES = 2_000  # entries without a bill in one chunk
BILLS = 100_000  # bills read in one chunk
CORRECTIONS = 2_000  # bills corrected in one chunk: no other transaction waits long for their locks


async def process_chunk(conn: Connection, message: Recompute) -> None:
    """Processes the chunk that the message names, and enqueues the next one, or finishes the job."""
    job = await lock_job(conn, message.job_id)
    if job is None:
        return
    done = 0
    phase = message.phase
    after = message.after
    if phase == "entries":
        billed = await _bill_entries(conn, job, after)
        if billed is None:
            phase, after = "bills", None  # no user was locked, so the second phase begins at once
        else:
            done, after = billed
    if phase == "bills":
        done, after = await _correct_bills(conn, job, after)
    await conn.execute("UPDATE recompute_jobs SET done = done + %s WHERE id = %s", (done, job.id))
    if after is not None:
        await queue_next_chunk(conn, Recompute(job_id=job.id, phase=phase, after=after))
    elif phase == "entries":
        await queue_next_chunk(conn, Recompute(job_id=job.id, phase="bills"))
    else:
        await conn.execute("UPDATE recompute_jobs SET finished_at = clock_timestamp(), done = total WHERE id = %s", (job.id,))


async def _bill_entries(conn: Connection, job: RunningJob, after: str | None) -> tuple[int, str | None] | None:
    """Gives bills to the next entries without one.

    Returns the number of entries, and the position after which to continue, which is None after the last entries. Returns None
    if it finds no entries; then it has locked nothing.

    A chunk has whole days of users, so that a dry run counts each bill in only one chunk.
    """
    days = await conn.all(
        f"""
        SELECT e.user_id, e.date, count(*) FROM (
            SELECT e.user_id, e.date FROM time_entries e
            WHERE e.bill_id IS NULL AND e.deleted_at IS NULL AND {job.scope("e")}
              AND (%(after_user)s::uuid IS NULL OR (e.user_id, e.date) > (%(after_user)s::uuid, %(after_date)s::date))
            ORDER BY e.user_id, e.date LIMIT {ENTRIES}) e
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
        job.parameters | _position(after),
    )
    if not days:
        return None
    full = sum(count for *_, count in days) == ENTRIES
    if full and len(days) > 1:
        days.pop()  # the limit may have cut this day
    chunk = {"users": [user_id for user_id, *_ in days], "days": [day for _, day, _ in days]}
    if job.dry_run:
        added = await _record_unbilled(conn, job, chunk)
    else:
        added = await _bill_days(conn, job, chunk)
        if added == ENTRIES:
            return added, after or ""  # one day with more entries than a chunk: the next chunk continues with it
    return added, f"{days[-1][0]} {days[-1][1]}" if full else None


def _position(after: str | None) -> dict[str, str | None]:
    """The parameters for a position, which is a user's id and a day."""
    user_id, _, day = (after or "").partition(" ")
    return {"after_user": user_id or None, "after_date": day or None}


_UNBILLED = """
    time_entries e JOIN unnest(%(users)s::uuid[], %(days)s::date[]) AS day (user_id, date) USING (user_id, date)
    WHERE e.bill_id IS NULL AND e.deleted_at IS NULL
"""


async def _record_unbilled(conn: Connection, job: RunningJob, chunk: dict[str, Any]) -> int:
    """Records for a dry run what `_bill_days` would change on each bill. Returns the number of entries."""
    count: int = await conn.value(
        f"""
        WITH added AS (
            SELECT user_id, e.customer_id, e.pillar_id, date, count(*) AS entries, sum(e.duration)::bigint AS seconds
            FROM {_UNBILLED} AND {job.scope("e")} GROUP BY 1, 2, 3, 4
        ), recorded AS (
            INSERT INTO recompute_changes
                (job_id, bill_id, user_id, customer_id, pillar_id, date, seconds_before, seconds_after, entries_added)
            SELECT %(job)s, b.id, a.user_id, a.customer_id, a.pillar_id, a.date, b.seconds,
                   a.seconds + coalesce((SELECT sum(e.duration) FROM time_entries e
                                         WHERE e.bill_id = b.id AND e.deleted_at IS NULL), 0), a.entries
            FROM added a LEFT JOIN time_bills b
                ON (b.user_id, b.customer_id, b.pillar_id, b.date) = (a.user_id, a.customer_id, a.pillar_id, a.date)
                AND {OPEN_BILL}
            ORDER BY a.user_id, a.date, a.customer_id, a.pillar_id
        )
        SELECT coalesce(sum(entries), 0)::bigint FROM added
        """,
        job.parameters | chunk,
    )
    return count


async def _bill_days(conn: Connection, job: RunningJob, chunk: dict[str, Any]) -> int:
    """Puts the entries of these days that have no bill on the open bills of their keys. Returns the number of entries."""
    await lock_users(conn, chunk["users"])
    unbilled = await conn.all(
        f"""
        SELECT e.id, user_id, e.customer_id, e.pillar_id, date FROM {_UNBILLED} AND {job.scope("e")}
        ORDER BY e.id LIMIT {ENTRIES} FOR NO KEY UPDATE OF e
        """,
        job.parameters | chunk,
    )
    if not unbilled:
        return 0
    entries: dict[BillKey, list[UUID]] = defaultdict(list)
    for entry_id, *key in unbilled:
        entries[BillKey(*key)].append(entry_id)
    keys = sorted(entries, key=lambda key: (key.user_id, key.date, key.customer_id, key.pillar_id))
    bill_ids, _ = await ensure_open_bills(conn, keys)
    before = await _seconds_before(conn, bill_ids.values())
    added = [(entry_id, bill_ids[key]) for key in keys for entry_id in entries[key]]
    await conn.execute(
        """
        UPDATE time_entries e SET bill_id = added.bill_id, version = version + 1
        FROM unnest(%s::uuid[], %s::uuid[]) AS added (id, bill_id) WHERE e.id = added.id
        """,
        ([entry_id for entry_id, _ in added], [bill_id for _, bill_id in added]),
    )
    await reopen_rejected(conn, before)
    await recalculate(conn, before)
    await record_changes(conn, job, [(bill_ids[key], before[bill_ids[key]], len(entries[key])) for key in keys])
    return len(added)


async def _seconds_before(conn: Connection, bill_ids: Iterable[UUID]) -> dict[UUID, int | None]:
    """By bill: its present sum in seconds. None: this transaction has created the bill. The bills are locked."""
    query = "SELECT id, CASE WHEN changed_xid <> pg_current_xact_id() THEN seconds END FROM time_bills WHERE id = ANY(%s)"
    return dict(await conn.all(query, (list(bill_ids),)))


async def _correct_bills(conn: Connection, job: RunningJob, after: str | None) -> tuple[int, str | None]:
    """Corrects the next open bills whose sums differ.

    Returns the number of bills that it has processed, and the id after which to continue. After the last bills the id is None,
    and the number does not matter.
    """
    chunk: dict[str, Any] = job.parameters | {"after": after or str(UUID(int=0))}
    last = await conn.value(
        f"""
        SELECT b.id FROM time_bills b WHERE {OPEN_BILL} AND {job.scope("b")} AND b.id > %(after)s::uuid
        ORDER BY b.id OFFSET {BILLS - 1} LIMIT 1
        """,
        chunk,
    )
    chunk["last"] = last or UUID(int=2**128 - 1)
    # Both sides are read in the order of the bills' ids: the entries from their index alone, and only those of this chunk.
    differing = f"""
        SELECT b.id, b.user_id, b.customer_id, b.pillar_id, b.date, b.stale,
               b.seconds AS before, coalesce(s.seconds, 0) AS after, s.bill_id IS NULL AS removed
        FROM time_bills b LEFT JOIN (
            SELECT e.bill_id, sum(e.duration)::bigint AS seconds FROM time_entries e
            WHERE e.deleted_at IS NULL AND e.bill_id > %(after)s::uuid AND e.bill_id <= %(last)s::uuid GROUP BY e.bill_id
        ) s ON s.bill_id = b.id
        WHERE {OPEN_BILL} AND {job.scope("b")} AND b.id > %(after)s::uuid AND b.id <= %(last)s::uuid
          AND (b.stale OR b.seconds <> coalesce(s.seconds, 0) OR s.bill_id IS NULL)
    """
    if job.dry_run:
        await _record_differing(conn, differing, chunk)
        return BILLS, str(last) if last is not None else None
    corrected, removed = await _recalculate_differing(conn, job, differing, chunk)
    if len(corrected) == CORRECTIONS:
        chunk["last"] = last = corrected[-1]
        return removed + await _count_open(conn, job, chunk) - await _count_created(conn, chunk), str(last)
    return BILLS - await _count_created(conn, chunk), str(last) if last is not None else None


async def _count_open(conn: Connection, job: RunningJob, chunk: dict[str, Any]) -> int:
    """The number of open bills in the chunk."""
    count: int = await conn.value(
        f"""
        SELECT count(*) FROM time_bills b
        WHERE {OPEN_BILL} AND {job.scope("b")} AND b.id > %(after)s::uuid AND b.id <= %(last)s::uuid
        """,
        chunk,
    )
    return count


async def _count_created(conn: Connection, chunk: dict[str, Any]) -> int:
    """The number of bills in the chunk that the job has created in its first phase. The job's total does not include them."""
    count: int = await conn.value(
        """
        SELECT count(*) FROM recompute_changes c
        WHERE c.job_id = %(job)s AND c.bill_id > %(after)s::uuid AND c.bill_id <= %(last)s::uuid AND c.seconds_before IS NULL
        """,
        chunk,
    )
    return count


@asynccontextmanager
async def _without_nested_loops(conn: Connection) -> AsyncIterator[None]:
    """Joins in the block use no nested loops.

    In a nested loop, a join with the sums of all bills would compute all sums again for each bill. Postgres may choose one if
    it has not analyzed the tables yet, because it then expects few rows.
    """
    await conn.execute("SET LOCAL enable_nestloop = off")
    yield  # an error ends the transaction, and with it the setting
    await conn.execute("SET LOCAL enable_nestloop = on")


async def _record_differing(conn: Connection, differing: str, parameters: dict[str, Any]) -> None:
    """Records for a dry run what `_recalculate_differing` would change."""
    async with _without_nested_loops(conn):
        await conn.execute(
            f"""
            INSERT INTO recompute_changes
                (job_id, bill_id, user_id, customer_id, pillar_id, date, seconds_before, seconds_after, entries_added, removed)
            SELECT %(job)s, d.id, d.user_id, d.customer_id, d.pillar_id, d.date, d.before, d.after, 0, d.removed
            FROM ({differing}) d WHERE d.before <> d.after OR d.removed ORDER BY d.id
            ON CONFLICT (job_id, bill_id) DO NOTHING  -- the first phase has recorded it, with the entries that it would add
            """,
            parameters,
        )


async def _recalculate_differing(
    conn: Connection, job: RunningJob, differing: str, parameters: dict[str, Any]
) -> tuple[list[UUID], int]:
    """Corrects up to CORRECTIONS of the bills that differ. Returns their ids in order, and how many of them it has removed,
    because they had no entries."""
    async with _without_nested_loops(conn):
        query = f"SELECT d.id FROM ({differing}) d ORDER BY d.id LIMIT {CORRECTIONS}"
        bill_ids: list[UUID] = await conn.values(query, parameters)
    if not bill_ids:
        return [], 0
    await lock_bills(conn, bill_ids)
    sums = await recalculate(conn, bill_ids)
    changed = [(total.bill_id, total.before, 0) for total in sums if total.before != total.after or total.removed]
    await record_changes(conn, job, sorted(changed, key=lambda change: change[0]))
    return bill_ids, sum(total.removed for total in sums)

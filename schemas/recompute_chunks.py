"""The chunks of a recompute job: what one message does.

First the entries without a bill, one person's day after another, then the open bills in the order of their ids. A chunk reads
without locks, locks only what differs, and looks again under the locks.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.billing import BillKey, lock_bills, lock_users, open_bills, reopen_rejected, sum_again
from schemas.database import Connection
from schemas.messages import Recompute
from schemas.recompute import put_chunk

ENTRIES = 2_000  # without a bill, in one chunk
BILLS = 50_000  # looked at in one chunk,
CORRECTIONS = 2_000  # and of these corrected: nobody waits long for a bill


@dataclass(frozen=True)
class _Job:
    """A job's scope, as a chunk needs it."""

    id: UUID
    dry_run: bool
    parameters: dict[str, Any]

    def scope(self, alias: str) -> str:
        """The condition on rows of `alias` with a date, a customer and a user."""
        conditions = {
            "start_date": "{t}.date >= %(start_date)s",
            "end_date": "{t}.date <= %(end_date)s",
            "customer_id": "{t}.customer_id = %(customer_id)s",
            "user_id": "{t}.user_id = %(user_id)s",
        }
        chosen = [text.format(t=alias) for name, text in conditions.items() if self.parameters[name] is not None]
        return " AND ".join(["true", *chosen])


async def go_on(conn: Connection, message: Recompute) -> None:
    """Does the chunk that the message names, and promises the next one."""
    job = await _lock_job(conn, message.job_id)
    if job is None:
        return  # finished, and forgotten
    if message.phase == "entries":
        done, after = await _bill_entries(conn, job, message.after)
    else:
        done, after = await _correct_bills(conn, job, message.after)
    await conn.execute("UPDATE recompute_jobs SET done = done + %s WHERE id = %s", (done, job.id))
    if after is not None:
        await put_chunk(conn, Recompute(job_id=job.id, phase=message.phase, after=after))
    elif message.phase == "entries":
        await put_chunk(conn, Recompute(job_id=job.id, phase="bills"))
    else:
        await conn.execute(
            """
            UPDATE recompute_jobs SET finished_at = clock_timestamp(), done = total WHERE id = %s
            """,
            (job.id,),
        )


async def _lock_job(conn: Connection, job_id: UUID) -> _Job | None:
    """The job, with its total counted when it begins."""
    cursor = await conn.execute(
        """
        SELECT start_date, end_date, customer_id, user_id, dry_run, total FROM recompute_jobs
        WHERE id = %s AND finished_at IS NULL FOR UPDATE
        """,
        (job_id,),
    )
    if (row := await cursor.fetchone()) is None:
        return None
    names = ("start_date", "end_date", "customer_id", "user_id")
    job = _Job(job_id, row[4], dict(zip(names, row[:4], strict=True)) | {"job": job_id})
    if row[5] is None:
        await conn.execute(
            f"""
            UPDATE recompute_jobs SET started_at = clock_timestamp(), total =
                (SELECT count(*) FROM time_entries e WHERE e.bill_id IS NULL AND e.deleted_at IS NULL AND {job.scope("e")})
                + (SELECT count(*) FROM time_bills b WHERE {_OPEN} AND {job.scope("b")})
            WHERE id = %(job)s
            """.encode(),
            job.parameters,
        )
    return job


_OPEN = "b.status <> 'approved' AND b.deleted_at IS NULL"


async def _bill_entries(conn: Connection, job: _Job, after: str | None) -> tuple[int, str | None]:
    """Gives bills to the next entries that have none: how many these were, and where to go on. Whole days of a person, so that
    the dry run meets each bill once."""
    cursor = await conn.execute(
        f"""
        SELECT e.user_id, e.date, count(*) FROM (
            SELECT e.user_id, e.date FROM time_entries e
            WHERE e.bill_id IS NULL AND e.deleted_at IS NULL AND {job.scope("e")}
              AND (%(after_user)s::uuid IS NULL OR (e.user_id, e.date) > (%(after_user)s::uuid, %(after_date)s::date))
            ORDER BY e.user_id, e.date LIMIT {ENTRIES}) e
        GROUP BY 1, 2 ORDER BY 1, 2
        """.encode(),
        job.parameters | _position(after),
    )
    days = await cursor.fetchall()
    if not days:
        return 0, None
    full = sum(count for *_, count in days) == ENTRIES
    if full and len(days) > 1:
        days.pop()  # perhaps not all of it
    chosen = {"users": [user_id for user_id, *_ in days], "days": [day for _, day, _ in days]}
    if job.dry_run:
        added = await _count_unbilled(conn, job, chosen)
    else:
        added = await _bill_days(conn, job, chosen)
        if added == ENTRIES:
            return added, after or ""  # a day of more than a chunk: what is left of it comes next
    return added, f"{days[-1][0]} {days[-1][1]}" if full else None


def _position(after: str | None) -> dict[str, str | None]:
    user_id, _, day = (after or "").partition(" ")
    return {"after_user": user_id or None, "after_date": day or None}


_UNBILLED = """
    time_entries e JOIN unnest(%(users)s::uuid[], %(days)s::date[]) AS day (user_id, date) USING (user_id, date)
    WHERE e.bill_id IS NULL AND e.deleted_at IS NULL
"""


async def _count_unbilled(conn: Connection, job: _Job, chosen: dict[str, Any]) -> int:
    """What billing these days would come to, by bill, without doing it."""
    cursor = await conn.execute(
        f"""
        WITH added AS (
            SELECT user_id, e.customer_id, e.pillar_id, date, count(*) AS entries, sum(e.duration)::bigint AS seconds
            FROM {_UNBILLED} AND {job.scope("e")} GROUP BY 1, 2, 3, 4
        ), noted AS (
            INSERT INTO recompute_changes
                (job_id, bill_id, user_id, customer_id, pillar_id, date, seconds_before, seconds_after, entries_added)
            SELECT %(job)s, b.id, a.user_id, a.customer_id, a.pillar_id, a.date, b.seconds,
                   a.seconds + coalesce((SELECT sum(e.duration) FROM time_entries e
                                         WHERE e.bill_id = b.id AND e.deleted_at IS NULL), 0), a.entries
            FROM added a LEFT JOIN time_bills b
                ON (b.user_id, b.customer_id, b.pillar_id, b.date) = (a.user_id, a.customer_id, a.pillar_id, a.date) AND {_OPEN}
            ORDER BY a.user_id, a.date, a.customer_id, a.pillar_id
        )
        SELECT coalesce(sum(entries), 0)::bigint FROM added
        """.encode(),
        job.parameters | chosen,
    )
    row = await cursor.fetchone()
    assert row is not None
    count: int = row[0]
    return count


async def _bill_days(conn: Connection, job: _Job, chosen: dict[str, Any]) -> int:
    """Puts the entries of these days that have no bill on the open bills of their keys."""
    await lock_users(conn, chosen["users"])
    cursor = await conn.execute(
        f"""
        SELECT e.id, user_id, e.customer_id, e.pillar_id, date FROM {_UNBILLED} AND {job.scope("e")}
        ORDER BY e.id LIMIT {ENTRIES} FOR NO KEY UPDATE OF e
        """.encode(),
        job.parameters | chosen,
    )
    entries: dict[BillKey, list[UUID]] = defaultdict(list)
    for entry_id, *key in await cursor.fetchall():
        entries[BillKey(*key)].append(entry_id)
    if not entries:
        return 0
    keys = sorted(entries, key=lambda key: (key.user_id, key.date, key.customer_id, key.pillar_id))
    bill_ids, _ = await open_bills(conn, keys)
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
    await sum_again(conn, before)
    await _note(conn, job, [(bill_ids[key], before[bill_ids[key]], len(entries[key])) for key in keys])
    return len(added)


async def _seconds_before(conn: Connection, bill_ids: Iterable[UUID]) -> dict[UUID, int | None]:
    """What the locked bills came to until now; None for those that this transaction has made."""
    cursor = await conn.execute(
        """
        SELECT id, CASE WHEN changed_xid <> pg_current_xact_id() THEN seconds END FROM time_bills WHERE id = ANY(%s)
        """,
        (list(bill_ids),),
    )
    return dict(await cursor.fetchall())


async def _correct_bills(conn: Connection, job: _Job, after: str | None) -> tuple[int, str | None]:
    """Corrects the next open bills whose sums differ: how many bills it has gone through, and where to go on."""
    position: dict[str, Any] = job.parameters | {"after": after or str(UUID(int=0))}
    cursor = await conn.execute(
        f"""
        WITH chunk AS MATERIALIZED (
            SELECT b.id FROM time_bills b WHERE {_OPEN} AND {job.scope("b")} AND b.id > %(after)s::uuid
            ORDER BY b.id LIMIT {BILLS})
        SELECT count(*), (SELECT id FROM chunk ORDER BY id DESC LIMIT 1) FROM chunk
        """.encode(),
        position,
    )
    row = await cursor.fetchone()
    assert row is not None
    found, last = row
    if not found:
        return 0, None
    # both sides in the order of the bills' ids: the entries' from the index alone, and no more of them than the chunk has
    differing = f"""
        SELECT b.id, b.user_id, b.customer_id, b.pillar_id, b.date, b.stale,
               b.seconds AS before, coalesce(s.seconds, 0) AS after
        FROM time_bills b LEFT JOIN (
            SELECT e.bill_id, sum(e.duration)::bigint AS seconds FROM time_entries e
            WHERE e.deleted_at IS NULL AND e.bill_id > %(after)s::uuid AND e.bill_id <= %(last)s::uuid GROUP BY e.bill_id
        ) s ON s.bill_id = b.id
        WHERE {_OPEN} AND {job.scope("b")} AND b.id > %(after)s::uuid AND b.id <= %(last)s::uuid
          AND (b.stale OR b.seconds <> coalesce(s.seconds, 0))
    """
    if job.dry_run:
        await _note_differing(conn, job, differing, position | {"last": last})
        return found, str(last) if found == BILLS else None
    corrected = await _sum_differing(conn, job, differing, position | {"last": last})
    more = found == BILLS
    if len(corrected) == CORRECTIONS:
        last, more = corrected[-1], True
    return await _count_gone_through(conn, job, position | {"last": last}), str(last) if more else None


async def _count_gone_through(conn: Connection, job: _Job, parameters: dict[str, Any]) -> int:
    """The open bills of the chunk, without those that the job has made itself: the total knows nothing of them."""
    cursor = await conn.execute(
        f"""
        SELECT count(*) FROM time_bills b
        WHERE {_OPEN} AND {job.scope("b")} AND b.id > %(after)s::uuid AND b.id <= %(last)s::uuid AND NOT EXISTS (
            SELECT FROM recompute_changes c WHERE c.job_id = %(job)s AND c.bill_id = b.id AND c.seconds_before IS NULL)
        """.encode(),
        parameters,
    )
    row = await cursor.fetchone()
    assert row is not None
    count: int = row[0]
    return count


async def _note_differing(conn: Connection, job: _Job, differing: str, parameters: dict[str, Any]) -> None:
    await conn.execute(
        f"""
        INSERT INTO recompute_changes
            (job_id, bill_id, user_id, customer_id, pillar_id, date, seconds_before, seconds_after, entries_added)
        SELECT %(job)s, d.id, d.user_id, d.customer_id, d.pillar_id, d.date, d.before, d.after, 0
        FROM ({differing}) d WHERE d.before <> d.after ORDER BY d.id
        ON CONFLICT (job_id, bill_id) DO NOTHING  -- noted already, with the entries that it would be given
        """.encode(),
        parameters,
    )


async def _sum_differing(conn: Connection, job: _Job, differing: str, parameters: dict[str, Any]) -> list[UUID]:
    """Corrects the first of those that differ, and returns them in the order of their ids."""
    cursor = await conn.execute(f"SELECT d.id FROM ({differing}) d ORDER BY d.id LIMIT {CORRECTIONS}".encode(), parameters)
    bill_ids = [bill_id for (bill_id,) in await cursor.fetchall()]
    if bill_ids:
        await lock_bills(conn, bill_ids)
        sums = await sum_again(conn, bill_ids)
        changed = [(total.bill_id, total.before, 0) for total in sums if total.before != total.after]
        await _note(conn, job, sorted(changed, key=lambda change: change[0]))
    return bill_ids


async def _note(conn: Connection, job: _Job, changed: list[tuple[UUID, int | None, int]]) -> None:
    """Writes down what has become of bills: their ids, their seconds before, and how many entries they were given."""
    await conn.execute(
        """
        INSERT INTO recompute_changes AS c
            (job_id, bill_id, user_id, customer_id, pillar_id, date, seconds_before, seconds_after, entries_added)
        SELECT %s, b.id, b.user_id, b.customer_id, b.pillar_id, b.date, changed.before, b.seconds, changed.added
        FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS changed (id, before, added, place)
        JOIN time_bills b USING (id) ORDER BY changed.place
        ON CONFLICT (job_id, bill_id) DO UPDATE  -- more of a long day; or somebody changed it meanwhile
        SET seconds_after = excluded.seconds_after, entries_added = c.entries_added + excluded.entries_added
        """,
        (job.id, *(list(column) for column in zip(*changed, strict=True))) if changed else (job.id, [], [], []),
    )

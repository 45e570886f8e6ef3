"""How hours add up: which bill an entry belongs to, and what the sum of a bill is.

Locks are taken in the order message, user, customer, task, entries, bills, each by id; a handler has locked its own message
first. Whatever writes an entry first locks its owner's row in `users` (`lock_user`), so two changes of one user's hours cannot
deadlock, also where a trigger changes the flags of the user's other entries. A transaction that has
locked a task never locks a user afterwards, not even if its lock on the task is shared: while a move waits for that task,
further share locks wait behind the move, and one of them may be of a transaction that has locked this user. Row locks are
FOR NO KEY UPDATE: a plain FOR UPDATE would block every insert with a foreign key to the row.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from schemas.messages import RecomputeBills
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.postgres.functions import installed


@dataclass(frozen=True)
class BillKey:
    """One consultant, customer, pillar (an area of work) and day in the firm's time zone; each key has at most one open
    bill."""

    user_id: UUID
    customer_id: UUID
    pillar_id: UUID
    date: date


async def ensure_open_bill(conn: Connection, key: BillKey) -> UUID:
    """The key's open bill, locked; created if there is none. A rejected one is pending again, because of the late time."""
    bill_id: UUID = await conn.value(
        f"SELECT {installed('open_bill')}(%s, %s, %s, %s)", (key.user_id, key.customer_id, key.pillar_id, key.date)
    )
    return bill_id


async def ensure_open_bills(
    conn: Connection, keys: Collection[BillKey], *, also_lock: Collection[UUID] = ()
) -> tuple[dict[BillKey, UUID], dict[UUID, str]]:
    """The keys' open bills, created where there is none, and the statuses of these and of the bills `also_lock`. All of them
    are locked, in the order of their ids. A bill in `also_lock` may be approved; a deleted one has no status."""
    while True:
        ids = await _get_or_create(conn, keys)
        statuses = await lock_bills(conn, {*ids.values(), *also_lock})
        if len(ids) == len(keys) and all(statuses.get(bill_id, "approved") != "approved" for bill_id in ids.values()):
            return ids, statuses
        # Between the look-up and the lock, a bill was approved, or merged into a reopened one: look for its successor.


async def _get_or_create(conn: Connection, keys: Collection[BillKey]) -> dict[BillKey, UUID]:
    columns = {
        "users": [key.user_id for key in keys],
        "customers": [key.customer_id for key in keys],
        "pillars": [key.pillar_id for key in keys],
        "dates": [key.date for key in keys],
    }
    rows = """unnest(%(users)s::uuid[], %(customers)s::uuid[], %(pillars)s::uuid[], %(dates)s::date[])
              AS k (user_id, customer_id, pillar_id, date)"""
    await conn.execute(
        f"""
        INSERT INTO time_bills (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
        SELECT k.user_id, k.customer_id, k.pillar_id, k.date, c.rounding_increment, c.rounding_mode
        FROM {rows} JOIN customers c ON c.id = k.customer_id
        ORDER BY 1, 2, 3, 4  -- two transactions that create the same bills must not deadlock
        ON CONFLICT (user_id, customer_id, pillar_id, date) WHERE status <> 'approved' AND deleted_at IS NULL DO NOTHING
        """,
        columns,
    )
    found = await conn.all(
        f"""
        SELECT b.id, k.user_id, k.customer_id, k.pillar_id, k.date
        FROM {rows} JOIN time_bills b USING (user_id, customer_id, pillar_id, date)
        WHERE b.status <> 'approved' AND b.deleted_at IS NULL
        """,
        columns,
    )
    return {BillKey(*key): bill_id for bill_id, *key in found}


async def lock_bills(conn: Connection, bill_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Locks the bills in the order of their ids, and returns the status of each that exists."""
    return dict(
        await conn.all(
            "SELECT id, status FROM time_bills WHERE id = ANY(%s) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
            (list(bill_ids),),
        )
    )


async def mark_stale(conn: Connection, bill_ids: Iterable[UUID]) -> None:
    """Marks locked bills whose sums no longer match their entries, as stale. Their new version makes an approval with the old
    figures fail."""
    await conn.execute("UPDATE time_bills SET stale = true, version = version + 1 WHERE id = ANY(%s)", (list(bill_ids),))


async def reopen_rejected(conn: Connection, bill_ids: Collection[UUID]) -> None:
    """Makes the rejected ones of the locked bills pending: somebody has corrected something, or late time has arrived."""
    await conn.execute(
        """
        UPDATE time_bills SET status = 'pending', rejection_note = NULL, version = version + 1
        WHERE id = ANY(%s) AND status = 'rejected'
        """,
        (list(bill_ids),),
    )


async def merge_emptied(conn: Connection, successors: Mapping[UUID, UUID]) -> set[UUID]:
    """Removes those locked, open bills whose last entry has just gone to another bill, and adds their memos to that one: what
    the owner wrote about these hours stays with them. `successors`: by bill, the bill that its entries went to, locked too.
    Returns the bills that it removed. The entries were written in an earlier statement."""
    emptied: list[UUID] = await conn.values(
        """
        UPDATE time_bills b SET deleted_at = now(), seconds = 0, stale = false, version = version + 1
        WHERE id = ANY(%s) AND status <> 'approved' AND deleted_at IS NULL
            AND NOT EXISTS (SELECT FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL)
        RETURNING id
        """,
        (list(successors),),
    )
    await conn.execute(
        """
        UPDATE time_bills b SET memo = concat_ws(E'\\n', nullif(b.memo, ''), gone.memos), version = version + 1
        FROM (SELECT successor.id, string_agg(old.memo, E'\\n' ORDER BY old.created_at, old.id) AS memos
              FROM unnest(%s::uuid[], %s::uuid[]) AS successor (emptied, id) JOIN time_bills old ON old.id = successor.emptied
              WHERE old.memo <> '' GROUP BY successor.id) gone
        WHERE b.id = gone.id
        """,
        (emptied, [successors[bill_id] for bill_id in emptied]),
    )
    return set(emptied)


async def enqueue_recompute(conn: Connection, bill_ids: Iterable[UUID], *, by: UUID) -> None:
    """Marks locked bills whose entries changed as stale, and enqueues the message that recalculates their sums. Rejected ones
    are pending again, also after an admin's change: their owner may have left, and cannot correct the entries."""
    ids = tuple(bill_ids)
    await mark_stale(conn, ids)
    await reopen_rejected(conn, ids)
    await outbox.enqueue(conn, RecomputeBills(bill_ids=ids), created_by=by)


@dataclass(frozen=True)
class SumChange:
    """A bill whose sum was written, in seconds. `removed`: no entry is on it any more, so it is a tombstone."""

    bill_id: UUID
    before: int
    after: int
    removed: bool


async def recalculate(conn: Connection, bill_ids: Iterable[UUID]) -> list[SumChange]:
    """Recalculates the sums of locked, open bills from their entries, writes those that differ or were stale, and returns what
    it wrote. A bill without entries becomes a tombstone. None of these has an entry in Xero: such a bill is approved, and keeps
    its entries, until that is deleted.

    The caller has locked the bills in an *earlier* statement: then the snapshot of this statement contains every entry that was
    committed before the lock was granted. If one statement did both, it would miss such entries.
    """
    ids = list(bill_ids)
    if len(ids) == 1:  # a function keeps its plan, which takes as long to make as one sum; a loop over it takes longer for many
        sum_one = f"SELECT s.bill_id, s.before, s.after, s.removed FROM {installed('sum_bill')}(%s) AS s"
        return await conn.all(sum_one, ids, row=SumChange)
    return await conn.all(
        """
        WITH sums AS MATERIALIZED (  -- so that no plan computes them again for each bill
            SELECT bill.id, bill.seconds AS before, coalesce(sum(e.duration), 0)::bigint AS seconds,
                   count(e.bill_id) = 0 AS removed
            FROM time_bills bill LEFT JOIN time_entries e ON e.bill_id = bill.id AND e.deleted_at IS NULL
            WHERE bill.id = ANY(%s)
            GROUP BY bill.id
        )
        UPDATE time_bills b
        SET seconds = s.seconds, stale = false, deleted_at = CASE WHEN s.removed THEN now() END,
            version = b.version + (b.seconds <> s.seconds OR s.removed)::int
        FROM sums s
        WHERE b.id = s.id AND b.status <> 'approved' AND b.deleted_at IS NULL
            AND (b.stale OR b.seconds <> s.seconds OR s.removed)
        RETURNING b.id AS bill_id, s.before, s.seconds AS after, s.removed
        """,
        (ids,),
        row=SumChange,
    )

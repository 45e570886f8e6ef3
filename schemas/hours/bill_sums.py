"""How hours add up: which bill an entry belongs to, and what the sum of a bill is.

Rules of locks:

- The order is message, user, customer, task, entries, bills. Several rows of one table are locked in the order of their ids. A
  handler has locked its own message before anything else.
- A transaction that writes an entry first locks its owner's row in `users` (`lock_user`). So two changes of one user's hours
  cannot deadlock. Neither can the trigger that changes the flags of the user's other entries.
- A transaction that has locked a task never locks a user afterwards, not even if its lock on the task is shared. While a move
  waits for that task, further share locks wait behind the move. One of them may be of a transaction that has locked this user.
- Row locks are FOR NO KEY UPDATE. A plain FOR UPDATE would block every INSERT with a foreign key to the row.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from schemas.base import MAX_TEXT
from schemas.messages import RecomputeBills
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.postgres.functions import installed


@dataclass(frozen=True)
class BillKey:
    """What all entries of a bill have in common: consultant, customer, pillar (an area of work), and day.

    The day is one in the firm's time zone. Each key has at most one open bill.
    """

    user_id: UUID
    customer_id: UUID
    pillar_id: UUID
    date: date


async def ensure_open_bill(conn: Connection, key: BillKey) -> UUID:
    """Locks the key's open bill and returns its id. Creates the bill if there is none.

    A rejected bill becomes pending, because time is added to it.
    """
    bill_id: UUID = await conn.value(
        f"SELECT {installed('open_bill')}(%s, %s, %s, %s)", (key.user_id, key.customer_id, key.pillar_id, key.date)
    )
    return bill_id


async def ensure_open_bills(
    conn: Connection, keys: Collection[BillKey], *, also_lock: Collection[UUID] = ()
) -> tuple[dict[BillKey, UUID], dict[UUID, str]]:
    """Locks the open bills of the keys and the bills `also_lock`, all in the order of their ids. Creates missing open bills.

    Returns two things: by key, the id of its open bill; and by id, the status of each locked bill. A bill in `also_lock` may be
    approved. A deleted one is not locked and has no status.
    """
    while True:
        ids = await _get_or_create(conn, keys)
        statuses = await lock_bills(conn, {*ids.values(), *also_lock})
        if len(ids) == len(keys) and all(statuses.get(bill_id, "approved") != "approved" for bill_id in ids.values()):
            return ids, statuses
        # Between the look-up and the lock, a bill was approved, or merged into a reopened one: look for its successor.


async def _get_or_create(conn: Connection, keys: Collection[BillKey]) -> dict[BillKey, UUID]:
    """By key: the id of its open bill. A key is missing if its bill was approved meanwhile."""
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
    """Marks locked bills as stale: their sums do not match their entries.

    They get a new version, so that an approval of the old sums fails.
    """
    await conn.execute("UPDATE time_bills SET stale = true, version = version + 1 WHERE id = ANY(%s)", (list(bill_ids),))


async def reopen_rejected(conn: Connection, bill_ids: Collection[UUID]) -> None:
    """Makes those of the locked bills pending that are rejected, because their entries have changed."""
    await conn.execute(
        """
        UPDATE time_bills SET status = 'pending', rejection_note = NULL, version = version + 1
        WHERE id = ANY(%s) AND status = 'rejected'
        """,
        (list(bill_ids),),
    )


async def merge_emptied(conn: Connection, successors: Mapping[UUID, UUID]) -> set[UUID]:
    """Removes those of the bills that have no entries any more, and returns their ids.

    `successors`: by bill, the bill that its entries were moved to. The caller has locked both, and has moved the entries in an
    earlier statement. Approved bills are not removed.

    The memo of a removed bill is added to its successor, so what the owner wrote about these hours stays with them. Together
    they are cut to what a memo may have; the removed bill's row keeps its own.
    """
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
        f"""
        UPDATE time_bills b SET version = version + 1,
            memo = CASE WHEN length(merged.memo) <= {MAX_TEXT} THEN merged.memo
                        ELSE left(merged.memo, {MAX_TEXT} - 1) || '…' END
        FROM (SELECT successor.id, concat_ws(
                         E'\\n', nullif(target.memo, ''), string_agg(old.memo, E'\\n' ORDER BY old.created_at, old.id)) AS memo
              FROM unnest(%s::uuid[], %s::uuid[]) AS successor (emptied, id) JOIN time_bills old ON old.id = successor.emptied
                  JOIN time_bills target ON target.id = successor.id
              WHERE old.memo <> '' GROUP BY successor.id, target.memo) merged
        WHERE b.id = merged.id
        """,
        (emptied, [successors[bill_id] for bill_id in emptied]),
    )
    return set(emptied)


async def enqueue_recompute(conn: Connection, bill_ids: Iterable[UUID], *, by: UUID) -> None:
    """Marks locked bills as stale, and enqueues the message that recalculates their sums. `by`: the user who changed entries.

    Rejected bills become pending. This is so after an admin's change, too: the owner may have left the firm, and could not
    correct the entries.
    """
    ids = tuple(bill_ids)
    await mark_stale(conn, ids)
    await reopen_rejected(conn, ids)
    await outbox.enqueue(conn, RecomputeBills(bill_ids=ids), created_by=by)


@dataclass(frozen=True)
class SumChange:
    """A bill whose sum was written."""

    bill_id: UUID
    before: int  # seconds
    after: int  # seconds
    removed: bool  # it has no entry any more, so it is a tombstone


async def recalculate(conn: Connection, bill_ids: Iterable[UUID]) -> list[SumChange]:
    """Recalculates the sums of locked, open bills from their entries. Returns the bills that it wrote.

    It writes bills that were stale, and bills whose sum differs. A bill without entries becomes a tombstone. This never happens
    to a bill that has an entry in Xero, because such a bill is approved until that entry is deleted.

    The caller has locked the bills in an *earlier* statement: then the snapshot of this statement contains every entry that was
    committed before the lock was granted. If one statement did both, it would miss such entries.
    """
    ids = list(bill_ids)
    if len(ids) == 1:
        # For one bill, making the plan of a statement takes as long as the sum. A function keeps its plan. For many bills, one
        # statement is faster than a loop over the function.
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

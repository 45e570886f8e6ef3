"""How hours add up: which bill an entry belongs to, and what a bill's sum is. Shared by time entries, bills and actors.

Locks are taken in the order user, message, customer, task, entries, bills, each by id. Whoever changes an existing entry holds
its owner's row in `users` (`lock_user`), so two changes of one person's hours never wait for each other in a circle; and nobody
who holds a task waits for a user, since who shares a task queues behind who wants to move it. Row locks are FOR NO KEY UPDATE:
a plain FOR UPDATE would stand in the way of every foreign key that points at the row.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from schemas.database import Connection


@dataclass(frozen=True)
class BillKey:
    """What one open bill is for: one consultant, customer, pillar (an area of work) and day in the firm's time zone."""

    user_id: UUID
    customer_id: UUID
    pillar_id: UUID
    date: date


async def lock_user(conn: Connection, user_id: UUID) -> bool:
    """Holds the user's row until the transaction ends, the first lock of whoever changes that user's time."""
    cursor = await conn.execute("SELECT id FROM users WHERE id = %s FOR NO KEY UPDATE", (user_id,))
    return await cursor.fetchone() is not None


async def open_bill(conn: Connection, key: BillKey) -> UUID:
    """The key's open bill, made if there is none, locked. Late time reopens a rejected one."""
    cursor = await conn.execute(
        """
        INSERT INTO time_bills AS b (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
        SELECT %(user)s, c.id, %(pillar)s, %(date)s, c.rounding_increment, c.rounding_mode
        FROM customers c WHERE c.id = %(customer)s
        ON CONFLICT (user_id, customer_id, pillar_id, date) WHERE status <> 'approved' AND deleted_at IS NULL
        DO UPDATE SET status = 'pending', rejection_note = NULL, version = b.version + (b.status = 'rejected')::int
        RETURNING b.id
        """,
        {"user": key.user_id, "customer": key.customer_id, "pillar": key.pillar_id, "date": key.date},
    )
    row = await cursor.fetchone()
    assert row is not None, "the customer is a foreign key of whatever names it"
    bill_id: UUID = row[0]
    return bill_id


async def lock_users(conn: Connection, user_ids: Iterable[UUID]) -> None:
    """Holds the rows of several users, in the order of their ids."""
    await conn.execute("SELECT id FROM users WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", (list(set(user_ids)),))


async def open_bills(
    conn: Connection, keys: Collection[BillKey], *, beside: Collection[UUID] = ()
) -> tuple[dict[BillKey, UUID], dict[UUID, str]]:
    """The keys' open bills, made where there is none, and the statuses of these and of the bills `beside`; all of them are
    locked, in the order of their ids. A bill in `beside` may be approved, and is missing when it is deleted."""
    while True:
        ids = await _find_or_make(conn, keys)
        statuses = await lock_bills(conn, {*ids.values(), *beside})
        if len(ids) == len(keys) and all(statuses.get(bill_id, "approved") != "approved" for bill_id in ids.values()):
            return ids, statuses
        # approved, or absorbed by a reopened one, between look-up and lock: there is another open one now, or none yet


async def _find_or_make(conn: Connection, keys: Collection[BillKey]) -> dict[BillKey, UUID]:
    columns = {
        "users": [key.user_id for key in keys],
        "customers": [key.customer_id for key in keys],
        "pillars": [key.pillar_id for key in keys],
        "dates": [key.date for key in keys],
    }
    wanted = """unnest(%(users)s::uuid[], %(customers)s::uuid[], %(pillars)s::uuid[], %(dates)s::date[])
                AS k (user_id, customer_id, pillar_id, date)"""
    await conn.execute(
        f"""
        INSERT INTO time_bills (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
        SELECT k.user_id, k.customer_id, k.pillar_id, k.date, c.rounding_increment, c.rounding_mode
        FROM {wanted} JOIN customers c ON c.id = k.customer_id
        ORDER BY 1, 2, 3, 4  -- two who make the same bills wait for each other in one direction only
        ON CONFLICT (user_id, customer_id, pillar_id, date) WHERE status <> 'approved' AND deleted_at IS NULL DO NOTHING
        """.encode(),
        columns,
    )
    cursor = await conn.execute(
        f"""
        SELECT b.id, k.user_id, k.customer_id, k.pillar_id, k.date
        FROM {wanted} JOIN time_bills b USING (user_id, customer_id, pillar_id, date)
        WHERE b.status <> 'approved' AND b.deleted_at IS NULL
        """.encode(),
        columns,
    )
    return {BillKey(*key): bill_id for bill_id, *key in await cursor.fetchall()}


async def lock_bills(conn: Connection, bill_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Locks the bills in the order of their ids, and returns the status of each that exists."""
    cursor = await conn.execute(
        "SELECT id, status FROM time_bills WHERE id = ANY(%s) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
        (list(bill_ids),),
    )
    return dict(await cursor.fetchall())


async def mark_stale(conn: Connection, bill_ids: Iterable[UUID]) -> None:
    """Says of locked bills that their sums no longer follow their entries. Their version moves on: who saw them before
    has not seen what they will say."""
    await conn.execute("UPDATE time_bills SET stale = true, version = version + 1 WHERE id = ANY(%s)", (list(bill_ids),))


async def reopen_rejected(conn: Connection, bill_ids: Collection[UUID]) -> None:
    """Makes those of the locked bills pending that are rejected: their owner has mended something, or late time has arrived."""
    await conn.execute(
        """
        UPDATE time_bills SET status = 'pending', rejection_note = NULL, version = version + 1
        WHERE id = ANY(%s) AND status = 'rejected'
        """,
        (list(bill_ids),),
    )


@dataclass(frozen=True)
class Sum:
    """A bill that was summed again, in seconds."""

    bill_id: UUID
    before: int
    after: int


async def sum_again(conn: Connection, bill_ids: Iterable[UUID]) -> list[Sum]:
    """Sums locked, open bills from their entries, writes only what differs or was stale, and returns what it wrote.

    The caller has locked them in an *earlier* statement: this one's snapshot then holds every entry that was committed
    before the lock was had. In one statement with the lock it would lose time.
    """
    cursor = await conn.execute(
        """
        UPDATE time_bills b
        SET seconds = s.seconds, stale = false, version = b.version + (b.seconds <> s.seconds)::int
        FROM (
            SELECT bill.id, bill.seconds AS before, coalesce(sum(e.duration), 0)::bigint AS seconds
            FROM time_bills bill LEFT JOIN time_entries e ON e.bill_id = bill.id AND e.deleted_at IS NULL
            WHERE bill.id = ANY(%s)
            GROUP BY bill.id
        ) s
        WHERE b.id = s.id AND b.status <> 'approved' AND (b.stale OR b.seconds <> s.seconds)
        RETURNING b.id, s.before, s.seconds
        """,
        (list(bill_ids),),
    )
    return [Sum(*row) for row in await cursor.fetchall()]

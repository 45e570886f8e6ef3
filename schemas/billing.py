"""How hours add up: which bill an entry belongs to, and what a bill's sum is. Shared by time entries, bills and actors.

Locks are taken in the order user, message, entries, bills, each by id. Whoever changes an existing entry holds its owner's
row in `users` (`lock_user`), so two changes of one person's hours never wait for each other in a circle. Row locks are
FOR NO KEY UPDATE: a plain FOR UPDATE would stand in the way of every foreign key that points at the row.
"""

from collections.abc import Iterable
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


async def bill_for(conn: Connection, key: BillKey) -> UUID:
    """The key's open bill, made if there is none, not locked: for those who must lock several, in the order of their ids."""
    while True:
        await conn.execute(
            """
            INSERT INTO time_bills (user_id, customer_id, pillar_id, date, rounding_increment, rounding_mode)
            SELECT %(user)s, c.id, %(pillar)s, %(date)s, c.rounding_increment, c.rounding_mode
            FROM customers c WHERE c.id = %(customer)s
            ON CONFLICT (user_id, customer_id, pillar_id, date) WHERE status <> 'approved' AND deleted_at IS NULL DO NOTHING
            """,
            parameters := {"user": key.user_id, "customer": key.customer_id, "pillar": key.pillar_id, "date": key.date},
        )
        cursor = await conn.execute(
            """
            SELECT id FROM time_bills
            WHERE user_id = %(user)s AND customer_id = %(customer)s AND pillar_id = %(pillar)s AND date = %(date)s
              AND status <> 'approved' AND deleted_at IS NULL
            """,
            parameters,
        )
        if (row := await cursor.fetchone()) is not None:  # none: it was approved in between, so make the next one
            bill_id: UUID = row[0]
            return bill_id


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


async def sum_again(conn: Connection, bill_ids: Iterable[UUID]) -> int:
    """Sums locked, open bills from their entries and returns how many rows were written (only what differs is).

    The caller has locked them in an *earlier* statement: this one's snapshot then holds every entry that was committed
    before the lock was had. In one statement with the lock it would lose time.
    """
    cursor = await conn.execute(
        """
        UPDATE time_bills b
        SET seconds = s.seconds, stale = false, version = b.version + (b.seconds <> s.seconds)::int
        FROM (
            SELECT bill.id, coalesce(sum(e.duration) FILTER (WHERE e.deleted_at IS NULL), 0)::bigint AS seconds
            FROM time_bills bill LEFT JOIN time_entries e ON e.bill_id = bill.id
            WHERE bill.id = ANY(%s)
            GROUP BY bill.id
        ) s
        WHERE b.id = s.id AND b.status <> 'approved' AND (b.stale OR b.seconds <> s.seconds)
        RETURNING b.id
        """,
        (list(bill_ids),),
    )
    return len(await cursor.fetchall())

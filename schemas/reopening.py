"""Reopening an approved time bill: approved → pending; at once, or when what it has in Xero is gone."""

from uuid import UUID

from psycopg.errors import UniqueViolation

from schemas import ledger
from schemas.billing import lock_user, sum_again
from schemas.database import Connection
from schemas.messages import MoveEntries


async def hold(conn: Connection, bill_id: UUID) -> None:
    """Locks all that a reopening touches. It moves entries and may take in a second bill: their owner's row first, then their
    tasks, which stay where they are or have moved already, then both bills by id."""
    cursor = await conn.execute("SELECT user_id FROM time_bills WHERE id = %s", (bill_id,))
    if (row := await cursor.fetchone()) is None:
        return
    await lock_user(conn, row[0])
    await conn.execute(
        """
        SELECT id FROM tasks
        WHERE id IN (SELECT e.task_id FROM time_entries e WHERE e.bill_id = %s AND e.deleted_at IS NULL)
        ORDER BY id FOR SHARE
        """,
        (bill_id,),
    )
    await conn.execute(
        """
        SELECT id FROM time_bills
        WHERE id = %(id)s OR (status <> 'approved' AND deleted_at IS NULL AND (user_id, customer_id, pillar_id, date) =
            (SELECT user_id, customer_id, pillar_id, date FROM time_bills WHERE id = %(id)s))
        ORDER BY id FOR NO KEY UPDATE
        """,
        {"id": bill_id},
    )


async def reopen(conn: Connection, bill_id: UUID) -> None:
    """Makes a bill pending that is approved and held, taking in the open bill that late time made for the same key, if there is
    one."""
    while True:
        absorbed = await _open_twin(conn, bill_id)
        try:
            async with conn.transaction():
                await _absorb(conn, bill_id, absorbed)
            break
        except UniqueViolation:
            continue  # late time has just opened a bill for this key: take that one in, too
    await _catch_up(conn, bill_id)


async def _catch_up(conn: Connection, bill_id: UUID) -> None:
    """Tasks may have moved while the bill was approved: its entries follow them now. One that moves later finds it open."""
    cursor = await conn.execute(
        """
        SELECT DISTINCT t.id FROM time_entries e JOIN tasks t ON t.id = e.task_id
        WHERE e.bill_id = %s AND e.deleted_at IS NULL AND (e.customer_id, e.pillar_id) <> (t.customer_id, t.pillar_id)
        """,
        (bill_id,),
    )
    for (task_id,) in await cursor.fetchall():
        await ledger.put(conn, MoveEntries(task_id=task_id))


async def _open_twin(conn: Connection, bill_id: UUID) -> UUID | None:
    cursor = await conn.execute(
        """
        SELECT twin.id FROM time_bills twin JOIN time_bills b USING (user_id, customer_id, pillar_id, date)
        WHERE b.id = %s AND twin.id <> b.id AND twin.status <> 'approved' AND twin.deleted_at IS NULL
        FOR NO KEY UPDATE OF twin
        """,
        (bill_id,),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def _absorb(conn: Connection, bill_id: UUID, absorbed: UUID | None) -> None:
    if absorbed is not None:
        await conn.execute(
            "UPDATE time_entries SET bill_id = %s, version = version + 1 WHERE bill_id = %s AND deleted_at IS NULL",
            (bill_id, absorbed),
        )
        await conn.execute(
            "UPDATE time_bills SET deleted_at = now(), seconds = 0, stale = false, version = version + 1 WHERE id = %s",
            (absorbed,),
        )
    await conn.execute(
        """
        UPDATE time_bills b
        SET status = 'pending', approved_by = NULL, approved_at = NULL, approved_seconds = NULL, xero_status = 'none',
            xero_error = NULL, xero_time_entry_id = NULL, xero_synced_at = NULL, xero_invoiced_at = NULL, version = version + 1,
            memo = concat_ws(E'\\n', nullif(b.memo, ''), nullif((SELECT memo FROM time_bills WHERE id = %s), ''))
        WHERE id = %s
        """,
        (absorbed, bill_id),
    )
    await sum_again(conn, [bill_id])

"""The reopening of an approved time bill, which makes it pending.

A bill that has no entry in Xero becomes pending at once. Any other bill becomes pending when its entry is deleted in Xero:
until then it is being withdrawn.
"""

from collections.abc import Collection
from uuid import UUID

from psycopg.errors import UniqueViolation

from schemas.hours.bill_sums import merge_emptied, recalculate
from schemas.identity.users import User, lock_user
from schemas.messages import MoveEntries, SyncBill
from schemas.outbox import outbox
from schemas.outbox.dead_letters.actions import BY_ITSELF, Action, discard
from schemas.outbox.dead_letters.selecting import Select
from schemas.postgres.connection import Connection


async def lock_for_reopening(conn: Connection, bill_id: UUID) -> None:
    """Locks all rows that a reopening changes. It moves entries, and may merge a second bill into the first.

    The order is the owner, the tasks of the entries, and both bills by their ids. The locks of tasks are shared: a task cannot
    move meanwhile.
    """
    user_id = await conn.value("SELECT user_id FROM time_bills WHERE id = %s", (bill_id,))
    if user_id is None:
        return
    await lock_user(conn, user_id)
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
    """Makes an approved bill pending. Call it after `lock_for_reopening`.

    If time was recorded after the approval, there is a second bill with the same key. It is merged into this one.
    """
    while True:
        duplicate = await _open_duplicate(conn, bill_id)
        try:
            async with conn.transaction():
                await _merge_into(conn, bill_id, duplicate)
            break
        except UniqueViolation:
            continue  # late time has just opened a bill for this key: merge that one, too
    await _enqueue_moves(conn, bill_id)
    await discard_dead_syncs(conn, bill_id, reason="the bill was reopened")


async def discard_dead_syncs(conn: Connection, bill_id: UUID, *, reason: str) -> None:
    """Discards the dead letters of a bill's sync to Xero, because nothing is left to do for them.

    It does not wait for a dead letter that another transaction has locked: messages come before bills in the order of locks.
    """
    dead = await conn.values(
        """
        SELECT id FROM messages
        WHERE state = 'dead' AND queue = 'xero' AND actor = 'sync_bill' AND body->>'bill_id' = %s
        ORDER BY id FOR UPDATE SKIP LOCKED
        """,
        (str(bill_id),),
    )
    if dead:
        await discard(conn, Action(select=Select(ids=dead), reason=reason), who=BY_ITSELF)


async def may_exist_in_xero(conn: Connection, bill_id: UUID) -> bool:
    """Whether a locked bill has, or may have, an entry in Xero."""
    query = "SELECT 1 FROM xero_entries WHERE bill_id = %s AND (entry_ids <> '{}' OR create_attempted_at IS NOT NULL)"
    return await conn.maybe(query, (bill_id,)) is not None


async def is_withdrawing(conn: Connection, bill_id: UUID) -> bool:
    """Whether an admin has reopened the bill, and its entry in Xero has to be deleted."""
    return await conn.maybe("SELECT 1 FROM xero_entries WHERE bill_id = %s AND withdrawing", (bill_id,)) is not None


async def withdraw(conn: Connection, bill_id: UUID) -> None:
    """Records that the entry of a locked bill has to be deleted in Xero. After that, the bill is reopened.

    What an admin has chosen about changes in Xero does not count any more.
    """
    await conn.execute(
        """
        UPDATE xero_entries SET withdrawing = true, reopen_error = NULL, accepted = false, overwrite = false WHERE bill_id = %s
        """,
        (bill_id,),
    )


async def cancel_withdrawals(conn: Connection, bill_ids: Collection[UUID], *, by: User) -> list[UUID]:
    """Cancels the withdrawal of those of the locked bills that are being withdrawn. They stay approved.

    It enqueues their sync to Xero, and returns their ids. A bill whose entry is deleted already, or may be, gets another entry.
    """
    kept: list[UUID] = await conn.values(
        "UPDATE xero_entries SET withdrawing = false WHERE bill_id = ANY(%s) AND withdrawing RETURNING bill_id",
        (list(bill_ids),),
    )
    await conn.execute("UPDATE time_bills SET xero_status = 'queued', xero_error = NULL WHERE id = ANY(%s)", (kept,))
    await outbox.enqueue_many(conn, [SyncBill(bill_id=bill_id) for bill_id in kept], created_by=by.id)
    return kept


async def _enqueue_moves(conn: Connection, bill_id: UUID) -> None:
    """Enqueues the moves of entries whose tasks have moved while the bill was approved.

    The entries of a task that moves later need no such message, because the bill is open by then.
    """
    task_ids = await conn.values(
        """
        SELECT DISTINCT t.id FROM time_entries e JOIN tasks t ON t.id = e.task_id
        WHERE e.bill_id = %s AND e.deleted_at IS NULL AND (e.customer_id, e.pillar_id) <> (t.customer_id, t.pillar_id)
        """,
        (bill_id,),
    )
    for task_id in task_ids:
        await outbox.enqueue(conn, MoveEntries(task_id=task_id))


async def _open_duplicate(conn: Connection, bill_id: UUID) -> UUID | None:
    """The open bill of the same key, locked, if there is one."""
    duplicate_id: UUID | None = await conn.value(
        """
        SELECT duplicate.id FROM time_bills duplicate JOIN time_bills b USING (user_id, customer_id, pillar_id, date)
        WHERE b.id = %s AND duplicate.id <> b.id AND duplicate.status <> 'approved' AND duplicate.deleted_at IS NULL
        FOR NO KEY UPDATE OF duplicate
        """,
        (bill_id,),
    )
    return duplicate_id


async def _merge_into(conn: Connection, bill_id: UUID, duplicate_id: UUID | None) -> None:
    """Makes the bill pending. It gets the entries and the memo of its duplicate, which becomes a tombstone."""
    if duplicate_id is not None:
        await conn.execute(
            "UPDATE time_entries SET bill_id = %s, version = version + 1 WHERE bill_id = %s AND deleted_at IS NULL",
            (bill_id, duplicate_id),
        )
        await merge_emptied(conn, {duplicate_id: bill_id})
    await conn.execute(
        """
        UPDATE time_bills
        SET status = 'pending', approved_by = NULL, approved_at = NULL, approved_seconds = NULL, xero_status = 'none',
            xero_error = NULL, xero_time_entry_id = NULL, xero_synced_at = NULL, xero_invoiced_at = NULL,
            xero_difference = NULL, xero_accepted = NULL, version = version + 1
        WHERE id = %s
        """,
        (bill_id,),
    )
    await recalculate(conn, [bill_id])

"""When a task moves to another customer or pillar, its time entries follow, except those on approved bills."""

from datetime import date
from uuid import UUID

from schemas.hours.bill_sums import BillKey, ensure_open_bills, merge_emptied, recalculate, reopen_rejected
from schemas.identity.users import lock_users
from schemas.postgres.connection import Connection

CHUNK = 500  # entries in one transaction

# entries `e` of the task `t` that have another customer or pillar than the task
_LEFT_BEHIND = """
    e.task_id = t.id AND e.deleted_at IS NULL AND (e.customer_id, e.pillar_id) <> (t.customer_id, t.pillar_id)
    AND NOT EXISTS (SELECT FROM time_bills b WHERE b.id = e.bill_id AND b.status = 'approved')
"""


async def move_chunk(conn: Connection, task_id: UUID) -> bool:
    """Moves up to CHUNK entries of the task to its customer and pillar, onto bills there, and recalculates all bills involved.
    Returns whether there may be more entries to move."""
    found = await conn.all(
        f"SELECT e.id, e.user_id FROM tasks t, time_entries e WHERE t.id = %s AND {_LEFT_BEHIND} LIMIT {CHUNK}", (task_id,)
    )
    if not found:
        return False
    await lock_users(conn, [user_id for _, user_id in found])
    # FOR SHARE: the task cannot move before this commits, but new entries on it are not blocked
    task = await conn.maybe("SELECT customer_id, pillar_id FROM tasks WHERE id = %s FOR SHARE", (task_id,))
    assert task is not None, "a task is never removed, only marked as deleted"
    customer_id, pillar_id = task
    entries: list[tuple[UUID, UUID, date, UUID | None]] = await conn.all(
        """
        SELECT id, user_id, date, bill_id FROM time_entries
        WHERE id = ANY(%s) AND task_id = %s AND deleted_at IS NULL AND (customer_id, pillar_id) <> (%s, %s)
        ORDER BY id FOR NO KEY UPDATE
        """,  # an entry that was found may have been given to another task meanwhile
        ([entry_id for entry_id, _ in found], task_id, customer_id, pillar_id),
    )
    keys = {BillKey(user_id, customer_id, pillar_id, day) for _, user_id, day, _ in entries}
    present_bills = {bill_id for *_, bill_id in entries if bill_id is not None}
    bill_ids, statuses = await ensure_open_bills(conn, keys, also_lock=present_bills)
    # Entries whose bill was approved after they were found stay where they are; the next chunk does not find them.
    moving = [entry for entry in entries if entry[3] is None or statuses.get(entry[3]) != "approved"]
    await conn.execute(
        """
        UPDATE time_entries e SET customer_id = %s, pillar_id = %s, bill_id = moved.bill_id, version = version + 1
        FROM unnest(%s::uuid[], %s::uuid[]) AS moved (id, bill_id) WHERE e.id = moved.id
        """,
        (
            customer_id,
            pillar_id,
            [entry_id for entry_id, *_ in moving],
            [bill_ids[BillKey(user_id, customer_id, pillar_id, day)] for _, user_id, day, _ in moving],
        ),
    )
    left = {entry[3]: bill_ids[BillKey(entry[1], customer_id, pillar_id, entry[2])] for entry in moving if entry[3] is not None}
    emptied = await merge_emptied(conn, left)
    await reopen_rejected(conn, statuses.keys() - emptied)  # also those that entries left, as when an entry is changed
    await recalculate(conn, statuses)
    return len(found) == CHUNK

"""A task that has moved takes its hours along: its entries follow, but for those on approved bills."""

from collections.abc import Collection
from datetime import date
from uuid import UUID

from schemas import ledger
from schemas.billing import BillKey, lock_users, open_bills, reopen_rejected, sum_again
from schemas.database import Connection
from schemas.messages import MoveEntries

CHUNK = 500  # entries in one transaction

# entries `e` of the task `t` that stand elsewhere than it does
_LEFT_BEHIND = """
    e.task_id = t.id AND e.deleted_at IS NULL AND (e.customer_id, e.pillar_id) <> (t.customer_id, t.pillar_id)
    AND NOT EXISTS (SELECT FROM time_bills b WHERE b.id = e.bill_id AND b.status = 'approved')
"""


async def move_entries(conn: Connection, task_id: UUID) -> bool:
    """Moves some of the entries that the task left behind onto bills where it is now, sums all bills that this touches, and
    says whether there may be more of them."""
    cursor = await conn.execute(
        f"SELECT e.id, e.user_id FROM tasks t, time_entries e WHERE t.id = %s AND {_LEFT_BEHIND} LIMIT {CHUNK}".encode(),
        (task_id,),
    )
    found = await cursor.fetchall()
    if not found:
        return False
    await lock_users(conn, [user_id for _, user_id in found])
    # shared: the task stays where it is until this is committed, and new entries may still come
    cursor = await conn.execute("SELECT customer_id, pillar_id FROM tasks WHERE id = %s FOR SHARE", (task_id,))
    task = await cursor.fetchone()
    assert task is not None, "a task is never removed, only marked as deleted"
    cursor = await conn.execute(
        """
        SELECT id, user_id, date, bill_id FROM time_entries
        WHERE id = ANY(%s) AND deleted_at IS NULL AND (customer_id, pillar_id) <> (%s, %s) ORDER BY id FOR NO KEY UPDATE
        """,
        ([entry_id for entry_id, _ in found], *task),
    )
    entries: list[tuple[UUID, UUID, date, UUID | None]] = await cursor.fetchall()
    keys = {BillKey(user_id, task[0], task[1], day) for _, user_id, day, _ in entries}
    bill_ids, statuses = await open_bills(conn, keys, beside={bill_id for *_, bill_id in entries if bill_id is not None})
    # approved since they were found: these stay where they are, and are not found again
    moving = [entry for entry in entries if entry[3] is None or statuses.get(entry[3]) != "approved"]
    await conn.execute(
        """
        UPDATE time_entries e SET customer_id = %s, pillar_id = %s, bill_id = moved.bill_id, version = version + 1
        FROM unnest(%s::uuid[], %s::uuid[]) AS moved (id, bill_id) WHERE e.id = moved.id
        """,
        (
            task[0],
            task[1],
            [entry_id for entry_id, *_ in moving],
            [bill_ids[BillKey(user_id, task[0], task[1], day)] for _, user_id, day, _ in moving],
        ),
    )
    await reopen_rejected(conn, list(bill_ids.values()))
    await sum_again(conn, statuses)
    return len(found) == CHUNK


async def move_tasks(conn: Connection, task_ids: Collection[UUID], *, to: UUID, by: UUID) -> None:
    """Moves locked tasks to another pillar of their customer, and promises that their entries follow, where they have any."""
    ids = list(task_ids)
    await conn.execute("UPDATE tasks SET pillar_id = %s, version = version + 1 WHERE id = ANY(%s)", (to, ids))
    cursor = await conn.execute(
        "SELECT DISTINCT task_id FROM time_entries WHERE task_id = ANY(%s) AND deleted_at IS NULL ORDER BY 1", (ids,)
    )
    for (task_id,) in await cursor.fetchall():
        await ledger.put(conn, MoveEntries(task_id=task_id), created_by=by)

"""Changes of time entries: another task, new times, notes, deletion.

- The order of locks is the owner's row, the new task, the entry, its bills.
- An entry on an approved bill cannot be changed.
- Bills that change are marked as stale. A message, which is enqueued in the same transaction, recalculates their sums.
- A bill whose last entry goes to another bill is removed at once. Its memo is added to the memo of that bill.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Second, Text, Version
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.hours.bill_sums import BillKey, enqueue_recompute, ensure_open_bills, lock_bills, merge_emptied, reopen_rejected
from schemas.hours.entry_creation import AllowOverlap, lock_task
from schemas.hours.entry_rules import EntryRules, get_horizon
from schemas.hours.entry_times import ChangedDuration, refuse_overlap, resolve_changed
from schemas.hours.time_entries import ENTRIES, TimeEntry
from schemas.identity.users import User, lock_user
from schemas.postgres.connection import Connection

MAX_NOTES = 10_000  # characters


class TimeEntryChange(Body):
    """Another task, new times, or both. startTime or endTime alone keeps the other; duration alone keeps startTime; all three
    must agree."""

    task_id: Annotated[
        UUID | None,
        Field(description="another task, also of another customer: the entry moves to a bill of that customer and pillar"),
    ] = None
    start_time: Annotated[Second | None, Field(examples=["2026-11-23T09:30:00Z"])] = None
    end_time: Annotated[Second | None, Field(examples=["2026-11-23T11:00:00Z"])] = None
    duration: ChangedDuration | None = None
    allow_overlap: AllowOverlap = False
    version: Version | None = None


class NotesChange(Body):
    """`notes` replaces what is there, `append` adds a line to it."""

    notes: Annotated[Text | None, Field(examples=["Moved the last mailboxes"])] = None
    append: Annotated[str | None, Field(min_length=1, max_length=MAX_NOTES)] = None
    version: Version | None = None


@dataclass(frozen=True)
class _LockedEntry:
    """The columns that a change needs, read under the locks on the owner and the entry."""

    user_id: UUID
    task_id: UUID
    customer_id: UUID
    pillar_id: UUID
    start_time: datetime
    end_time: datetime
    date: date
    bill_id: UUID | None
    notes: str
    version: int


async def change(conn: Connection, entry_id: UUID, patch: TimeEntryChange, *, by: User, rules: EntryRules) -> TimeEntry:
    """Gives the entry to another task, or sets new times.

    If the customer, the pillar or the day becomes another one, the entry moves to the bill of these. A recompute of both bills
    is enqueued.

    Raises

    - Invalid: there is no such task, or the times do not agree or are too far ahead;
    - Conflict: the version is stale, the task is archived, the entry overlaps another one, or it is on an approved bill;
    - Forbidden: `by` is neither the owner nor an admin.
    """
    present_task = await _lock_owner(conn, entry_id, by=by)
    other_task = patch.task_id if patch.task_id != present_task else None
    place = None if other_task is None else await lock_task(conn, other_task)
    entry = await _lock_entry(conn, entry_id, patch.version)
    start, end = entry.start_time, entry.end_time
    if (has_times := (patch.start_time, patch.end_time, patch.duration) != (None, None, None)) or patch.task_id is None:
        horizon = await get_horizon(conn, rules)
        start, end = resolve_changed((start, end), patch.start_time, patch.end_time, patch.duration, horizon=horizon)
    day: date = await conn.value("SELECT (%s::timestamptz AT TIME ZONE %s)::date", (start, rules.zone))
    customer_id, pillar_id = place or (entry.customer_id, entry.pillar_id)
    bill_id = await _open_bill(conn, entry, BillKey(entry.user_id, customer_id, pillar_id, day))
    if has_times and not patch.allow_overlap:
        await refuse_overlap(conn, entry_id, entry.user_id, start, end)
    moved = {"task_id": other_task or entry.task_id, "customer_id": customer_id, "pillar_id": pillar_id}
    times = {"start_time": start, "end_time": end, "date": day}
    changed = await ENTRIES.update(conn, entry_id, moved | times | {"bill_id": bill_id})
    bill_ids = {bill_id} | ({entry.bill_id} if entry.bill_id else set())
    if entry.bill_id is not None and entry.bill_id != bill_id:
        bill_ids -= await merge_emptied(conn, {entry.bill_id: bill_id})
    await enqueue_recompute(conn, bill_ids, by=by.id)
    return changed


async def write_notes(conn: Connection, entry_id: UUID, patch: NotesChange, *, by: User) -> TimeEntry:
    """Replaces the notes, or adds a line to them. A rejected bill becomes pending.

    Raises Invalid unless exactly one of `notes` and `append` is sent. Otherwise it raises as `change` does.
    """
    if (patch.notes is None) == (patch.append is None):
        raise Invalid("", "Send either notes, which replaces them, or append, which adds a line.")
    entry = await _lock(conn, entry_id, patch.version, by=by)
    await _lock_bill(conn, entry)
    lines = [line for line in (entry.notes, patch.append) if line]
    notes = patch.notes if patch.notes is not None else "\n".join(lines)
    if len(notes) > MAX_NOTES:
        raise Invalid("append", f"The notes would be longer than {MAX_NOTES:,} characters.")
    changed = await ENTRIES.update(conn, entry_id, {"notes": notes})
    if entry.bill_id is not None:
        await reopen_rejected(conn, [entry.bill_id])
    return changed


async def delete(conn: Connection, entry_id: UUID, *, version: int | None, by: User) -> None:
    """Leaves a tombstone, and enqueues a recompute of the bill. Raises as `change`."""
    entry = await _lock(conn, entry_id, version, by=by)
    await _lock_bill(conn, entry)
    await conn.execute("UPDATE time_entries SET deleted_at = now(), version = version + 1 WHERE id = %s", (entry_id,))
    if entry.bill_id is not None:
        await enqueue_recompute(conn, [entry.bill_id], by=by.id)


async def _lock(conn: Connection, entry_id: UUID, version: int | None, *, by: User) -> _LockedEntry:
    """Locks the owner's row and the entry. Raises as `_lock_owner` and `_lock_entry`."""
    await _lock_owner(conn, entry_id, by=by)
    return await _lock_entry(conn, entry_id, version)


async def _lock_owner(conn: Connection, entry_id: UUID, *, by: User) -> UUID:
    """Locks the row of the entry's owner. Returns the entry's task, which cannot become another one from then on.

    Raises NotFound if there is no such entry, and Forbidden if `by` may not change it.
    """
    owner_id = await conn.value("SELECT user_id FROM time_entries WHERE id = %s AND deleted_at IS NULL", (entry_id,))
    if owner_id is None:
        raise NotFound("There is no such time entry.")
    if not (by.is_admin or by.id == owner_id):
        raise Forbidden("Only its owner or an admin can change a time entry.")
    await lock_user(conn, owner_id)
    task_id: UUID = await conn.value("SELECT task_id FROM time_entries WHERE id = %s", (entry_id,))
    return task_id


async def _lock_entry(conn: Connection, entry_id: UUID, version: int | None) -> _LockedEntry:
    """Raises NotFound for an entry that was deleted meanwhile, Conflict for a stale version."""
    entry = await conn.maybe(
        """
        SELECT user_id, task_id, customer_id, pillar_id, start_time, end_time, date, bill_id, notes, version
        FROM time_entries WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
        """,
        (entry_id,),
        row=_LockedEntry,
    )
    if entry is None:
        raise NotFound("There is no such time entry.")
    if version not in (None, entry.version):
        ENTRIES.check_version(version, await ENTRIES.current(conn, entry_id))
    return entry


async def _open_bill(conn: Connection, entry: _LockedEntry, key: BillKey) -> UUID:
    """The id of the open bill with that key. Locks this bill and the entry's present bill.

    Raises Conflict if the present bill is approved.
    """
    present = BillKey(entry.user_id, entry.customer_id, entry.pillar_id, entry.date)
    if key == present and entry.bill_id is not None:
        await _lock_bill(conn, entry)
        return entry.bill_id
    bill_ids, statuses = await ensure_open_bills(conn, [key], also_lock=[entry.bill_id] if entry.bill_id else [])
    _refuse_approved(entry, statuses)
    return bill_ids[key]


async def _lock_bill(conn: Connection, entry: _LockedEntry) -> None:
    """Locks the entry's bill, if it has one. Raises Conflict when that is approved."""
    if entry.bill_id is not None:
        _refuse_approved(entry, await lock_bills(conn, [entry.bill_id]))


def _refuse_approved(entry: _LockedEntry, statuses: dict[UUID, str]) -> None:
    if entry.bill_id is not None and statuses.get(entry.bill_id) == "approved":
        raise Conflict("The entry is on an approved time bill; an admin can reopen that.", timeBillId=str(entry.bill_id))

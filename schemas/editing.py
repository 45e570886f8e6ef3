"""What people do to time entries: write them by hand, set new times, write notes, delete.

Each holds the owner's row, then the entry, then its bills. An entry on an approved bill is locked. Bills that change are marked
as stale and summed again by an actor, which the same transaction promises.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import Field

from schemas import entry_times, ledger, users
from schemas.base import Body, Flag, Second, Text, Version, json_object
from schemas.billing import BillKey, lock_bills, lock_user, mark_stale, open_bills, reopen_rejected
from schemas.database import Connection
from schemas.entry_times import LONGEST, ChangedDuration, Duration
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.messages import RecomputeBills
from schemas.time_entries import UNFINISHED_STOPS, TimeEntry
from schemas.users import User

LONGEST_NOTES = 10_000

AllowOverlap = Annotated[Flag, Field(description="accept that the entry overlaps others of the same user")]


class NewTimeEntry(Body):
    """Time logged by hand: a start, and an end or a duration. With an `id` of one's own, repeating the request is safe."""

    id: UUID | None = None
    task_id: UUID
    user_id: Annotated[UUID | None, Field(description="whose time it is: your own, or as an admin anybody's")] = None
    start_time: Annotated[Second, Field(examples=["2026-11-23T09:30:00Z"])]
    end_time: Annotated[Second | None, Field(examples=["2026-11-23T11:00:00Z"])] = None
    duration: Duration | None = None
    notes: Text = ""
    allow_overlap: AllowOverlap = False


class TimeEntryChange(Body):
    """New times. startTime or endTime alone keeps the other; duration alone keeps startTime; all three must agree."""

    start_time: Annotated[Second | None, Field(examples=["2026-11-23T09:30:00Z"])] = None
    end_time: Annotated[Second | None, Field(examples=["2026-11-23T11:00:00Z"])] = None
    duration: ChangedDuration | None = None
    allow_overlap: AllowOverlap = False
    version: Version | None = None


class NotesChange(Body):
    """`notes` replaces what is there, `append` adds a line to it."""

    notes: Annotated[Text | None, Field(examples=["Moved the last mailboxes"])] = None
    append: Annotated[str | None, Field(min_length=1, max_length=LONGEST_NOTES)] = None
    version: Version | None = None


@dataclass(frozen=True)
class _Entry:
    """The columns that a change needs, read under the owner's lock."""

    user_id: UUID
    customer_id: UUID
    pillar_id: UUID
    start_time: datetime
    end_time: datetime
    date: date
    bill_id: UUID | None
    notes: str
    version: int


async def create(conn: Connection, new: NewTimeEntry, *, by: User, zone: str) -> TimeEntry:
    """The new entry, on the open bill of its day. The same id with the same body gives the same entry.

    Raises Invalid for times that do not agree and for an unknown task or user, Conflict for an overlap, an archived task and an
    id that is taken, Forbidden for somebody else's time.
    """
    user_id = new.user_id or by.id
    if user_id != by.id and not by.is_admin:
        raise Forbidden("Only an admin can log time for somebody else.")
    if not await lock_user(conn, user_id) or (user_id != by.id and not await users.is_consultant(conn, user_id)):
        raise Invalid("userId", "Nobody who logs time has this id; GET /api/tasks/internal-users lists them.")
    if new.id is not None and (before := await _created_before(conn, new, user_id)) is not None:
        return before
    start, end = entry_times.of_new(new.start_time, new.end_time, new.duration)
    entry_id = new.id or uuid4()
    key = await _key(conn, new.task_id, user_id, start, zone)
    if not new.allow_overlap:
        await _refuse_overlap(conn, entry_id, user_id, start, end)
    bill_ids, _ = await open_bills(conn, [key])
    cursor = await conn.execute(
        f"""
        INSERT INTO time_entries AS e (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, notes,
                                       bill_id, created_from)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (id) DO NOTHING RETURNING {json_object(TimeEntry, "e")}::text
        """.encode(),
        (entry_id, new.task_id, user_id, key.customer_id, key.pillar_id, start, end, key.date, new.notes,
         bill_ids[key], new.fingerprint()),
    )  # fmt: skip
    if (row := await cursor.fetchone()) is None:  # another user's, made at the same moment
        raise id_is_taken()
    await _bills_changed(conn, bill_ids.values(), by=by, reopen=True)
    return TimeEntry.from_json(row[0])


async def change(conn: Connection, entry_id: UUID, wanted: TimeEntryChange, *, by: User, zone: str) -> TimeEntry:
    """Sets new times, moves the entry to its new day's bill, and promises to sum both bills again.

    Raises Invalid for times that do not agree, Conflict for a stale version, an overlap or a locked entry, Forbidden for
    whoever is neither the owner nor an admin.
    """
    entry = await _lock_entry(conn, entry_id, wanted.version, by=by)
    before = (entry.start_time, entry.end_time)
    start, end = entry_times.of_changed(before, wanted.start_time, wanted.end_time, wanted.duration)
    day = await _day(conn, start, zone)
    bill_id = await _bill_for_change(conn, entry, day)
    if not wanted.allow_overlap:
        await _refuse_overlap(conn, entry_id, entry.user_id, start, end)
    cursor = await conn.execute(
        f"""
        UPDATE time_entries e SET start_time = %s, end_time = %s, date = %s, bill_id = %s, version = version + 1
        WHERE id = %s RETURNING {json_object(TimeEntry, "e")}::text
        """.encode(),
        (start, end, day, bill_id, entry_id),
    )
    changed = await cursor.fetchone()
    assert changed is not None
    bill_ids = {bill_id} | ({entry.bill_id} if entry.bill_id else set())
    await _bills_changed(conn, bill_ids, by=by, reopen=by.id == entry.user_id)
    if bill_id != entry.bill_id:  # for that bill it is time that arrives late
        await reopen_rejected(conn, [bill_id])
    return TimeEntry.from_json(changed[0])


async def write_notes(conn: Connection, entry_id: UUID, wanted: NotesChange, *, by: User) -> TimeEntry:
    """Replaces the notes, or adds a line to them. An owner's note on a rejected bill makes that pending again.

    Raises Invalid unless exactly one of both is asked for, and as `change` does.
    """
    if (wanted.notes is None) == (wanted.append is None):
        raise Invalid("", "Send either notes, which replaces them, or append, which adds a line.")
    entry = await _lock_entry(conn, entry_id, wanted.version, by=by)
    await _lock_open_bill(conn, entry)
    lines = [line for line in (entry.notes, wanted.append) if line]
    notes = wanted.notes if wanted.notes is not None else "\n".join(lines)
    if len(notes) > LONGEST_NOTES:
        raise Invalid("append", f"The notes would be longer than {LONGEST_NOTES:,} characters.")
    cursor = await conn.execute(
        f"""
        UPDATE time_entries e SET notes = %s, version = version + 1 WHERE id = %s RETURNING {json_object(TimeEntry, "e")}::text
        """.encode(),
        (notes, entry_id),
    )
    changed = await cursor.fetchone()
    assert changed is not None
    if entry.bill_id is not None and by.id == entry.user_id:
        await reopen_rejected(conn, [entry.bill_id])
    return TimeEntry.from_json(changed[0])


async def delete(conn: Connection, entry_id: UUID, *, version: int | None, by: User) -> None:
    """Leaves a tombstone, and promises to sum the bill again. Raises as `change` does."""
    entry = await _lock_entry(conn, entry_id, version, by=by)
    await _lock_open_bill(conn, entry)
    await conn.execute("UPDATE time_entries SET deleted_at = now(), version = version + 1 WHERE id = %s", (entry_id,))
    if entry.bill_id is not None:
        await _bills_changed(conn, [entry.bill_id], by=by, reopen=by.id == entry.user_id)


async def _created_before(conn: Connection, new: NewTimeEntry, user_id: UUID) -> TimeEntry | None:
    """The entry that an earlier request with this id and body made, if any.

    Raises Conflict for an id that is taken: by another entry, or by a timer whose entry is still to come."""
    cursor = await conn.execute(
        f"""
        SELECT {json_object(TimeEntry, "e")}::text,
               created_from = %(fingerprint)s AND user_id = %(user)s AND deleted_at IS NULL
        FROM time_entries e WHERE id = %(id)s
        UNION ALL SELECT NULL, false FROM timers WHERE id = %(id)s
        UNION ALL SELECT NULL, false FROM ({UNFINISHED_STOPS}) stop
        LIMIT 1
        """.encode(),
        {"fingerprint": new.fingerprint(), "user": user_id, "id": new.id},
    )
    row = await cursor.fetchone()
    if row is not None and not row[1]:
        raise id_is_taken()
    return TimeEntry.from_json(row[0]) if row is not None else None


def id_is_taken() -> Conflict:
    """Says that an entry can't have the id that was brought for it."""
    return Conflict("Another time entry has this id, or a timer whose entry is still to come; take a new one.")


async def _key(conn: Connection, task_id: UUID, user_id: UUID, start: datetime, zone: str) -> BillKey:
    cursor = await conn.execute(
        """
        SELECT customer_id, pillar_id, (%s::timestamptz AT TIME ZONE %s)::date, status
        FROM tasks WHERE id = %s AND deleted_at IS NULL FOR SHARE  -- a task that moves waits, and takes this entry along
        """,
        (start, zone, task_id),
    )
    if (row := await cursor.fetchone()) is None:
        raise Invalid("taskId", "There is no such task; GET /api/tasks lists them.")
    if row[3] == "archived":
        raise Conflict("This task is archived; set its status to open to work on it again.")
    return BillKey(user_id, row[0], row[1], row[2])


async def _day(conn: Connection, start: datetime, zone: str) -> date:
    cursor = await conn.execute("SELECT (%s::timestamptz AT TIME ZONE %s)::date", (start, zone))
    row = await cursor.fetchone()
    assert row is not None
    day: date = row[0]
    return day


async def _lock_entry(conn: Connection, entry_id: UUID, version: int | None, *, by: User) -> _Entry:
    """The entry, with its owner's row and its own locked, for who may change it, if it is still of that version."""
    cursor = await conn.execute("SELECT user_id FROM time_entries WHERE id = %s AND deleted_at IS NULL", (entry_id,))
    owner = await cursor.fetchone()
    if owner is None:
        raise NotFound("There is no such time entry.")
    if not (by.is_admin or by.id == owner[0]):
        raise Forbidden("Only its owner or an admin can change a time entry.")
    await lock_user(conn, owner[0])
    cursor = await conn.execute(
        """
        SELECT user_id, customer_id, pillar_id, start_time, end_time, date, bill_id, notes, version
        FROM time_entries WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
        """,
        (entry_id,),
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("There is no such time entry.")
    entry = _Entry(*row)
    if version is not None and version != entry.version:
        raise Conflict("The entry has changed since you read it.", current=await _current(conn, entry_id))
    return entry


async def _bill_for_change(conn: Connection, entry: _Entry, day: date) -> UUID:
    """The bill that the entry belongs on after the change. It and the present one are locked, and neither is approved."""
    if day == entry.date and entry.bill_id is not None:
        await _lock_open_bill(conn, entry)
        return entry.bill_id
    key = BillKey(entry.user_id, entry.customer_id, entry.pillar_id, day)
    bill_ids, statuses = await open_bills(conn, [key], beside=[entry.bill_id] if entry.bill_id else [])
    _refuse_locked(entry, statuses)
    return bill_ids[key]


async def _lock_open_bill(conn: Connection, entry: _Entry) -> None:
    if entry.bill_id is not None:
        _refuse_locked(entry, await lock_bills(conn, [entry.bill_id]))


def _refuse_locked(entry: _Entry, statuses: dict[UUID, str]) -> None:
    if entry.bill_id is not None and statuses.get(entry.bill_id) == "approved":
        raise Conflict("The entry is on an approved time bill; an admin can reopen that.", timeBillId=str(entry.bill_id))


async def _refuse_overlap(conn: Connection, entry_id: UUID, user_id: UUID, start: datetime, end: datetime) -> None:
    """Looks as far back as an entry by hand can reach, and at the very few that are longer by an index of their own."""
    overlaps = "user_id = %(user)s AND start_time < %(end)s AND end_time > %(start)s AND id <> %(id)s AND deleted_at IS NULL"
    cursor = await conn.execute(
        f"""
        SELECT id, start_time FROM time_entries WHERE {overlaps} AND start_time >= %(earliest)s
        UNION
        SELECT id, start_time FROM time_entries WHERE {overlaps} AND duration > 2678400
        ORDER BY start_time LIMIT 20
        """.encode(),
        {"user": user_id, "start": start, "end": end, "id": entry_id, "earliest": start - LONGEST},
    )
    if overlapping := [str(row[0]) for row in await cursor.fetchall()]:
        raise Conflict(
            "The new times overlap other entries of the same user; allowOverlap: true accepts that.", overlaps=overlapping
        )


async def _bills_changed(conn: Connection, bill_ids: Iterable[UUID], *, by: User, reopen: bool) -> None:
    """Marks locked bills whose entries changed, and promises to sum them again."""
    changed = tuple(bill_ids)
    await mark_stale(conn, changed)
    if reopen:
        await reopen_rejected(conn, changed)
    await ledger.put(conn, RecomputeBills(bill_ids=changed), created_by=by.id)


async def _current(conn: Connection, entry_id: UUID) -> dict[str, Any]:
    cursor = await conn.execute(
        f"SELECT {json_object(TimeEntry, 'e')} FROM time_entries e WHERE e.id = %s".encode(), (entry_id,)
    )
    row = await cursor.fetchone()
    assert row is not None
    current: dict[str, Any] = row[0]
    return current

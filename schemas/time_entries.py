"""Time entries: one stretch of work each, on exactly one bill of its user, customer, pillar and day."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from schemas import ledger
from schemas.base import Body, Flag, Row, Second, Sql, Version, Whole, json_object
from schemas.billing import BillKey, bill_for, lock_bills, lock_user, mark_stale, open_bill, sum_again
from schemas.customers import of_customer
from schemas.database import Connection
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.listing import Order, Page, Selection
from schemas.messages import RecomputeBills, StopTimer
from schemas.users import User

# an entry that a person writes; a timer may have run for longer, since a stop is never refused
LONGEST = timedelta(days=31)


class TimeEntry(Row):
    """A time entry, as answered."""

    id: UUID
    task_id: UUID
    user_id: UUID
    customer_id: UUID
    pillar_id: UUID
    start_time: Second
    end_time: Second
    duration: Annotated[int, Field(description="whole seconds, never rounded")]
    notes: str
    time_bill_id: Annotated[UUID | None, Sql("{t}.bill_id")]
    locked: Annotated[
        bool,
        Field(description="on an approved bill: it cannot be changed until an admin reopens that"),
        Sql("coalesce((SELECT bill.status = 'approved' FROM time_bills bill WHERE bill.id = {t}.bill_id), false)"),
    ]
    flags: Annotated[list[str], Field(description="`long`: the timer ran for longer than a working day")]
    created_at: datetime
    updated_at: datetime
    version: int


class EnrichedTimeEntry(TimeEntry):
    """A time entry with the names behind its ids (`enrich=true`)."""

    task_title: Annotated[str, Sql("(SELECT task.title FROM tasks task WHERE task.id = {t}.task_id)")]
    customer_name: Annotated[str, Sql("(SELECT customer.name FROM customers customer WHERE customer.id = {t}.customer_id)")]
    pillar_name: Annotated[str, Sql("(SELECT pillar.name FROM pillars pillar WHERE pillar.id = {t}.pillar_id)")]
    user_name: Annotated[str, Sql("(SELECT person.name FROM users person WHERE person.id = {t}.user_id)")]
    user_email: Annotated[str, Sql("(SELECT person.email FROM users person WHERE person.id = {t}.user_id)")]


class TimeEntryChange(Body):
    """New times. startTime or endTime alone keeps the other; duration alone keeps startTime; all three must agree."""

    start_time: Annotated[Second | None, Field(examples=["2026-11-23T09:30:00Z"])] = None
    end_time: Annotated[Second | None, Field(examples=["2026-11-23T11:00:00Z"])] = None
    duration: Annotated[Whole, Field(ge=0, le=int(LONGEST.total_seconds()), description="whole seconds")] | None = None
    allow_overlap: Annotated[Flag, Field(description="accept that the entry overlaps others of the same user")] = False
    version: Version | None = None


@dataclass(frozen=True)
class EntryFilter:
    """Which entries a list asks for. Dates are inclusive days in `zone`, the firm's; `customer` is an id or an exact name."""

    zone: str
    task_id: UUID | None = None
    user_id: UUID | None = None
    time_bill_id: UUID | None = None
    customer: str | None = None
    start_date: date | None = None
    end_date: date | None = None


def _visible_to(user: User, *, enrich: bool = False) -> Selection:
    model = EnrichedTimeEntry if enrich else TimeEntry
    selection = Selection("time entry", model, "time_entries", "e", Order("start_time", "startTime", "timestamptz"))
    selection.where("e.deleted_at IS NULL")
    if not user.is_internal:
        selection.where(
            """e.customer_id = %(own_customer)s
               AND EXISTS (SELECT FROM time_bills b WHERE b.id = e.bill_id AND b.status = 'approved')""",
            own_customer=user.customer_id,
        )
    return selection


async def get(conn: Connection, entry_id: UUID, *, user: User) -> bytes:
    """The entry as JSON. Raises NotFound when there is none that this user may see."""
    return await _visible_to(user).one(conn, entry_id)


async def list_page(conn: Connection, page: Page, chosen: EntryFilter, *, user: User, enrich: bool = False) -> bytes:
    """The entries this user may see, newest start first."""
    selection = _visible_to(user, enrich=enrich)
    if chosen.task_id is not None:
        selection.where("e.task_id = %(task)s", task=chosen.task_id)
    if chosen.user_id is not None:
        selection.where("e.user_id = %(user)s", user=chosen.user_id)
    if chosen.time_bill_id is not None:
        selection.where("e.bill_id = %(bill)s", bill=chosen.time_bill_id)
    if chosen.customer is not None:
        condition, customer = of_customer("e", chosen.customer)
        selection.where(condition, customer=customer)
    if chosen.start_date is not None:
        selection.where(
            "e.start_time >= %(from)s::date::timestamp AT TIME ZONE %(zone)s", zone=chosen.zone, **{"from": chosen.start_date}
        )
    if chosen.end_date is not None:
        selection.where(
            "e.start_time < (%(to)s::date + 1)::timestamp AT TIME ZONE %(zone)s", zone=chosen.zone, to=chosen.end_date
        )
    return await selection.page(conn, page)


async def add_stopped(conn: Connection, stop: StopTimer, *, zone: str, long_seconds: float) -> None:
    """Makes a stopped timer a time entry on the open bill of its key, and corrects that bill's sum."""
    cursor = await conn.execute(
        """
        SELECT customer_id, pillar_id, (%(start)s AT TIME ZONE %(zone)s)::date FROM tasks WHERE id = %(task)s
        """,
        {"task": stop.task_id, "start": stop.start_time, "zone": zone},
    )
    row = await cursor.fetchone()
    assert row is not None, "a task is never removed, only marked as deleted"
    key = BillKey(stop.user_id, row[0], row[1], row[2])
    bill_id = await open_bill(conn, key)
    long = (stop.end_time - stop.start_time).total_seconds() > long_seconds
    await conn.execute(
        """
        INSERT INTO time_entries
            (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, notes, flags, bill_id)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            stop.entry_id, stop.task_id, key.user_id, key.customer_id, key.pillar_id, stop.start_time, stop.end_time, key.date,
            stop.notes, ["long"] if long else [], bill_id,
        ),
    )  # fmt: skip
    await sum_again(conn, [bill_id])


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
    version: int


async def change(conn: Connection, entry_id: UUID, wanted: TimeEntryChange, *, by: User, zone: str) -> TimeEntry:
    """Sets new times, moves the entry to its new day's bill, and promises to sum both bills again.

    Raises Invalid for times that do not agree, Conflict for a stale version, an overlap or a locked entry, Forbidden for
    whoever is neither the owner nor an admin.
    """
    entry = await _lock_entry(conn, entry_id, by=by)
    if wanted.version is not None and wanted.version != entry.version:
        raise Conflict("The entry has changed since you read it.", current=await _current(conn, entry_id))
    start, end = _new_times(entry, wanted)
    cursor = await conn.execute("SELECT (%s::timestamptz AT TIME ZONE %s)::date", (start, zone))
    row = await cursor.fetchone()
    assert row is not None
    day: date = row[0]
    bill_id = await _bill_for_change(conn, entry_id, entry, day)
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
    bill_ids = tuple({bill_id} | ({entry.bill_id} if entry.bill_id else set()))
    await mark_stale(conn, bill_ids)
    if by.id == entry.user_id:
        await _reopen_rejected(conn, bill_ids)
    await ledger.put(conn, RecomputeBills(bill_ids=bill_ids), created_by=by.id)
    return TimeEntry.from_json(changed[0])


async def _lock_entry(conn: Connection, entry_id: UUID, *, by: User) -> _Entry:
    """The entry, with its owner's row and its own locked, for who may change it."""
    cursor = await conn.execute("SELECT user_id FROM time_entries WHERE id = %s AND deleted_at IS NULL", (entry_id,))
    owner = await cursor.fetchone()
    if owner is None:
        raise NotFound("There is no such time entry.")
    if not (by.is_admin or by.id == owner[0]):
        raise Forbidden("Only its owner or an admin can change a time entry.")
    await lock_user(conn, owner[0])
    cursor = await conn.execute(
        """
        SELECT user_id, customer_id, pillar_id, start_time, end_time, date, bill_id, version
        FROM time_entries WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
        """,
        (entry_id,),
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("There is no such time entry.")
    return _Entry(*row)


def _new_times(entry: _Entry, wanted: TimeEntryChange) -> tuple[datetime, datetime]:
    start, end, seconds = wanted.start_time, wanted.end_time, wanted.duration
    if start is None and end is None and seconds is None:
        raise Invalid("", "Send at least one of startTime, endTime and duration.")
    if seconds is None:
        start, end = start or entry.start_time, end or entry.end_time
    elif end is None:
        start = start or entry.start_time
        end = start + timedelta(seconds=seconds)
    else:
        start = start or end - timedelta(seconds=seconds)
        if end - start != timedelta(seconds=seconds):
            raise Invalid("duration", "startTime, endTime and duration do not agree; leave one of them out.")
    if end < start:
        raise Invalid("endTime", "The entry would end before it starts.")
    if end - start > LONGEST and (start, end) != (entry.start_time, entry.end_time):
        raise Invalid("endTime", f"An entry lasts {LONGEST.days} days at most; make several of it.")
    return start, end


async def _bill_for_change(conn: Connection, entry_id: UUID, entry: _Entry, day: date) -> UUID:
    """The bill that the entry belongs on after the change. It and the present one are locked, and neither is approved."""
    key = BillKey(entry.user_id, entry.customer_id, entry.pillar_id, day)
    while True:
        stays = day == entry.date and entry.bill_id is not None
        target = entry.bill_id if stays and entry.bill_id is not None else await bill_for(conn, key)
        statuses = await lock_bills(conn, {target} | ({entry.bill_id} if entry.bill_id else set()))
        if entry.bill_id is not None and statuses.get(entry.bill_id) == "approved":
            raise Conflict("The entry is on an approved time bill; an admin can reopen that.", timeBillId=str(entry.bill_id))
        if statuses.get(target, "approved") != "approved":
            return target
        # approved, or absorbed by a reopened one, between look-up and lock: there is another open one now, or none yet


async def _refuse_overlap(conn: Connection, entry_id: UUID, user_id: UUID, start: datetime, end: datetime) -> None:
    cursor = await conn.execute(
        """
        SELECT id FROM time_entries
        WHERE user_id = %s AND start_time < %s AND end_time > %s AND id <> %s AND deleted_at IS NULL
        ORDER BY start_time LIMIT 20
        """,
        (user_id, end, start, entry_id),
    )
    if overlapping := [str(row[0]) for row in await cursor.fetchall()]:
        raise Conflict(
            "The new times overlap other entries of the same user; allowOverlap: true accepts that.", overlaps=overlapping
        )


async def _reopen_rejected(conn: Connection, bill_ids: tuple[UUID, ...]) -> None:
    await conn.execute(
        "UPDATE time_bills SET status = 'pending', rejection_note = NULL WHERE id = ANY(%s) AND status = 'rejected'",
        (list(bill_ids),),
    )


async def _current(conn: Connection, entry_id: UUID) -> dict[str, Any]:
    cursor = await conn.execute(
        f"SELECT {json_object(TimeEntry, 'e')} FROM time_entries e WHERE e.id = %s".encode(), (entry_id,)
    )
    row = await cursor.fetchone()
    assert row is not None
    current: dict[str, Any] = row[0]
    return current

"""Time entries: one stretch of work each, on exactly one bill of its user, customer, pillar and day. schemas/editing.py is what
people do to them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field

from schemas.base import Lookup, Row, Second, Sql
from schemas.billing import BillKey, open_bill, sum_again
from schemas.customers import narrow_to
from schemas.database import Connection
from schemas.listing import Order, Page, Selection
from schemas.messages import StopTimer
from schemas.users import User


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
        Lookup("time_bills", "bill_id", "{j}.status = 'approved'", default="false"),
    ]
    flags: Annotated[list[str], Field(description="`long`: the timer ran for longer than a working day")]
    created_at: datetime
    updated_at: datetime
    version: int


class EnrichedTimeEntry(TimeEntry):
    """A time entry with the names behind its ids (`enrich=true`)."""

    task_title: Annotated[
        str | None,
        Field(description="null for a customer's user once the task is another customer's"),
        Lookup("tasks", "task_id", "{j}.title"),
    ]
    customer_name: Annotated[str, Lookup("customers", "customer_id", "{j}.name")]
    pillar_name: Annotated[str, Lookup("pillars", "pillar_id", "{j}.name")]
    user_name: Annotated[str, Lookup("users", "user_id", "{j}.name")]
    user_email: Annotated[str, Lookup("users", "user_id", "{j}.email")]


class EnrichedForCustomer(EnrichedTimeEntry):
    """The same for a customer's user, who must not read of another customer's task that it was theirs once."""

    task_title: Annotated[
        str | None,
        Lookup("tasks", "task_id", "CASE WHEN {j}.customer_id = {t}.customer_id THEN {j}.title END"),
    ]


# Messages that promise the entry `id`, and are not done; by state, so that each finds its index.
UNFINISHED_STOPS = """
    SELECT id FROM messages
    WHERE state = 'ready' AND queue = 'timers' AND actor = 'stop_timer' AND body->>'entry_id' = %(id)s::uuid::text
    UNION ALL SELECT id FROM messages
    WHERE state = 'sent' AND queue = 'timers' AND actor = 'stop_timer' AND body->>'entry_id' = %(id)s::uuid::text
    UNION ALL SELECT id FROM messages
    WHERE state IN ('dead', 'discarded') AND actor = 'stop_timer' AND body->>'entry_id' = %(id)s::uuid::text
"""


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
    enriched = EnrichedTimeEntry if user.is_internal else EnrichedForCustomer
    model = enriched if enrich else TimeEntry
    selection = Selection("time entry", model, "time_entries", "e", Order("start_time", "timestamptz"))
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
        await narrow_to(conn, selection, chosen.customer)
    if chosen.start_date is not None and (begins := _begin_of(chosen.start_date, 0, chosen.zone)) is not None:
        selection.where("e.start_time >= %(begins)s", begins=begins)
    if chosen.end_date is not None and (ends := _begin_of(chosen.end_date, 1, chosen.zone)) is not None:
        selection.where("e.start_time < %(ends)s", ends=ends)
    return await selection.page(conn, page)


def _begin_of(day: date, later: int, zone: str) -> datetime | None:
    """When the day, or one so many days later, begins in that zone; None past the ends of the calendar. Where midnight comes
    twice, as clocks are put back, it is the first one; Postgres would take the second."""
    try:
        return datetime.combine(day + timedelta(days=later), time(), ZoneInfo(zone)).astimezone(UTC)
    except OverflowError:
        return None


async def add_stopped(conn: Connection, stop: StopTimer, *, zone: str, long_seconds: float) -> None:
    """Makes a stopped timer a time entry on the open bill of its key, and corrects that bill's sum."""
    cursor = await conn.execute(
        """
        SELECT customer_id, pillar_id, (%(start)s AT TIME ZONE %(zone)s)::date FROM tasks WHERE id = %(task)s
        FOR SHARE  -- a task that moves waits, and takes this entry along
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

"""Time entries. Each is one period of work, on exactly one bill, which is that of its user, customer, pillar and day.

schemas/hours/entry_creation.py logs time by hand; schemas/hours/entry_changes.py changes and deletes entries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field

from schemas.base import Lookup, Row, Second, Sql
from schemas.customers.customers import filter_by_customer
from schemas.errors import Conflict, Forbidden
from schemas.identity.users import User
from schemas.messages import MODELS, StopTimer
from schemas.postgres.connection import Connection
from schemas.postgres.functions import installed
from schemas.postgres.listing import Order, Page, Selection
from schemas.postgres.versioned_table import VersionedTable


class TimeEntry(Row):
    """A time entry."""

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
        Field(description="on an approved bill: it cannot be changed until an admin reopens the bill"),
        Lookup("time_bills", "bill_id", "{j}.status = 'approved'", default="false"),
    ]
    flags: Annotated[
        list[str],
        Field(
            description="`long`: longer than a working day; `overlap`: shares time with another entry of the same user, of any "
            "customer. Both are reasons to look before approving. Customers' users do not see `overlap`"
        ),
        Sql("array_remove({t}.flags || CASE WHEN {t}.overlap THEN 'overlap' END, NULL)"),
    ]
    created_at: datetime
    updated_at: datetime
    version: int


class EnrichedTimeEntry(TimeEntry):
    """A time entry with the names of what its ids refer to (`enrich=true`)."""

    task_title: Annotated[
        str | None,
        Field(description="null for a customer's user when the task has moved to another customer"),
        Lookup("tasks", "task_id", "{j}.title"),
    ]
    customer_name: Annotated[str, Lookup("customers", "customer_id", "{j}.name")]
    pillar_name: Annotated[str, Lookup("pillars", "pillar_id", "{j}.name")]
    user_name: Annotated[str, Lookup("users", "user_id", "{j}.name")]
    user_email: Annotated[str, Lookup("users", "user_id", "{j}.email")]


# without `overlap`: the other entry may be another customer's
_FlagsForCustomer = Annotated[list[str], Sql("{t}.flags")]


class TimeEntryForCustomer(TimeEntry):
    """A time entry for a customer's user."""

    flags: _FlagsForCustomer


class EnrichedForCustomer(EnrichedTimeEntry):
    """The same with names: the title of a task that has moved to another customer is hidden."""

    flags: _FlagsForCustomer

    task_title: Annotated[
        str | None,
        Lookup("tasks", "task_id", "CASE WHEN {j}.customer_id = {t}.customer_id THEN {j}.title END"),
    ]


class _TimeEntries(VersionedTable[TimeEntry]):
    def id_is_taken(self) -> Conflict:
        return Conflict("Another time entry, or a timer whose entry does not exist yet, has this id; choose a new one.")


ENTRIES = _TimeEntries("time entry", TimeEntry, "time_entries")

# Stops that have not created the entry `id` yet; one SELECT for each state, so that each can use the index of that state. The
# state `calling` is absent, because `stop_timer` makes no external call.
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
    """The filters of a list of entries. Dates are inclusive days in the time zone `zone`. `customer` is an id, or an exact name
    in any case."""

    zone: str
    task_id: UUID | None = None
    user_id: UUID | None = None
    overlap: bool | None = None
    time_bill_id: UUID | None = None
    customer: str | None = None
    start_date: date | None = None
    end_date: date | None = None


def _visible_to(user: User, *, enrich: bool = False) -> Selection:
    if user.is_internal:
        model: type[TimeEntry] = EnrichedTimeEntry if enrich else TimeEntry
    else:
        model = EnrichedForCustomer if enrich else TimeEntryForCustomer
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


async def list_page(conn: Connection, page: Page, filters: EntryFilter, *, user: User, enrich: bool = False) -> bytes:
    """The entries this user may see, newest start first."""
    selection = _visible_to(user, enrich=enrich)
    if filters.task_id is not None:
        selection.where("e.task_id = %(task)s", task=filters.task_id)
    if filters.user_id is not None:
        selection.where("e.user_id = %(user)s", user=filters.user_id)
    if filters.overlap is not None:
        if not user.is_internal:
            raise Forbidden("Only the firm's own people see which entries overlap.")
        selection.where("e.overlap" if filters.overlap else "NOT e.overlap")
    if filters.time_bill_id is not None:
        selection.where("e.bill_id = %(bill)s", bill=filters.time_bill_id)
    if filters.customer is not None:
        await filter_by_customer(conn, selection, filters.customer)
    if filters.start_date is not None and (start := _start_of_day(filters.start_date, filters.zone)) is not None:
        selection.where("e.start_time >= %(start)s", start=start)
    if filters.end_date is not None and (end := _start_of_day(filters.end_date, filters.zone, days_later=1)) is not None:
        selection.where("e.start_time < %(end)s", end=end)
    return await selection.page(conn, page)


def _start_of_day(day: date, zone: str, *, days_later: int = 0) -> datetime | None:
    """When that day, or the day `days_later`, starts in the time zone. None: it is past the end of the calendar.

    If clocks are set back across midnight, it is the first of the two midnights. Postgres would take the second one.
    """
    try:
        return datetime.combine(day + timedelta(days=days_later), time(), ZoneInfo(zone)).astimezone(UTC)
    except OverflowError:
        return None


async def create_from_stop(conn: Connection, stop: StopTimer, *, zone: str) -> None:
    """Creates the time entry of a stopped timer on the open bill of its key, and recalculates that bill's sum."""
    await conn.execute(f"SELECT {installed('create_entry_of_stop')}(%s, %s)", (stop.model_dump_json(), zone))


async def handle_stop(conn: Connection, message_id: UUID, delivery_number: int, *, queue: str, zone: str) -> bool:
    """Does the same as `create_from_stop` for a delivery of that message, and marks the message as done. It is one statement,
    which is a transaction of its own.

    False: it has done nothing, because the delivery is unusual. It is a duplicate, or is suspected to be poison, or its body
    does not have exactly the fields of StopTimer.
    """
    fields = list(MODELS[StopTimer.actor].model_fields)  # of the model that the body would be validated with
    handled: bool = await conn.value(
        f"SELECT {installed('handle_stop')}(%s, %s, %s, %s, %s)",
        (message_id, delivery_number, queue, fields, zone),
    )
    return handled


async def handle_stops(conn: Connection, references: Mapping[UUID, int], *, queue: str, zone: str) -> set[UUID]:
    """Does the same as `handle_stop` for several messages, in one transaction. `references`: the number of each message's
    delivery.

    Returns the ids of those that it has handled. It has done nothing about the others, because their deliveries are unusual,
    they failed, or another transaction has locked their rows.
    """
    fields = list(MODELS[StopTimer.actor].model_fields)
    handled: list[UUID] = await conn.value(
        f"SELECT {installed('handle_stops')}(%s, %s, %s, %s, %s)",
        (list(references), list(references.values()), queue, fields, zone),
    )
    return set(handled)

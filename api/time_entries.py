"""Time entries."""

from datetime import date
from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter

from api.answers import (
    Cursor,
    CustomerId,
    CustomerName,
    Enrich,
    Limit,
    Listed,
    SeenVersion,
    UserId,
    customer_filter,
    json_answer,
)
from api.auth import internal
from api.dependencies import TheDatabase, TheSettings, TheUser
from schemas import editing, time_entries
from schemas.editing import NewTimeEntry, NotesChange, TimeEntryChange
from schemas.errors import Invalid
from schemas.listing import Page
from schemas.time_entries import EnrichedTimeEntry, EntryFilter, TimeEntry

StartDate = Annotated[
    date | None, QueryParameter(name="startDate", description="First day, inclusive, in the firm's time zone")
]
EndDate = Annotated[date | None, QueryParameter(name="endDate", description="Last day, inclusive, in the firm's time zone")]


def check_days(start_date: date | None, end_date: date | None) -> None:
    """Raises Invalid for a range that ends before it begins."""
    if start_date is not None and end_date is not None and end_date < start_date:
        raise Invalid("endDate", "endDate lies before startDate.")


@get("/api/time-entries", summary="List time entries")
async def list_time_entries(
    database: TheDatabase,
    user: TheUser,
    settings: TheSettings,
    task_id: Annotated[UUID | None, QueryParameter(name="taskId", description="Only this task's")] = None,
    user_id: UserId = None,
    time_bill_id: Annotated[UUID | None, QueryParameter(name="timeBillId", description="Only this bill's")] = None,
    customer: CustomerName = None,
    customer_id: CustomerId = None,
    start_date: StartDate = None,
    end_date: EndDate = None,
    enrich: Enrich = False,
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> Response[Listed[TimeEntry] | Listed[EnrichedTimeEntry]]:
    """Time entries, latest start first. A customer's users see those on their own customer's approved bills."""
    check_days(start_date, end_date)
    chosen = EntryFilter(
        zone=settings.stint_timezone,
        task_id=task_id,
        user_id=user_id,
        time_bill_id=time_bill_id,
        customer=customer_filter(customer, customer_id),
        start_date=start_date,
        end_date=end_date,
    )
    async with database.connection() as conn:
        return json_answer(await time_entries.list_page(conn, Page(limit, page_cursor), chosen, user=user, enrich=enrich))


@get("/api/time-entries/{entry_id:uuid}", summary="Read a time entry")
async def get_time_entry(database: TheDatabase, user: TheUser, entry_id: FromPath[UUID]) -> Response[TimeEntry]:
    """One time entry."""
    async with database.connection() as conn:
        return json_answer(await time_entries.get(conn, entry_id, user=user))


@post("/api/time-entries", summary="Log time by hand", guards=[internal])
async def create_time_entry(
    database: TheDatabase, user: TheUser, settings: TheSettings, data: JSONBody[NewTimeEntry]
) -> TimeEntry:
    """Logs time for yourself, or as an admin for anybody. Its bill is summed at once after. Refused with 409: overlaps with the
    user's other entries (`allowOverlap` accepts them), an archived task. With an `id` of your own, repeating the request gives
    the same answer."""
    async with database.transaction() as conn:
        return await editing.create(conn, data, by=user, zone=settings.stint_timezone)


@patch("/api/time-entries/{entry_id:uuid}", summary="Change a time entry's times", guards=[internal])
async def change_time_entry(
    database: TheDatabase,
    user: TheUser,
    settings: TheSettings,
    entry_id: FromPath[UUID],
    data: JSONBody[TimeEntryChange],
) -> TimeEntry:
    """Sets new times, for its owner or an admin. The bills that it leaves and joins are summed again at once after. Refused
    with 409: overlaps with the user's other entries (`allowOverlap` accepts them), an approved bill, a stale `version`."""
    async with database.transaction() as conn:
        return await editing.change(conn, entry_id, data, by=user, zone=settings.stint_timezone)


@post("/api/time-entries/{entry_id:uuid}/notes", summary="Write notes", guards=[internal], status_code=200)
async def write_notes(database: TheDatabase, user: TheUser, entry_id: FromPath[UUID], data: JSONBody[NotesChange]) -> TimeEntry:
    """`notes` replaces the entry's notes, `append` adds a line; for its owner or an admin. An entry on an approved bill is
    locked: 409."""
    async with database.transaction() as conn:
        return await editing.write_notes(conn, entry_id, data, by=user)


@delete("/api/time-entries/{entry_id:uuid}", summary="Delete a time entry", guards=[internal])
async def delete_time_entry(
    database: TheDatabase,
    user: TheUser,
    entry_id: FromPath[UUID],
    version: SeenVersion = None,
) -> None:
    """Deletes the entry, for its owner or an admin; its bill is summed again at once after. An entry on an approved bill is
    locked: 409."""
    async with database.transaction() as conn:
        await editing.delete(conn, entry_id, version=version, by=user)

"""Time entries."""

from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter

from api.auth.auth import require_internal
from api.dependencies import ApiRequest
from api.http.responses import (
    Cursor,
    CustomerId,
    CustomerName,
    EndDate,
    Enrich,
    Limit,
    Listed,
    ListQuery,
    SeenVersion,
    StartDate,
    UserId,
    created,
    customer_filter,
    json_response,
    user_filter,
)
from schemas.hours import entry_changes, entry_creation, time_entries
from schemas.hours.entry_changes import NotesChange, TimeEntryChange
from schemas.hours.entry_creation import NewTimeEntry
from schemas.hours.entry_rules import EntryRules
from schemas.hours.firm_days import check_days
from schemas.hours.time_entries import EnrichedTimeEntry, EntryFilter, TimeEntry
from schemas.postgres.listing import Page


def get_list_query(
    request: ApiRequest,
    task_id: Annotated[UUID | None, QueryParameter(name="taskId", description="Only this task's")] = None,
    user_id: UserId = None,
    overlap: Annotated[
        bool | None,
        QueryParameter(
            name="overlap",
            description="Only entries with, or only those without, the flag `overlap`; for the firm's own people",
        ),
    ] = None,
    time_bill_id: Annotated[UUID | None, QueryParameter(name="timeBillId", description="Only this bill's")] = None,
    customer: CustomerName = None,
    customer_id: CustomerId = None,
    start_date: StartDate = None,
    end_date: EndDate = None,
    enrich: Enrich = False,
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> ListQuery[EntryFilter]:
    """The query of the list. Raises Invalid for a range of days that ends before it starts."""
    check_days(start_date, end_date)
    filters = EntryFilter(
        zone=request.settings.stint_timezone,
        task_id=task_id,
        user_id=user_filter(user_id),
        overlap=overlap,
        time_bill_id=time_bill_id,
        customer=customer_filter(customer, customer_id),
        start_date=start_date,
        end_date=end_date,
    )
    return ListQuery(filters, Page(limit, page_cursor), enrich)


@get(
    "/api/time-entries",
    summary="List time entries",
    dependencies={"list_query": Provide(get_list_query, sync_to_thread=False)},
)
async def list_time_entries(
    request: ApiRequest, list_query: NamedDependency[ListQuery[EntryFilter]]
) -> Response[Listed[EnrichedTimeEntry | TimeEntry]]:
    """Time entries, latest start first. A customer's users see the entries on their own customer's approved bills."""
    async with request.database.connection() as conn:
        return json_response(
            await time_entries.list_page(conn, list_query.page, list_query.filters, user=request.user, enrich=list_query.enrich)
        )


@get("/api/time-entries/{entry_id:str}", summary="Read a time entry")
async def get_time_entry(request: ApiRequest, entry_id: FromPath[UUID]) -> Response[TimeEntry]:
    """One time entry."""
    async with request.database.connection() as conn:
        return json_response(await time_entries.get(conn, entry_id, user=request.user))


@post("/api/time-entries", summary="Log time by hand", guards=[require_internal])
async def create_time_entry(request: ApiRequest, data: JSONBody[NewTimeEntry]) -> Response[TimeEntry]:
    """Logs time for yourself; as an admin, for any consultant. The sum of the bill is recalculated right after the answer. If
    you choose the `id`, the request can be repeated safely.

    409 for overlaps with the user's other entries (`allowOverlap` accepts them), and for an archived task."""
    async with request.database.transaction() as conn:
        entry = await entry_creation.create(conn, data, by=request.user, rules=EntryRules.of(request.settings))
    return created(entry, f"/api/time-entries/{entry.id}")


@patch("/api/time-entries/{entry_id:str}", summary="Change a time entry's task or times", guards=[require_internal])
async def change_time_entry(request: ApiRequest, entry_id: FromPath[UUID], data: JSONBody[TimeEntryChange]) -> TimeEntry:
    """Gives the entry to another task, sets new times, or both. For the owner or an admin. If the customer, the pillar or the
    day becomes another one, the entry moves to another bill. The sums of both bills are recalculated right after the answer.

    409 for new times that overlap the user's other entries (`allowOverlap` accepts them), for an archived task, for an approved
    bill, and for a stale `version`."""
    async with request.database.transaction() as conn:
        return await entry_changes.change(conn, entry_id, data, by=request.user, rules=EntryRules.of(request.settings))


@post("/api/time-entries/{entry_id:str}/notes", summary="Write notes", guards=[require_internal], status_code=200)
async def write_notes(request: ApiRequest, entry_id: FromPath[UUID], data: JSONBody[NotesChange]) -> TimeEntry:
    """`notes` replaces the entry's notes. `append` adds a line to them. For the owner or an admin. 409 for an entry on an
    approved bill."""
    async with request.database.transaction() as conn:
        return await entry_changes.write_notes(conn, entry_id, data, by=request.user)


@delete("/api/time-entries/{entry_id:str}", summary="Delete a time entry", guards=[require_internal])
async def delete_time_entry(request: ApiRequest, entry_id: FromPath[UUID], version: SeenVersion = None) -> None:
    """Deletes the entry. For the owner or an admin. The sum of the bill is recalculated right after the answer. 409 for an
    entry on an approved bill."""
    async with request.database.transaction() as conn:
        await entry_changes.delete(conn, entry_id, version=version, by=request.user)

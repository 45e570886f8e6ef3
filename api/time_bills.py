"""Time bills."""

from datetime import date
from typing import Annotated
from uuid import UUID

from litestar import Response, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter

from api.answers import Cursor, CustomerId, CustomerName, Enrich, Limit, Listed, UserId, customer_filter, json_answer
from api.auth import admin, internal
from api.dependencies import TheDatabase, TheSettings, TheUser
from api.time_entries import check_days
from schemas import approval, batch_approval, recompute, time_bills
from schemas.approval import TimeBillChange
from schemas.batch_approval import BatchAnswer, BatchApproval
from schemas.errors import Conflict
from schemas.listing import Page
from schemas.recompute import RecomputeReport, RecomputeScope
from schemas.time_bills import BillFilter, EnrichedTimeBill, Status, TimeBill


@get("/api/time-bills", summary="List time bills")
async def list_time_bills(
    database: TheDatabase,
    user: TheUser,
    user_id: UserId = None,
    customer: CustomerName = None,
    customer_id: CustomerId = None,
    bill_status: Annotated[Status | None, QueryParameter(name="status", description="Only bills in this state")] = None,
    start_date: Annotated[date | None, QueryParameter(name="startDate", description="First day, inclusive")] = None,
    end_date: Annotated[date | None, QueryParameter(name="endDate", description="Last day, inclusive")] = None,
    enrich: Enrich = False,
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> Response[Listed[TimeBill] | Listed[EnrichedTimeBill]]:
    """Time bills, latest day first. A customer's users see their own customer's approved ones."""
    check_days(start_date, end_date)
    chosen = BillFilter(
        user_id=user_id,
        customer=customer_filter(customer, customer_id),
        status=bill_status,
        start_date=start_date,
        end_date=end_date,
    )
    async with database.connection() as conn:
        return json_answer(await time_bills.list_page(conn, Page(limit, page_cursor), chosen, user=user, enrich=enrich))


@get("/api/time-bills/{bill_id:uuid}", summary="Read a time bill")
async def get_time_bill(database: TheDatabase, user: TheUser, bill_id: FromPath[UUID]) -> Response[TimeBill]:
    """One time bill."""
    async with database.connection() as conn:
        return json_answer(await time_bills.get(conn, bill_id, user=user))


@patch("/api/time-bills/{bill_id:uuid}", summary="Write the memo, approve, reject or reopen", guards=[internal])
async def change_time_bill(
    database: TheDatabase,
    user: TheUser,
    settings: TheSettings,
    bill_id: FromPath[UUID],
    data: JSONBody[TimeBillChange],
) -> TimeBill:
    """The memo is its owner's to write; approving, rejecting and reopening are for admins; if one of what is asked for is
    not allowed, nothing changes. What the bill's state does not allow, or a stale `version`, is 409 with `current`."""
    async with database.transaction() as conn:
        changed = await approval.change(conn, bill_id, data, by=user, zone=settings.stint_timezone)
    if isinstance(changed, Conflict):  # committed first: what it shows of the bill is so
        raise changed
    return changed


@post("/api/time-bills/approve-all", summary="Approve many", guards=[admin], status_code=200)
async def approve_all(
    database: TheDatabase, user: TheUser, settings: TheSettings, data: JSONBody[BatchApproval]
) -> BatchAnswer:
    """Approves up to 1,000 bills in one transaction: either `bills`, each in the version that was seen, or the pending ones of
    a `filter` as the list with that `syncTimestamp` showed them. What has changed since, or cannot be approved, is skipped,
    with the reason and the bill as it is now; never is a bill approved unseen."""
    async with database.transaction() as conn:
        return await batch_approval.approve_all(conn, data, by=user, zone=settings.stint_timezone)


@post("/api/time-bills/recompute", summary="Recompute bills", guards=[admin], status_code=202)
async def start_recompute(
    database: TheDatabase, user: TheUser, data: JSONBody[RecomputeScope | None] = None
) -> Response[RecomputeReport]:
    """Gives bills to entries that have none, and corrects the sums of open bills that differ from their entries: of all, or of
    some days, one customer, one user. `dryRun` finds out what that would change. Answers with a job to follow."""
    async with database.transaction() as conn:
        job_id = await recompute.begin(conn, data or RecomputeScope(), by=user.id)
        return json_answer(await recompute.read(conn, job_id), status=202)


@get("/api/time-bills/recompute/{job_id:uuid}", summary="Follow a recompute job", guards=[admin])
async def get_recompute(
    database: TheDatabase, job_id: FromPath[UUID], limit: Limit = 200, page_cursor: Cursor = None
) -> Response[RecomputeReport]:
    """How far the job is, what it changed in all, and a page of its changes, in the order in which they were made."""
    async with database.connection() as conn:
        return json_answer(await recompute.read(conn, job_id, limit=limit, after=page_cursor))

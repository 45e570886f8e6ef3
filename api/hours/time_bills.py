"""Time bills."""

from typing import Annotated
from uuid import UUID

from litestar import Response, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter

from api.auth.auth import require_admin, require_internal
from api.dependencies import ApiRequest, ThePage
from api.http.limits.json_text import JSON_BOUNDS, Bounds
from api.http.responses import (
    Cursor,
    CustomerId,
    CustomerName,
    EndDate,
    Enrich,
    Limit,
    Listed,
    ListQuery,
    StartDate,
    UserId,
    customer_filter,
    json_response,
    user_filter,
)
from schemas.errors import Conflict, NotFound
from schemas.hours import batch_approval, bill_approval, time_bills
from schemas.hours.batch_approval import MAX_BILLS, BatchAnswer, BatchApproval
from schemas.hours.bill_approval import TimeBillChange
from schemas.hours.firm_days import check_days
from schemas.hours.recompute import jobs
from schemas.hours.recompute.jobs import RecomputeReport, RecomputeScope
from schemas.hours.time_bills import BillFilter, EnrichedTimeBill, Status, TimeBill, XeroStatus
from schemas.postgres.listing import Page


def get_list_query(
    user_id: UserId = None,
    customer: CustomerName = None,
    customer_id: CustomerId = None,
    bill_status: Annotated[Status | None, QueryParameter(name="status", description="Only bills in this state")] = None,
    xero_status: Annotated[
        list[XeroStatus] | None,
        QueryParameter(
            name="xeroStatus",
            description="Only bills with this `xero.status`; repeat it for several: `xeroStatus=failed&xeroStatus=queued`. "
            "For the firm's own people",
        ),
    ] = None,
    start_date: StartDate = None,
    end_date: EndDate = None,
    enrich: Enrich = False,
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> ListQuery[BillFilter]:
    """The query of the list. Raises Invalid for a range of days that ends before it starts."""
    check_days(start_date, end_date)
    filters = BillFilter(
        user_id=user_filter(user_id),
        customer=customer_filter(customer, customer_id),
        status=bill_status,
        xero_status=xero_status,
        start_date=start_date,
        end_date=end_date,
    )
    return ListQuery(filters, Page(limit, page_cursor), enrich)


@get("/api/time-bills", summary="List time bills", dependencies={"list_query": Provide(get_list_query, sync_to_thread=False)})
async def list_time_bills(
    request: ApiRequest, list_query: NamedDependency[ListQuery[BillFilter]]
) -> Response[Listed[EnrichedTimeBill | TimeBill]]:
    """Time bills, latest day first. A customer's users see their own customer's approved bills."""
    async with request.database.connection() as conn:
        return json_response(
            await time_bills.list_page(conn, list_query.page, list_query.filters, user=request.user, enrich=list_query.enrich)
        )


@get("/api/time-bills/{bill_id:str}", summary="Read a time bill")
async def get_time_bill(request: ApiRequest, bill_id: FromPath[UUID]) -> Response[TimeBill]:
    """One time bill."""
    async with request.database.connection() as conn:
        return json_response(await time_bills.get(conn, bill_id, user=request.user))


@patch("/api/time-bills/{bill_id:str}", summary="Write the memo, approve, reject or reopen", guards=[require_internal])
async def change_time_bill(request: ApiRequest, bill_id: FromPath[UUID], data: JSONBody[TimeBillChange]) -> TimeBill:
    """The bill's owner can write the memo. An admin can approve, reject and reopen. If one of the requested changes is not
    allowed, nothing changes.

    409 with `current` for a change that the bill's state does not allow, and for a stale `version`."""
    async with request.database.transaction() as conn:
        changed = await bill_approval.change(conn, bill_id, data, by=request.user, zone=request.settings.stint_timezone)
    if isinstance(changed, Conflict | NotFound):  # after the commit: `current` shows what is committed
        raise changed
    return changed


@post(
    "/api/time-bills/approve-all",
    summary="Approve many",
    guards=[require_admin],
    status_code=200,
    opt={JSON_BOUNDS: Bounds(values=5 * MAX_BILLS)},
)
async def approve_all(request: ApiRequest, data: JSONBody[BatchApproval]) -> BatchAnswer:
    """Approves up to 1,000 bills in one transaction. Send either `bills`, each with the version that you have read, or a
    `filter` with the `syncTimestamp` of the list that you have read.

    Bills that have changed since, or cannot be approved, are skipped, with the reason and the present bill. So no bill is
    approved with figures that you have not read."""
    async with request.database.transaction() as conn:
        return await batch_approval.approve_all(conn, data, by=request.user, zone=request.settings.stint_timezone)


@post("/api/time-bills/recompute", summary="Recompute bills", guards=[require_admin], status_code=202)
async def start_recompute(request: ApiRequest, data: JSONBody[RecomputeScope | None] = None) -> Response[RecomputeReport]:
    """Gives bills to entries without one, and corrects the sums of open bills that differ from their entries. Without a body it
    does so for all; with one, for some days, one customer or one user. `dryRun` only finds out what would change.

    Returns a job whose progress you can read."""
    async with request.database.transaction() as conn:
        job_id = await jobs.start_job(conn, data or RecomputeScope(), by=request.user.id)
        return json_response(await jobs.get_job(conn, job_id), status=202)


@get("/api/time-bills/recompute/{job_id:str}", summary="Follow a recompute job", guards=[require_admin])
async def get_recompute(request: ApiRequest, job_id: FromPath[UUID], page: ThePage) -> Response[RecomputeReport]:
    """The job's progress, the totals of its changes, and a page of the changes in the order in which they were made."""
    async with request.database.connection() as conn:
        return json_response(await jobs.get_job(conn, job_id, limit=page.limit, after=page.cursor))

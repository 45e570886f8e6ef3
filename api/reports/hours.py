"""The report of hours."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from litestar import Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter

from api.dependencies import ApiRequest
from api.http.responses import (
    CustomerId,
    CustomerName,
    StartDate,
    UserId,
    customer_filter,
    json_response,
    user_filter,
)
from api.reports.csv_responses import csv_response
from schemas.hours.time_bills import BillFilter, Status, XeroStatus
from schemas.reports import hours
from schemas.reports.days import days
from schemas.reports.models import HoursReport, Level

GROUP_BY = {"pattern": hours.GROUP_BY_PATTERN, "examples": ["customer,month"]}


@dataclass(frozen=True)
class ReportQuery:
    """The whole query of the report; the days may be left out."""

    levels: tuple[Level, ...]
    filters: BillFilter
    format: Literal["json", "csv"]


def get_report_query(
    group_by: Annotated[
        str,
        QueryParameter(
            name="groupBy",
            max_length=100,
            description="One or two of `customer`, `pillar`, `person`, `day`, `week` and `month`, with a comma between them",
            schema_extra=GROUP_BY,
        ),
    ] = "customer",
    user_id: UserId = None,
    customer: CustomerName = None,
    customer_id: CustomerId = None,
    pillar_id: Annotated[UUID | None, QueryParameter(name="pillarId", description="Only bills of this pillar")] = None,
    bill_status: Annotated[Status | None, QueryParameter(name="status", description="Only bills in this state")] = None,
    xero_status: Annotated[
        list[XeroStatus] | None,
        QueryParameter(
            name="xeroStatus",
            description="Only bills with this `xero.status`; repeat it for several. For the firm's own people",
        ),
    ] = None,
    start_date: StartDate = None,
    end_date: Annotated[
        date | None,
        QueryParameter(
            name="endDate",
            description="Last day, inclusive, in the firm's time zone: 366 days in all at most, and by default, until today",
        ),
    ] = None,
    answer_format: Annotated[
        Literal["json", "csv"], QueryParameter(name="format", description="`csv`: only the items, for a spreadsheet")
    ] = "json",
) -> ReportQuery:
    """The query of the report. Raises Invalid for levels that cannot be combined."""
    filters = BillFilter(
        user_id=user_filter(user_id),
        customer=customer_filter(customer, customer_id),
        pillar_id=pillar_id,
        status=bill_status,
        xero_status=xero_status,
        start_date=start_date,
        end_date=end_date,
    )
    return ReportQuery(hours.parse_levels(group_by), filters, answer_format)


@get(
    "/api/reports/hours",
    summary="Sum hours",
    dependencies={"report_query": Provide(get_report_query, sync_to_thread=False)},
)
async def get_hours_report(request: ApiRequest, report_query: NamedDependency[ReportQuery]) -> Response[HoursReport]:
    """Recorded and billed hours by customer, pillar, person, day, week or month, or by two of them: the sums of the time bills
    that the same filters list. A customer's users get those of their own customer's approved bills. CSV has the fields of the
    items that the levels give; it is UTF-8 with a byte order mark."""
    asked = report_query.filters
    async with request.database.connection() as conn:
        first, last = await days(conn, asked.start_date, asked.end_date, zone=request.settings.stint_timezone)
        filters = replace(asked, start_date=first, end_date=last)
        if report_query.format == "json":
            return json_response(await hours.report(conn, report_query.levels, filters, user=request.user))
        fields, rows = await hours.table(conn, report_query.levels, filters, user=request.user)
    return csv_response(request, fields, rows, f"hours-{first}-{last}.csv")

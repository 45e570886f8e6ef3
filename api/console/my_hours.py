"""The page of customers' users: the approved hours of their own customer, by pillar and month."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from litestar import Response, get
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from pydantic import Field

from api.console.forms import FormModel, valid_query
from api.console.pages import page
from api.dependencies import ApiRequest
from api.reports.csv_responses import csv_response
from schemas.errors import Forbidden
from schemas.hours.firm_days import get_today
from schemas.hours.time_bills import BillFilter
from schemas.identity.users import User
from schemas.reports import hours
from schemas.reports.models import HoursReport, HoursRow

FOR_CUSTOMERS = "This page is for the users of a customer. The firm's own people find hours under Reports."


class YearQuery(FormModel):
    """`year`: the present one, if none is sent."""

    year: Annotated[int | None, Field(ge=1900, le=8999)] = None


@dataclass(frozen=True)
class Month:
    """The billed minutes of a month, by the id of the pillar."""

    first: date
    minutes: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.minutes.values())


async def require_customers_user(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: only customers' users."""
    if connection.user.is_internal:
        raise Forbidden(FOR_CUSTOMERS)


@get("/console/my-hours", guards=[require_customers_user])
async def show_my_hours(request: ApiRequest) -> Response[bytes]:
    """The approved hours of a year: a row for each month, a column for each pillar."""
    year, today, report = await _report(request)
    pillars = {str(item.pillar_id): item.pillar_name for item in report.items}
    totals = {pillar: sum(item.minutes for item in report.items if str(item.pillar_id) == pillar) for pillar in pillars}
    return page(
        request,
        "my-hours.html",
        year=year,
        is_present=year == today.year,
        customer=report.items[0].customer_name if report.items else None,
        pillars=pillars,
        months=_months(report.items),
        totals=totals,
        total=report.totals.minutes,
    )


@get("/console/my-hours/csv", guards=[require_customers_user])
async def download_my_hours(request: ApiRequest) -> Response[Any]:
    """The same as a file for a spreadsheet: a row for each month and pillar."""
    year, _, report = await _report(request)
    rows = [[f"{item.month:%Y-%m}", item.pillar_name, item.minutes, f"{item.minutes / 60:.2f}"] for item in report.items]
    return csv_response(request, ["month", "pillar", "minutes", "hours"], rows, f"hours-{year}.csv")


async def _report(request: ApiRequest) -> tuple[int, date, HoursReport]:
    """The year, today, and the hours that this user may see: of approved bills of their own customer."""
    query = valid_query(request, YearQuery)
    async with request.database.connection() as conn:
        today = await get_today(conn, request.settings.stint_timezone)
        year = query.year or today.year
        filters = BillFilter(start_date=date(year, 1, 1), end_date=date(year, 12, 31))
        found = await hours.report(conn, ("month", "pillar"), filters, user=request.user)
    return year, today, HoursReport.from_json(found)


def _months(items: list[HoursRow]) -> list[Month]:
    """The newest first."""
    months: dict[date, Month] = {}
    for item in items:
        assert item.month is not None
        months.setdefault(item.month, Month(item.month, {})).minutes[str(item.pillar_id)] = item.minutes
    return sorted(months.values(), key=lambda month: month.first, reverse=True)

"""The page of reports, and its table as a file for a spreadsheet."""

from dataclasses import dataclass
from datetime import date, timedelta

from litestar import Response, get

from api.auth.auth import require_internal
from api.console.formats import Formats
from api.console.forms import Form, read_query
from api.console.pages import page, redirect
from api.console.reports import filters as labels
from api.console.reports.chart import Chart, chart
from api.console.reports.filters import PATH, ReportFilters, last_days, month_of, periods
from api.console.reports.rows import COLUMNS, TableGroup, cells, table
from api.dependencies import ApiRequest
from api.reports.csv_responses import csv_response
from schemas.hours.firm_days import get_today
from schemas.postgres.connection import Connection
from schemas.reports import hours
from schemas.reports.choices import Choice, choices
from schemas.reports.days import MAX_DAYS, days
from schemas.reports.models import PartOfReport

KINDS = ("customer", "pillar", "person")
MAX_SHOWN = 500  # rows on the page; a file has more


@dataclass(frozen=True)
class RowsShown:
    """Which rows of the report the page has, counted from 1, without subtotals."""

    page: int
    first: int
    last: int
    of: int


@dataclass(frozen=True)
class Shown:
    """A report as the page shows it. `facts`: name and value of each filter."""

    title: str
    facts: list[tuple[str, str]]
    groups: list[TableGroup]
    totals: list[str]
    rows: RowsShown
    chart: Chart | None
    is_empty: bool


@get(PATH, guards=[require_internal])
async def show_reports(request: ApiRequest) -> Response[bytes]:
    """The hours of some days by one or two levels, as a chart and a table."""
    form = read_query(request, ReportFilters)
    show = Formats.of(request.headers.get("accept-language", ""), request.settings.stint_timezone)
    found: PartOfReport | None = None
    async with request.database.connection() as conn:
        today = await get_today(conn, request.settings.stint_timezone)
        chosen, offered = await complete(conn, form.value or ReportFilters(), today, request.settings.stint_timezone)
        check_days(form, chosen, show)
        if form.value is not None and not form.is_wrong:
            with form.catching():
                found = await hours.part(
                    conn, chosen.levels, chosen.bills, user=request.user, start=start_of(chosen), most=MAX_SHOWN
                )
    if found is not None and found.rows and not found.items:  # it had more pages when this link was made
        return redirect(chosen.link())
    return page(
        request,
        "reports.html",
        status=422 if form.is_wrong else 200,
        form=form,
        chosen=chosen,
        labels=labels,
        offered={kind: [(choice.id, choice.name) for choice in offered if choice.kind == kind] for kind in KINDS},
        periods=list(periods(today)),
        columns=COLUMNS,
        report=None if found is None else shown(found, chosen, facts(chosen, offered), show),
    )


@get(f"{PATH}/hours.csv", guards=[require_internal])
async def download_report(request: ApiRequest) -> Response[bytes]:
    """The rows of the report as CSV, also of one that is too long for the page."""
    form = read_query(request, ReportFilters)
    if form.value is None:
        return redirect(f"{PATH}?{request.url.query}")  # which says what is wrong
    zone = request.settings.stint_timezone
    async with request.database.connection() as conn:
        chosen, _ = await complete(conn, form.value, await get_today(conn, zone), zone)
        fields, rows = await hours.table(conn, chosen.levels, chosen.bills, user=request.user)
    return csv_response(request, fields, rows, f"hours-{chosen.start_date}-{chosen.end_date}.csv")


def start_of(chosen: ReportFilters) -> int:
    """The first row of the page, counted from 0."""
    return ((chosen.page or 1) - 1) * MAX_SHOWN


async def complete(conn: Connection, sent: ReportFilters, today: date, zone: str) -> tuple[ReportFilters, list[Choice]]:
    """The filters with both days, without any the last ones until today; and what can be chosen. A pillar that is not one of
    the chosen customer is left out: another customer was chosen after it."""
    offered = await choices(conn, sent.customer_id)
    first, last = last_days(today)
    if sent.start_date is not None or sent.end_date is not None:
        first, last = await days(conn, sent.start_date, sent.end_date, zone=zone)
    changed: dict[str, object] = {"start_date": first, "end_date": last}
    if sent.customer_id is not None and all(choice.id != sent.pillar_id for choice in offered):
        changed["pillar_id"] = None
    return sent.model_copy(update=changed), offered


def check_days(form: Form[ReportFilters], chosen: ReportFilters, show: Formats) -> None:
    """Says beside the last day what is wrong with the range, in the words of the page."""
    assert chosen.start_date is not None and chosen.end_date is not None
    if chosen.end_date < chosen.start_date:
        form.refuse("end_date", "This day is before the first one.")
    elif chosen.end_date - chosen.start_date >= timedelta(days=MAX_DAYS):
        latest = chosen.start_date + timedelta(days=MAX_DAYS - 1)
        form.refuse("end_date", f"A report has at most {MAX_DAYS} days: choose {show.day(latest)} or an earlier day.")


def facts(chosen: ReportFilters, offered: list[Choice]) -> list[tuple[str, str]]:
    """Name and value of each filter, without the days."""
    names = {choice.id: choice.name for choice in offered}
    ids = {"Customer": chosen.customer_id, "Pillar": chosen.pillar_id, "Person": chosen.user_id}
    found = [(name, names.get(value, str(value))) for name, value in ids.items() if value is not None]
    if chosen.status is not None:
        found.append(("State of the bill", labels.STATUSES[chosen.status]))
    if chosen.xero_status is not None:
        found.append(("In Xero", labels.XERO_STATUSES[chosen.xero_status]))
    return found


def days_as_text(first: date, last: date, show: Formats) -> str:
    """`2026`, `Mar 2026`, or both days, each on one line."""
    if (first, last) == (date(first.year, 1, 1), date(first.year, 12, 31)):
        return str(first.year)
    if month_of(first) == (first, last):
        return show.month(first)
    return " to ".join(show.day(day).replace(" ", "\N{NO-BREAK SPACE}") for day in (first, last))


def shown(report: PartOfReport, chosen: ReportFilters, filtered: list[tuple[str, str]], show: Formats) -> Shown:
    """The report for the page."""
    return Shown(
        f"Hours by {' and '.join(chosen.levels)}, {days_as_text(report.start_date, report.end_date, show)}",
        filtered,
        table(report, chosen, show),
        cells(report.totals, show),
        RowsShown(chosen.page or 1, start_of(chosen) + 1, start_of(chosen) + len(report.items), report.rows),
        chart(report, chosen, show),
        is_empty=not report.items,
    )

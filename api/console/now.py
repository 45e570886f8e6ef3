"""The console's first page: who works on what, hours of this week, what needs a decision, and what is wrong."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from litestar import Response, get

from api.auth.auth import require_internal
from api.console.forms import FormModel, valid_query
from api.console.pages import fragment, page, redirect
from api.dependencies import ApiRequest
from schemas.base import Day
from schemas.diagnosis import findings, status
from schemas.diagnosis.finding import Finding
from schemas.diagnosis.status import InstallationStatus
from schemas.hours.firm_days import get_today
from schemas.identity.work_calendar import monday
from schemas.postgres.connection import Connection
from schemas.reports import present
from schemas.reports.present import PendingBills

AMONG_DECISIONS = ("Dead letters:", "Bills differ ", "Xero has refused ")


class NowQuery(FormModel):
    """`week`: any day of the week whose hours are shown; without it the present week."""

    week: Day | None = None


@dataclass(frozen=True)
class Decisions:
    """What needs an admin: bills to approve, bills whose entries somebody has changed in Xero, bills that Xero has refused, and
    messages that failed permanently."""

    bills: PendingBills
    xero_differs: int
    xero_failed: int
    dead: int
    groups: int

    @property
    def is_empty(self) -> bool:
        return not (self.bills.count or self.xero_differs or self.xero_failed or self.dead)


@get("/console")
async def show_now(request: ApiRequest) -> Response[bytes]:
    """The firm's own people see what is going on, admins also what needs them; a customer's users are led to their hours."""
    if not request.user.is_internal:
        return redirect("/console/my-hours")
    query = valid_query(request, NowQuery)
    async with request.database.connection() as conn:
        shown = await _timers(request, conn)
        week = await present.week(conn, query.week, settings=request.settings)
        if request.user.is_admin:
            shown |= await _for_admins(request, conn)
    today: date = shown["today"]
    first = monday(query.week or today)
    after = first + timedelta(days=7)
    return page(
        request,
        "now.html",
        **shown,
        week=week,
        most_people=present.MOST_PEOPLE,
        first=first,
        before=first - timedelta(days=7),
        after=after if after <= today else None,
    )


@get("/console/now/timers", guards=[require_internal])
async def show_timers(request: ApiRequest) -> Response[bytes]:
    """The running timers, which the page replaces at each change."""
    async with request.database.connection() as conn:
        shown = await _timers(request, conn)
    return fragment(request, "now/timers.html", **shown)


async def _timers(request: ApiRequest, conn: Connection) -> dict[str, Any]:
    return {
        "today": await get_today(conn, request.settings.stint_timezone),
        "timers": await present.running_timers(conn),
        "forgotten_hours": request.settings.stint_nudge_hours,
    }


async def _for_admins(request: ApiRequest, conn: Connection) -> dict[str, Any]:
    found = await status.read(conn, request.settings, for_page=True)
    bills = await present.pending_bills(conn, zone=request.settings.stint_timezone)
    return {"decisions": _decisions(bills, found), "findings": _not_shown_elsewhere(findings.diagnose(found))}


def _decisions(bills: PendingBills, found: InstallationStatus) -> Decisions:
    return Decisions(bills, found.xero_differs, found.xero_failed, found.dead, found.groups)


def _not_shown_elsewhere(found: list[Finding]) -> list[Finding]:
    """Without those that are among the decisions."""
    return [finding for finding in found if not finding.what.startswith(AMONG_DECISIONS)]

"""What a report on the page is of: its days, its levels and its filters, all of them in the URL."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, get_args
from uuid import UUID

from pydantic import Field

from api.console.forms import FormModel
from schemas.base import Day
from schemas.hours.time_bills import BillFilter, Status, XeroStatus
from schemas.reports.models import Level

PATH = "/console/reports"
LEVELS: dict[Level, str] = {
    "customer": "Customer", "pillar": "Pillar", "person": "Person", "day": "Day", "week": "Week", "month": "Month"
}  # fmt: skip
# the level of the report that a link of a row leads to, if the report has one level
NEXT_LEVELS: dict[Level, Level] = {
    "customer": "pillar", "pillar": "person", "person": "customer", "month": "week", "week": "day", "day": "person"
}  # fmt: skip
STATUSES: dict[Status, str] = {"pending": "Pending", "approved": "Approved", "rejected": "Rejected"}
XERO_STATUSES: dict[XeroStatus, str] = {
    "queued": "On its way", "synced": "In Xero", "differs": "Differs in Xero", "failed": "Failed", "not_mapped": "Not mapped",
    "not_connected": "Xero is not connected", "withdrawing": "Being withdrawn", "none": "Nothing to send",
}  # fmt: skip
assert set(LEVELS) == set(get_args(Level)) and set(XERO_STATUSES) == set(get_args(XeroStatus))


class ReportFilters(FormModel):
    """The filters in the query. Without days: the last 30. `page`: of the rows of the table, from 1; without one, the first."""

    UNSEEN = frozenset({"page"})
    start_date: Day | None = None
    end_date: Day | None = None
    by: Level = "customer"
    then: Level | None = None
    customer_id: UUID | None = None
    pillar_id: UUID | None = None
    user_id: UUID | None = None
    status: Status | None = None
    xero_status: XeroStatus | None = None
    page: Annotated[int | None, Field(ge=1, le=10_000)] = None

    @property
    def levels(self) -> tuple[Level, ...]:
        """One or two levels: the same twice counts once."""
        return (self.by,) if self.then in (None, self.by) else (self.by, self.then)

    @property
    def bills(self) -> BillFilter:
        """The bills that the report sums."""
        return BillFilter(
            user_id=self.user_id,
            customer=str(self.customer_id) if self.customer_id else None,
            pillar_id=self.pillar_id,
            status=self.status,
            xero_status=[self.xero_status] if self.xero_status else None,
            start_date=self.start_date,
            end_date=self.end_date,
        )

    @property
    def values(self) -> dict[str, Any]:
        """The filters by name, as a query has them; None: not set. Without the page: other filters have other rows."""
        return self.model_dump(mode="json", exclude={"page"})

    def link(self, **changed: Any) -> str:
        """The page with some of these filters changed; None leaves one out."""
        return f"{PATH}?{query_of(self.values | changed)}"


def query_of(values: dict[str, Any]) -> str:
    """The query of these filters. Ids, days and names of levels and states need no quoting, which is slow."""
    return "&".join(f"{name}={value}" for name, value in values.items() if value is not None)


@dataclass(frozen=True)
class Period:
    """A link to days that people often look at."""

    label: str
    first: date
    last: date


def month_of(day: date) -> tuple[date, date]:
    """The first and the last day of the month."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def last_days(today: date) -> tuple[date, date]:
    """The last 30 days until today: a month that has just begun has few hours."""
    return today - timedelta(days=29), today


def periods(today: date) -> Iterator[Period]:
    """Those that are offered on this day."""
    monday, (month, end_of_month) = today - timedelta(days=today.weekday()), month_of(today)
    last_year = date(today.year - 1, 1, 1), date(today.year - 1, 12, 31)
    yield Period("Last 30 days", *last_days(today))
    yield Period("This week", monday, monday + timedelta(days=6))
    yield Period("Last week", monday - timedelta(days=7), monday - timedelta(days=1))
    yield Period("This month", month, end_of_month)
    yield Period("Last month", *month_of(month - timedelta(days=1)))
    yield Period("This year", date(today.year, 1, 1), date(today.year, 12, 31))
    yield Period("Last year", *last_year)

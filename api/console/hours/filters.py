"""The filters of the page Approve, as its URL has them, and links that keep them."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from api.console.forms import FormModel
from schemas.base import Day
from schemas.hours.time_bills import Status
from schemas.hours.weeks.grid import GridFilter
from schemas.identity.work_calendar import monday

PATH = "/console/approve"


class ApproveQuery(FormModel):
    """The query of the page. `week`: any day of it; without one, the week of yesterday, which is the last week on a Monday.
    `open`: the person and the day whose bills are shown, as `ID.2026-03-02`."""

    week: Day | None = None
    customer: UUID | None = None
    pillar: UUID | None = None
    person: UUID | None = None
    status: Status | None = None
    open: str | None = None


@dataclass(frozen=True)
class View:
    """What the page shows: the first day of its week, the filters, and the person and the day that are open."""

    first: date
    filters: GridFilter
    opened: tuple[UUID, date] | None = None

    @classmethod
    def of(cls, query: ApproveQuery, today: date) -> "View":
        """By the query."""
        filters = GridFilter(query.customer, query.pillar, query.person, query.status)
        return cls(monday(query.week or today - timedelta(days=1)), filters, _parse_open(query.open or ""))

    @property
    def last(self) -> date:
        """The last day of the week."""
        return self.first + timedelta(days=6)

    def week(self, weeks: int) -> str:
        """The link to the week `weeks` weeks later."""
        return self.link(week=(self.first + timedelta(weeks=weeks)).isoformat(), open=None)

    def link(self, path: str = "", **changes: Any) -> str:
        """The path below that of the page, with the present query and these values instead of its own. None: without it."""
        return f"{PATH}{path}?{urlencode({name: value for name, value in (self._query() | changes).items() if value})}"

    def opening(self, user_id: UUID, day: date) -> str:
        """The link that opens that person's day."""
        return self.link(open=f"{user_id}.{day}")

    def _query(self) -> dict[str, Any]:
        found = self.filters
        return {
            "week": self.first.isoformat(),
            "customer": found.customer_id,
            "pillar": found.pillar_id,
            "person": found.user_id,
            "status": found.status,
            "open": f"{self.opened[0]}.{self.opened[1]}" if self.opened is not None else None,
        }


def _parse_open(text: str) -> tuple[UUID, date] | None:
    """Person and day; None for any other text."""
    user_id, _, day = text.partition(".")
    try:
        return UUID(user_id), date.fromisoformat(day)
    except ValueError:
        return None

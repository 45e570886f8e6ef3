"""The filters of the page Approve, as its URL has them, and links that keep them."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field

from api.console.forms import FormModel
from api.console.hours.shown_week import ShownWeek
from schemas.base import Day
from schemas.hours.time_bills import Status
from schemas.hours.weeks.bills import GridFilter
from schemas.identity.work_calendar import monday


class ApproveQuery(FormModel):
    """The query of the page.

    - `week`: any day of the week. Without it, the week of yesterday: on a Monday, this is the last week.
    - `open`: the person and the day whose bills are shown, as `ID.2026-03-02`.
    - `page`: which page of the people, from 1. Without it, the page of the person that is open.
    """

    UNSEEN = frozenset({"open", "page"})

    week: Day | None = None
    customer: UUID | None = None
    pillar: UUID | None = None
    person: UUID | None = None
    status: Status | None = None
    open: str | None = None
    page: Annotated[int | None, Field(ge=1, le=10_000)] = None


@dataclass(frozen=True)
class ApproveView(ShownWeek):
    """What the page shows: its week, the filters, the person and the day that are open, and the page of the people."""

    PATH: ClassVar[str] = "/console/approve"
    filters: GridFilter
    opened: tuple[UUID, date] | None = None
    page: int | None = None

    @classmethod
    def of(cls, query: ApproveQuery, today: date) -> "ApproveView":
        """By the query."""
        filters = GridFilter(query.customer, query.pillar, query.person, query.status)
        return cls(monday(query.week or today - timedelta(days=1)), filters, _parse_open(query.open or ""), query.page)

    @property
    def query(self) -> dict[str, Any]:
        """The query of the page by name; None: without it."""
        found = self.filters
        return super().query | {
            "customer": found.customer_id,
            "pillar": found.pillar_id,
            "person": found.user_id,
            "status": found.status,
            "open": f"{self.opened[0]}.{self.opened[1]}" if self.opened is not None else None,
            "page": self.page,
        }

    def opening(self, user_id: UUID, day: date) -> str:
        """The link that opens that person's day."""
        return f"{self._without_open}&open={user_id}.{day}"

    @cached_property
    def _without_open(self) -> str:
        """What the links of all days have in common."""
        return self.link(open=None)


def _parse_open(text: str) -> tuple[UUID, date] | None:
    """Person and day; None for any other text."""
    user_id, _, day = text.partition(".")
    try:
        return UUID(user_id), date.fromisoformat(day)
    except ValueError:
        return None

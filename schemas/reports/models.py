"""The report of hours, as it is answered."""

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Row

Level = Literal["customer", "pillar", "person", "day", "week", "month"]


class HoursGroup(Row):
    """Which bills a sum is of. Fields of levels by which it is not grouped are null."""

    customer_id: Annotated[UUID | None, Field(description="with the levels `customer` and `pillar`")]
    customer_name: str | None
    pillar_id: Annotated[UUID | None, Field(description="with the level `pillar`")]
    pillar_name: str | None
    user_id: Annotated[UUID | None, Field(description="with the level `person`")]
    user_name: str | None
    user_email: str | None
    day: Annotated[date | None, Field(description="with the level `day`, in the firm's time zone")]
    week: Annotated[date | None, Field(description="with the level `week`: its Monday")]
    month: Annotated[date | None, Field(description="with the level `month`: its first day")]


class HoursSums(Row):
    """What is summed over the bills of a group."""

    bills: Annotated[int, Field(description="the number of bills")]
    seconds: Annotated[int, Field(description="recorded time")]
    minutes: Annotated[int, Field(description="billed time: the sum of the bills' `minutes`, each rounded on its own")]
    approved_minutes: Annotated[int, Field(description="of approved bills")]
    unapproved_minutes: Annotated[int, Field(description="of pending and rejected bills; always 0 for customers' users")]
    not_in_xero_minutes: Annotated[
        int | None,
        Field(
            description="of approved bills whose `xero.status` is `queued`, `failed`, `not_connected` or `not_mapped`, or "
            "whose time entry somebody has deleted in Xero; null for customers' users"
        ),
    ]


class HoursRow(HoursSums, HoursGroup):  # the fields of the second come first
    """The sums of one group."""


class HoursReport(Row):
    """The hours of some days, by one or two levels."""

    group_by: list[Level]
    start_date: date
    end_date: date
    totals: HoursSums
    subtotals: Annotated[list[HoursRow], Field(description="by the first of two levels; empty with one level")]
    items: Annotated[list[HoursRow], Field(description="names in their order, days the earliest first")]


class PartOfReport(HoursReport):
    """A report with some of its items. Totals and subtotals are those of the whole; subtotals also of one level."""

    rows: int  # all items of the report

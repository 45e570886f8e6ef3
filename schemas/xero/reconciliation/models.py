"""The comparison of bills with entries, as it is answered."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Lookup, Row

Result = Literal["agrees", "accepted", "differs", "missing", "too_many"]
Cause = Literal[
    "changed", "deleted", "queued", "failed", "not_connected", "not_mapped", "withdrawing", "stray"
]  # fmt: skip


class ComparedBill(Row):
    """A bill and its time entry in Xero, or one of them."""

    result: Annotated[
        Result,
        Field(
            description="`agrees`; `accepted`: it differs, and an admin has accepted that; `differs`; `missing`: the bill has "
            "no entry; `too_many`: an entry with the mark of a bill that is not the bill's entry, or that of a bill that is "
            "being reopened"
        ),
    ]
    cause: Annotated[
        Cause | None,
        Field(
            description="`changed` or `deleted`: in Xero by hand; `queued`, `failed`, `not_connected`, `not_mapped`, "
            "`withdrawing`: the bill's `xero.status`; `stray`: Stint does not know the entry; null: it agrees, or was accepted"
        ),
    ]
    reason: Annotated[str | None, Field(description="`xero.error` of the bill, or why it was accepted")]
    date: Annotated[date, Field(description="the bill's day; of an entry without a bill, its own")]
    bill_id: Annotated[UUID, Field(description="of the bill, or of the mark: then there may be no such bill")]
    customer_name: Annotated[str | None, Lookup("customers", "customer_id", "{j}.name")]
    pillar_name: Annotated[str | None, Lookup("pillars", "pillar_id", "{j}.name")]
    user_name: Annotated[str | None, Lookup("users", "user_id", "{j}.name")]
    minutes: Annotated[int | None, Field(description="of the bill; null: of an entry that is too many")]
    xero_minutes: Annotated[int | None, Field(description="of the entry in Xero; null: there is none")]
    time_entry_id: str | None
    project_id: Annotated[str | None, Field(description="in Xero")]
    read_at: Annotated[datetime | None, Field(description="when Stint last read the entry; null: not since it wrote it")]
    bill_updated_at: Annotated[
        datetime | None, Field(description="when the bill, or what it shows of Xero, last changed; null: there is no such bill")
    ]


class ComparedTotal(Row):
    """The bills and entries with one result."""

    count: int
    minutes: Annotated[int, Field(description="of the bills")]
    xero_minutes: Annotated[int, Field(description="of the entries")]


class ComparedTotals(Row):
    """The totals of all days that were asked for, not only of this page."""

    all: ComparedTotal
    agrees: ComparedTotal
    accepted: ComparedTotal
    differs: ComparedTotal
    missing: ComparedTotal
    too_many: ComparedTotal


class ProjectReading(Row):
    """When Stint last read all time entries of a project in Xero."""

    project_id: str
    customers: Annotated[list[str], Field(description="the names of the customers that are mapped to it")]
    read_at: Annotated[datetime | None, Field(description="when the last complete reading began; null: none was complete")]
    error: Annotated[str | None, Field(description="why a reading after that failed")]


class Reconciliation(Row):
    """Bills against entries, of some days: the latest first."""

    all_agree: Annotated[bool, Field(description="nothing differs, is missing or is too many")]
    totals: ComparedTotals
    projects: Annotated[list[ProjectReading], Field(description="the one that was not read for the longest time first")]
    items: list[ComparedBill]
    next_cursor: Annotated[str | None, Field(description="Send it as `cursor` for the next page; null on the last one")]

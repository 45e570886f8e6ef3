"""Time bills: one consultant's hours for one customer, pillar and day. schemas/approval.py is what becomes of them."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Lookup, Row, Sql
from schemas.customers import narrow_to
from schemas.database import Connection
from schemas.listing import Order, Page, Selection
from schemas.users import User

Status = Literal["pending", "approved", "rejected"]
XeroStatus = Literal["none", "queued", "synced", "failed", "not_connected", "not_mapped", "withdrawing"]


class XeroState(Row):
    """Where an approved bill stands in Xero."""

    status: XeroStatus
    time_entry_id: str | None
    error: str | None
    synced_at: datetime | None
    invoiced_at: Annotated[datetime | None, Field(description="when its entry was first seen to be invoiced, or locked for it")]


class TimeBill(Row):
    """A time bill, as answered."""

    id: UUID
    user_id: UUID
    customer_id: UUID
    pillar_id: UUID
    date: Annotated[date, Field(description="the day in the firm's time zone")]
    seconds: Annotated[int, Field(description="the sum of its entries")]
    minutes: Annotated[int, Field(description="what is billed: the seconds, rounded by the customer's rule")]
    memo: str
    status: Status
    rejection_note: str | None
    approved_by: UUID | None
    approved_at: datetime | None
    xero: Annotated[
        XeroState,
        Sql(
            "json_build_object('status', {t}.xero_status, 'timeEntryId', {t}.xero_time_entry_id, 'error', {t}.xero_error,"
            """ 'syncedAt', to_char({t}.xero_synced_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),"""
            """ 'invoicedAt', to_char({t}.xero_invoiced_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))"""
        ),
    ]
    created_at: datetime
    updated_at: datetime
    version: int


class EnrichedTimeBill(TimeBill):
    """A time bill with the names behind its ids (`enrich=true`)."""

    customer_name: Annotated[str, Lookup("customers", "customer_id", "{j}.name")]
    pillar_name: Annotated[str, Lookup("pillars", "pillar_id", "{j}.name")]
    user_name: Annotated[str, Lookup("users", "user_id", "{j}.name")]
    user_email: Annotated[str, Lookup("users", "user_id", "{j}.email")]


# Spelled out: there are indexes for some states, and a plan that is made for any state cannot use them.
OF_STATUS = {
    "pending": "b.status = 'pending'",
    "approved": "b.status = 'approved'",
    "rejected": "b.status = 'rejected'",
}


@dataclass(frozen=True)
class BillFilter:
    """Which bills a list asks for. Dates are inclusive; `customer` is an id or an exact name in any case."""

    user_id: UUID | None = None
    customer: str | None = None
    status: Status | None = None
    start_date: date | None = None
    end_date: date | None = None


def _visible_to(user: User, *, enrich: bool = False) -> Selection:
    model = EnrichedTimeBill if enrich else TimeBill
    selection = Selection("time bill", model, "time_bills", "b", Order("date", "date"))
    selection.where("b.deleted_at IS NULL")
    if not user.is_internal:
        selection.where("b.customer_id = %(own_customer)s AND b.status = 'approved'", own_customer=user.customer_id)
    return selection


async def get(conn: Connection, bill_id: UUID, *, user: User) -> bytes:
    """The bill as JSON. Raises NotFound when there is none that this user may see."""
    return await _visible_to(user).one(conn, bill_id)


async def list_page(conn: Connection, page: Page, chosen: BillFilter, *, user: User, enrich: bool = False) -> bytes:
    """The bills this user may see, newest day first."""
    selection = _visible_to(user, enrich=enrich)
    if chosen.user_id is not None:
        selection.where("b.user_id = %(user)s", user=chosen.user_id)
    if chosen.customer is not None:
        await narrow_to(conn, selection, chosen.customer)
    if chosen.status is not None:
        selection.where(OF_STATUS[chosen.status])
    if chosen.start_date is not None:
        selection.where("b.date >= %(start_date)s", start_date=chosen.start_date)
    if chosen.end_date is not None:
        selection.where("b.date <= %(end_date)s", end_date=chosen.end_date)
    return await selection.page(conn, page)

"""Time bills: one consultant's hours for one customer, pillar and day.

schemas/hours/bill_approval.py approves, rejects and reopens them; schemas/hours/bill_sums.py calculates their sums.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Day, Lookup, Row, Sql
from schemas.customers.customers import filter_by_customer
from schemas.errors import Forbidden
from schemas.identity.current_user import UserId
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection
from schemas.postgres.versioned_table import VersionedTable

Status = Literal["pending", "approved", "rejected"]
XeroStatus = Literal["none", "queued", "synced", "failed", "not_connected", "not_mapped", "withdrawing", "differs"]


class XeroWait(Row):
    """What an approved bill waits for before it goes to Xero."""

    cause: Annotated[
        Literal["connection", "access", "mapping", "limit", "slot", "retry"],
        Field(
            description="`connection`: an admin has to connect Xero; `access`: Xero gives Stint no access, or does not answer: "
            "`accessLost` of GET /api/xero/status says why; `mapping`: `error` says what is missing; `limit`: Xero "
            "asked Stint to pause; `slot`: a slot among the calls that Xero's rate limits allow; `retry`: `error` is the "
            "last failure"
        ),
    ]
    until: Annotated[
        datetime | None,
        Field(
            description="when it is sent next, or access is checked; null: as soon as the connection or mapping is there, or a "
            "worker is free"
        ),
    ]


class InXero(Row):
    """What the bill's time entry has in Xero since somebody changed it there by hand."""

    deleted: Annotated[bool, Field(description="it was deleted, or moved to another project")]
    minutes: int
    date: Annotated[date | None, Field(description="the day in the firm's time zone")]
    description: str | None
    changed: Annotated[
        list[Literal["minutes", "date", "description", "user", "task"]], Field(description="what is not as Stint wrote it")
    ]


class XeroAcceptance(Row):
    """An admin's choice to leave in Xero what `inXero` says, although it differs from the bill."""

    minutes: Annotated[int, Field(description="the minutes in Xero that were accepted; 0 for a deleted entry")]
    reason: str
    by: Annotated[str, Field(description="the e-mail address of the admin, or their id")]
    at: datetime


class XeroState(Row):
    """The state of an approved bill in Xero."""

    status: Annotated[
        XeroStatus, Field(description="`none`: not approved, or approved with 0 minutes, for which Xero gets no entry")
    ]
    time_entry_id: str | None
    error: Annotated[
        str | None,
        Field(description="what is missing, what has failed, or why a reopening was refused; null for customers' users"),
    ]
    synced_at: datetime | None
    invoiced_at: Annotated[
        datetime | None, Field(description="when its entry was first seen as invoiced, or locked for an invoice")
    ]
    waiting_for: Annotated[
        XeroWait | None,
        Field(description="what it waits for; null for a bill that is not on its way to Xero, and for customers' users"),
    ]
    in_xero: Annotated[
        InXero | None,
        Field(description="what somebody has changed in its time entry; null if nothing, and for customers' users"),
    ]
    accepted: Annotated[
        XeroAcceptance | None,
        Field(description="the admin who has accepted what is in Xero; null if nobody has, and for customers' users"),
    ]


# What a bill `{t}` waits for, as XeroWait. `slot_at`: its slot among the rate limits; `claimed_by`: the message that last
# called Xero for it, which is ready again at the time of its retry.
_WAITING_FOR = """
    CASE WHEN {t}.xero_status IN ('queued', 'withdrawing', 'not_connected', 'not_mapped') THEN (
        SELECT json_build_object('cause', w.cause, 'until', CASE w.cause
            WHEN 'access' THEN to_char(w.access_check_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            WHEN 'limit' THEN to_char(greatest(w.paused_until, w.slot_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            WHEN 'slot' THEN to_char(w.slot_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            WHEN 'retry' THEN to_char(w.available_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END)
        FROM (
            SELECT o.paused_until, x.access_check_at, CASE WHEN e.slot_at > now() THEN e.slot_at END AS slot_at, m.available_at,
                CASE
                WHEN {t}.xero_status = 'not_mapped' THEN 'mapping'
                WHEN x.needs_reconnect_at IS NOT NULL AND x.access_problem IS NOT NULL THEN 'access'
                WHEN {t}.xero_status = 'not_connected' OR x.tenant_id IS NULL OR x.needs_reconnect_at IS NOT NULL
                    THEN 'connection'
                WHEN o.paused_until > now() THEN 'limit'
                WHEN m.available_at > now() AND e.slot_at IS NULL THEN 'retry'
                ELSE 'slot' END AS cause
            FROM xero_connection x LEFT JOIN xero_tenants o ON o.tenant_id = x.tenant_id
            LEFT JOIN xero_entries e ON e.bill_id = {t}.id LEFT JOIN messages m ON m.id = e.claimed_by AND m.state = 'ready'
        ) w) END
"""


def _xero_state(error: str, waiting_for: str, in_xero: str, accepted: str) -> Sql:
    return Sql(
        f"json_build_object('status', {{t}}.xero_status, 'timeEntryId', {{t}}.xero_time_entry_id, 'error', {error},"
        """ 'syncedAt', to_char({t}.xero_synced_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),"""
        """ 'invoicedAt', to_char({t}.xero_invoiced_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),"""
        f" 'waitingFor', {waiting_for}, 'inXero', {in_xero}, 'accepted', {accepted})"
    )


class TimeBill(Row):
    """A time bill."""

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
    xero: Annotated[XeroState, _xero_state("{t}.xero_error", _WAITING_FOR, "{t}.xero_difference", "{t}.xero_accepted")]
    created_at: datetime
    updated_at: datetime
    version: int


class EnrichedTimeBill(TimeBill):
    """A time bill with the names of what its ids refer to (`enrich=true`)."""

    customer_name: Annotated[str, Lookup("customers", "customer_id", "{j}.name")]
    pillar_name: Annotated[str, Lookup("pillars", "pillar_id", "{j}.name")]
    user_name: Annotated[str, Lookup("users", "user_id", "{j}.name")]
    user_email: Annotated[str, Lookup("users", "user_id", "{j}.email")]
    overlapping_entries: Annotated[
        int | None,
        Field(
            description="how many of its entries have the flag `overlap`: a reason to look before approving; null for "
            "customers' users"
        ),
        Sql("(SELECT count(*) FROM time_entries o WHERE o.bill_id = {t}.id AND o.deleted_at IS NULL AND o.overlap)"),
    ]


# without what is wrong at the firm, also with its settings and its organisation in Xero
_XeroForCustomer = Annotated[XeroState, _xero_state("NULL", "NULL", "NULL", "NULL")]


class TimeBillForCustomer(TimeBill):
    """A time bill for a customer's user."""

    xero: _XeroForCustomer


class EnrichedForCustomer(EnrichedTimeBill):
    """The same with names; it does not say whether an entry overlaps another customer's."""

    xero: _XeroForCustomer

    overlapping_entries: Annotated[int | None, Sql("NULL::int")]


BILLS = VersionedTable("time bill", TimeBill, "time_bills")

# Literals, not parameters: some statuses have partial indexes, and a generic plan cannot use these.
STATUS_CONDITIONS = {
    "pending": "b.status = 'pending'",
    "approved": "b.status = 'approved'",
    "rejected": "b.status = 'rejected'",
}


@dataclass(frozen=True)
class BillFilter:
    """The filters of a list of bills. Dates are inclusive; `customer` is an id or an exact name in any case."""

    user_id: UUID | None = None
    customer: str | None = None
    pillar_id: UUID | None = None
    status: Status | None = None
    xero_status: Collection[XeroStatus] | None = None  # any of these
    start_date: date | None = None
    end_date: date | None = None


class BillScope(Body):
    """The bills of some days, of one customer, of one user. A field that is left out means all. Dates are inclusive."""

    start_date: Annotated[Day | None, Field(examples=["2026-01-01"])] = None
    end_date: Annotated[Day | None, Field(examples=["2026-12-31"])] = None
    customer_id: UUID | None = None
    user_id: UserId | None = None


def scope_condition(alias: str, scope: Mapping[str, Any]) -> str:
    """SQL condition for the fields of a BillScope that are set. Their values are bound by the names of the fields.

    The rows of `alias` have a date, a customer and a user.
    """
    conditions = {
        "start_date": f"{alias}.date >= %(start_date)s",
        "end_date": f"{alias}.date <= %(end_date)s",
        "customer_id": f"{alias}.customer_id = %(customer_id)s",
        "user_id": f"{alias}.user_id = %(user_id)s",
    }
    return " AND ".join(["true", *(text for name, text in conditions.items() if scope.get(name) is not None)])


def _visible_to(user: User, *, enrich: bool = False) -> Selection:
    if user.is_internal:
        model: type[TimeBill] = EnrichedTimeBill if enrich else TimeBill
    else:
        model = EnrichedForCustomer if enrich else TimeBillForCustomer
    selection = Selection("time bill", model, "time_bills", "b", Order("date", "date"))
    selection.where("b.deleted_at IS NULL")
    if not user.is_internal:
        selection.where("b.customer_id = %(own_customer)s AND b.status = 'approved'", own_customer=user.customer_id)
    return selection


async def get(conn: Connection, bill_id: UUID, *, user: User) -> bytes:
    """The bill as JSON. Raises NotFound when there is none that this user may see."""
    return await _visible_to(user).one(conn, bill_id)


async def list_page(conn: Connection, page: Page, filters: BillFilter, *, user: User, enrich: bool = False) -> bytes:
    """The bills this user may see, newest day first. Raises Forbidden for a filter that is not for customers' users."""
    return await (await select(conn, filters, user=user, enrich=enrich)).page(conn, page)


async def select(conn: Connection, filters: BillFilter, *, user: User, enrich: bool = False) -> Selection:
    """The bills `b` that match the filters and that this user may see. Raises Forbidden for a filter that customers' users may
    not use."""
    selection = _visible_to(user, enrich=enrich)
    if filters.user_id is not None:
        selection.where("b.user_id = %(user)s", user=filters.user_id)
    if filters.customer is not None:
        await filter_by_customer(conn, selection, filters.customer)
    if filters.pillar_id is not None:
        selection.where("b.pillar_id = %(pillar)s", pillar=filters.pillar_id)
    if filters.status is not None:
        selection.where(STATUS_CONDITIONS[filters.status])
    if filters.xero_status is not None:
        if not user.is_internal:
            raise Forbidden("Only the firm's own people list bills by xeroStatus.")
        selection.where(_xero_status_condition(filters.xero_status))
    if filters.start_date is not None:
        selection.where("b.date >= %(start_date)s", start_date=filters.start_date)
    if filters.end_date is not None:
        selection.where("b.date <= %(end_date)s", end_date=filters.end_date)
    return selection


def _xero_status_condition(statuses: Collection[XeroStatus]) -> str:
    # Literals, as in STATUS_CONDITIONS. A synced bill always has the time, on which there is an index.
    return f"({' OR '.join(_XERO_STATUS_CONDITIONS[status] for status in get_args(XeroStatus) if status in statuses)})"


_XERO_STATUS_CONDITIONS = {status: f"b.xero_status = '{status}'" for status in get_args(XeroStatus)} | {
    "synced": "(b.xero_status = 'synced' AND b.xero_synced_at IS NOT NULL)"
}

"""Approving many time bills in one transaction: only those that have not changed since the client read them."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Row, Version, json_object
from schemas.errors import Invalid
from schemas.hours.bill_approval import NEEDS_RECHECK, approve, find_empty, why_not_approved
from schemas.hours.bill_sums import recalculate
from schemas.hours.firm_days import check_days, get_today
from schemas.hours.time_bills import BillScope, TimeBill, scope_condition
from schemas.identity.users import User
from schemas.postgres import sync_start
from schemas.postgres.connection import Connection

MAX_BILLS = 1000
UNKNOWN = "There is no such time bill."
CHANGED = "The bill has changed since you read it; check its figures again."


class SeenBill(Body):
    """A bill, with the version that you read."""

    id: UUID
    version: Version


class SeenList(BillScope):
    """The filter of the list of time bills that you read; dates are inclusive."""


class BatchApproval(Body):
    """Either `bills`, each with the version that you read, or `filter` with the `syncTimestamp` of the list that you read."""

    bills: Annotated[
        list[SeenBill] | None,
        Field(min_length=1, max_length=MAX_BILLS, examples=[[{"id": "0b8f3f0e-1d2c-4b5a-8e6f-7a9b0c1d2e3f", "version": 3}]]),
    ] = None
    filter: SeenList | None = None
    sync_timestamp: Annotated[str | None, Field(max_length=100, description="of the first page of that list")] = None


class BatchResult(Row):
    """The result for one bill."""

    id: UUID
    result: Literal["approved", "skipped"]
    reason: Annotated[str | None, Field(description="why it was skipped")] = None
    current: Annotated[TimeBill | None, Field(description="a skipped bill as it is now")] = None
    overlapping_entries: Annotated[
        int, Field(description="how many of its entries have the flag `overlap`, and may be billed to somebody else too")
    ] = 0


class BatchAnswer(Row):
    """The result for each bill, in the order of the request."""

    approved: int
    skipped: int
    results: list[BatchResult]


@dataclass(frozen=True)
class _LockedBill:
    """A locked bill; `recheck`: see NEEDS_RECHECK; `changed`: since the client read it."""

    id: UUID
    recheck: bool
    changed: bool


async def approve_all(conn: Connection, body: BatchApproval, *, by: User, zone: str) -> BatchAnswer:
    """Approves the bills that have not changed since the client read them, and returns the reason for each skipped one. Raises
    Invalid for fields that contradict each other, and for more than MAX_BILLS bills."""
    _check(body)
    if body.bills is not None:
        order = [bill.id for bill in body.bills]
        locked = await _lock_seen(conn, body.bills)
    else:
        locked = await _lock_listed(conn, body)
        order = list(locked)
    # the client has not read a sum that is recalculated now, either
    sums = await recalculate(conn, [bill_id for bill_id, bill in locked.items() if bill.recheck and not bill.changed])
    changed = {bill_id for bill_id, bill in locked.items() if bill.changed} | {s.bill_id for s in sums if s.before != s.after}
    approved = await approve(conn, locked.keys() - changed, by=by, zone=zone)
    current = await _current(conn, [bill_id for bill_id in order if bill_id not in approved])
    empty = await find_empty(conn, current.keys())
    today, overlapping = await get_today(conn, zone), await _count_overlapping(conn, order)
    results = [
        BatchResult(id=bill_id, result="approved", overlapping_entries=overlapping.get(bill_id, 0))
        if bill_id in approved
        else _skipped(
            bill_id, current.get(bill_id), changed=bill_id in changed, today=today, empty=bill_id in empty
        ).model_copy(update={"overlapping_entries": overlapping.get(bill_id, 0)})
        for bill_id in order
    ]
    return BatchAnswer(approved=len(approved), skipped=len(order) - len(approved), results=results)


def _check(body: BatchApproval) -> None:
    if (body.bills is None) == (body.filter is None):
        raise Invalid("", "Send either bills, or filter and syncTimestamp.")
    if (body.filter is None) != (body.sync_timestamp is None):
        raise Invalid(
            "syncTimestamp", "Send filter together with the syncTimestamp of the list that you read; send bills without it."
        )
    if body.filter is not None:
        check_days(body.filter.start_date, body.filter.end_date, path="filter.endDate")
    if body.bills is not None and len({bill.id for bill in body.bills}) < len(body.bills):
        raise Invalid("bills", "The list contains a bill twice.")


async def _lock_seen(conn: Connection, bills: list[SeenBill]) -> dict[UUID, _LockedBill]:
    found = await conn.all(
        f"""
        SELECT id, {NEEDS_RECHECK}, version FROM time_bills
        WHERE id = ANY(%s) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE
        """,
        ([bill.id for bill in bills],),
    )
    seen = {bill.id: bill.version for bill in bills}
    return {bill_id: _LockedBill(bill_id, recheck, version != seen[bill_id]) for bill_id, recheck, version in found}


async def _lock_listed(conn: Connection, body: BatchApproval) -> dict[UUID, _LockedBill]:
    """The bills of the list that are pending, and those that were pending when the client read it."""
    assert body.filter is not None and body.sync_timestamp is not None
    since, unknown = await sync_start.parse_cursor(conn, body.sync_timestamp, field="syncTimestamp")
    if unknown or since.time is not None:  # a time does not tell which transactions were uncommitted when the list was read
        raise Invalid("syncTimestamp", "This is not the syncTimestamp of a list from this server; read the list again.")
    filters = body.filter.model_dump(exclude_none=True)
    locked = await conn.all(
        f"""
        SELECT b.id, {NEEDS_RECHECK} AS recheck, {since.condition("b")} AS changed FROM time_bills b
        WHERE b.deleted_at IS NULL AND {scope_condition("b", filters)} AND (b.status = 'pending' OR {since.condition("b")})
        ORDER BY b.id LIMIT {MAX_BILLS + 1} FOR NO KEY UPDATE
        """,
        filters | since.parameters,
        row=_LockedBill,
    )
    if len(locked) > MAX_BILLS:
        raise Invalid("filter", f"More than {MAX_BILLS:,} bills match; narrow the filter, for example to fewer days.")
    return {bill.id: bill for bill in locked}


async def _current(conn: Connection, bill_ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    query = f"SELECT b.id, {json_object(TimeBill, 'b')} FROM time_bills b WHERE b.id = ANY(%s) AND b.deleted_at IS NULL"
    return dict(await conn.all(query, (bill_ids,)))


async def _count_overlapping(conn: Connection, bill_ids: list[UUID]) -> dict[UUID, int]:
    """How many entries with the flag `overlap` are on these bills; bills without such entries are left out."""
    query = """
        SELECT bill_id, count(*) FROM time_entries
        WHERE bill_id = ANY(%s) AND deleted_at IS NULL AND overlap GROUP BY bill_id
    """
    return dict(await conn.all(query, (bill_ids,)))


def _skipped(bill_id: UUID, current: dict[str, Any] | None, *, changed: bool, today: date, empty: bool) -> BatchResult:
    if current is None:
        return BatchResult(id=bill_id, result="skipped", reason=UNKNOWN)
    reason = CHANGED if changed and current["status"] != "approved" else why_not_approved(current, today=today, empty=empty)
    return BatchResult(id=bill_id, result="skipped", reason=reason, current=TimeBill.model_validate(current))

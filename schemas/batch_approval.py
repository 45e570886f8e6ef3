"""Approving many time bills at once: only those that are still as they were seen, all in one transaction."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas import changes
from schemas.approval import approve, why_not_approved
from schemas.base import Body, Day, Row, Version, json_object
from schemas.billing import sum_again
from schemas.database import Connection
from schemas.errors import Invalid
from schemas.time_bills import TimeBill
from schemas.users import User

MOST = 1000
UNKNOWN = "There is no such time bill."
CHANGED = "The bill has changed since it was seen; look at its figures again."


class SeenBill(Body):
    """A bill in the version that was looked at."""

    id: UUID
    version: Version


class SeenList(Body):
    """The filter of a list of time bills that was looked at; dates are inclusive."""

    start_date: Day | None = None
    end_date: Day | None = None
    customer_id: UUID | None = None
    user_id: UUID | None = None


class BatchApproval(Body):
    """Either `bills`, each in the version that was seen, or `filter` and the `syncTimestamp` of the list that was seen."""

    bills: Annotated[
        list[SeenBill] | None,
        Field(min_length=1, max_length=MOST, examples=[[{"id": "0b8f3f0e-1d2c-4b5a-8e6f-7a9b0c1d2e3f", "version": 3}]]),
    ] = None
    filter: SeenList | None = None
    sync_timestamp: Annotated[str | None, Field(max_length=100, description="of the first page of that list")] = None


class BatchResult(Row):
    """What became of one bill."""

    id: UUID
    result: Literal["approved", "skipped"]
    reason: Annotated[str | None, Field(description="why it was skipped")] = None
    current: Annotated[TimeBill | None, Field(description="a skipped bill as it is now")] = None


class BatchAnswer(Row):
    """What became of each bill, in the order of the request."""

    approved: int
    skipped: int
    results: list[BatchResult]


@dataclass(frozen=True)
class _Locked:
    """A bill under its lock; `changed` says that it is no longer what was seen."""

    stale: bool
    changed: bool


async def approve_all(conn: Connection, wanted: BatchApproval, *, by: User, zone: str) -> BatchAnswer:
    """Approves what is still as it was seen; whatever else is skipped, with the reason. Raises Invalid for a request that makes
    no sense, or more bills than one request may approve."""
    _check(wanted)
    if wanted.bills is not None:
        order = [bill.id for bill in wanted.bills]
        locked = await _lock_seen(conn, wanted.bills)
    else:
        locked = await _lock_listed(conn, wanted)
        order = list(locked)
    # what a new sum changes was not seen either
    summed = await sum_again(conn, [bill_id for bill_id, bill in locked.items() if bill.stale and not bill.changed])
    changed = {bill_id for bill_id, bill in locked.items() if bill.changed} | {s.bill_id for s in summed if s.before != s.after}
    approved = await approve(conn, locked.keys() - changed, by=by, zone=zone)
    current = await _current(conn, [bill_id for bill_id in order if bill_id not in approved])
    results = [
        BatchResult(id=bill_id, result="approved")
        if bill_id in approved
        else _skipped(bill_id, current.get(bill_id), changed=bill_id in changed)
        for bill_id in order
    ]
    return BatchAnswer(approved=len(approved), skipped=len(order) - len(approved), results=results)


def _check(wanted: BatchApproval) -> None:
    if (wanted.bills is None) == (wanted.filter is None):
        raise Invalid("", "Send either bills, or filter and syncTimestamp.")
    if (wanted.filter is None) != (wanted.sync_timestamp is None):
        raise Invalid("syncTimestamp", "A filter goes with the syncTimestamp of the list that was seen, and bills without one.")
    chosen = wanted.filter
    if chosen and chosen.start_date and chosen.end_date and chosen.end_date < chosen.start_date:
        raise Invalid("filter.endDate", "endDate lies before startDate.")
    if wanted.bills is not None and len({bill.id for bill in wanted.bills}) < len(wanted.bills):
        raise Invalid("bills", "A bill stands there twice.")


async def _lock_seen(conn: Connection, bills: list[SeenBill]) -> dict[UUID, _Locked]:
    cursor = await conn.execute(
        "SELECT id, stale, version FROM time_bills WHERE id = ANY(%s) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
        ([bill.id for bill in bills],),
    )
    seen = {bill.id: bill.version for bill in bills}
    return {bill_id: _Locked(stale, version != seen[bill_id]) for bill_id, stale, version in await cursor.fetchall()}


async def _lock_listed(conn: Connection, wanted: BatchApproval) -> dict[UUID, _Locked]:
    """The bills of the list that are pending, and those that no longer are and were when it was seen."""
    assert wanted.filter is not None and wanted.sync_timestamp is not None
    since, unknown = await changes.read(conn, wanted.sync_timestamp, field="syncTimestamp")
    if unknown or since.time is not None:  # a time does not tell what was still being written when the list was read
        raise Invalid("syncTimestamp", "This is not the syncTimestamp of a list that was read here; read it again.")
    conditions = {
        "start_date": "b.date >= %(start_date)s",
        "end_date": "b.date <= %(end_date)s",
        "customer_id": "b.customer_id = %(customer_id)s",
        "user_id": "b.user_id = %(user_id)s",
    }
    filters = wanted.filter.model_dump(exclude_none=True)
    chosen = " AND ".join(["b.deleted_at IS NULL", *(conditions[name] for name in filters)])
    cursor = await conn.execute(
        f"""
        SELECT b.id, b.stale, {since.of("b")} FROM time_bills b
        WHERE {chosen} AND (b.status = 'pending' OR {since.of("b")}) ORDER BY b.id LIMIT {MOST + 1} FOR NO KEY UPDATE
        """.encode(),
        filters | since.parameters,
    )
    locked = {bill_id: _Locked(stale, changed) for bill_id, stale, changed in await cursor.fetchall()}
    if len(locked) > MOST:
        raise Invalid("filter", f"More than {MOST:,} bills are meant; narrow the filter, by days for example.")
    return locked


async def _current(conn: Connection, bill_ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    cursor = await conn.execute(
        f"SELECT b.id, {json_object(TimeBill, 'b')} FROM time_bills b WHERE b.id = ANY(%s) AND b.deleted_at IS NULL".encode(),
        (bill_ids,),
    )
    return dict(await cursor.fetchall())


def _skipped(bill_id: UUID, current: dict[str, Any] | None, *, changed: bool) -> BatchResult:
    if current is None:
        return BatchResult(id=bill_id, result="skipped", reason=UNKNOWN)
    reason = CHANGED if changed and current["status"] == "pending" else why_not_approved(current)
    return BatchResult(id=bill_id, result="skipped", reason=reason, current=TimeBill.model_validate(current))

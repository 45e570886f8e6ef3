"""An admin's choice to leave in Xero what somebody has changed in the time entries of bills."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Row
from schemas.hours.time_bills import InXero
from schemas.identity.users import User
from schemas.outbox.dead_letters.actions import Reason
from schemas.postgres.connection import Connection
from schemas.xero.sending import MAX_BILLS, SelectedBills, selected


class BillsToAccept(Body):
    """Either `ids`, or `filter`; an empty filter selects all bills that differ from their time entries in Xero."""

    ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MAX_BILLS)] = None
    filter: SelectedBills | None = None
    reason: Reason


class AcceptResult(Row):
    """The result for one bill."""

    id: UUID
    result: Literal["accepted", "skipped"]
    minutes: Annotated[int | None, Field(description="the minutes in Xero that were accepted; 0 for a deleted entry")] = None
    reason: Annotated[str | None, Field(description="why it was skipped")] = None


class AcceptAnswer(Row):
    """The result for each bill, in the order of the request."""

    accepted: Annotated[int, Field(description="bills that are synced now, with what is in Xero")]
    skipped: int
    remaining: Annotated[
        int, Field(description=f"bills that match the filter beyond these {MAX_BILLS:,}: repeat the request for them")
    ]
    results: list[AcceptResult]


@dataclass(frozen=True)
class _LockedBill:
    """A locked bill: its status, what it shows of its entry, and whether a message calls Xero for it at this moment."""

    id: UUID
    status: str
    shown: InXero | None
    is_accepted: bool
    is_called: bool


async def accept_selected(conn: Connection, body: BillsToAccept, *, by: User) -> AcceptAnswer:
    """Accepts what is in Xero for the bills that the request selects, in the caller's transaction. Safe to call twice: a bill
    that is accepted already is skipped. Raises Invalid unless the request has either ids or a filter."""
    bill_ids, remaining = await selected(conn, body.ids, body.filter, status="differs")
    locked = {bill.id: bill for bill in await _lock(conn, bill_ids)}
    results = [await _accept(conn, bill_id, locked.get(bill_id), reason=body.reason, by=by) for bill_id in bill_ids]
    accepted = sum(result.result == "accepted" for result in results)
    return AcceptAnswer(accepted=accepted, skipped=len(results) - accepted, remaining=remaining, results=results)


async def _lock(conn: Connection, bill_ids: Collection[UUID]) -> list[_LockedBill]:
    """Locks the bills, and after them what is known of their entries."""
    rows = await conn.all(
        """
        SELECT id, xero_status, xero_difference, xero_accepted IS NOT NULL FROM time_bills
        WHERE id = ANY(%s) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE
        """,
        (list(bill_ids),),
    )
    ids = [bill_id for bill_id, *_ in rows]
    called = await conn.values(
        """
        SELECT e.bill_id FROM xero_entries e
        WHERE e.bill_id = ANY(%s) AND EXISTS (SELECT FROM messages m WHERE m.id = e.claimed_by AND m.state = 'calling')
        """,
        (ids,),
    )
    return [
        _LockedBill(bill_id, status, shown and InXero.model_validate(shown), is_accepted, bill_id in called)
        for bill_id, status, shown, is_accepted in rows
    ]


async def _accept(conn: Connection, bill_id: UUID, bill: _LockedBill | None, *, reason: str, by: User) -> AcceptResult:
    if bill is None:
        return _skipped(bill_id, "There is no such time bill.")
    if bill.is_accepted:
        return _skipped(bill_id, "It is accepted already.")
    if bill.shown is None or bill.status not in ("differs", "failed"):
        return _skipped(bill_id, f"It does not differ from its time entry in Xero: its Xero status is {bill.status}.")
    if bill.is_called:
        return _skipped(bill_id, "Its time entry is being read or written in Xero at this moment; try again.")
    await _record(conn, bill_id, bill.shown, reason=reason, by=by)
    return AcceptResult(id=bill_id, result="accepted", minutes=bill.shown.minutes)


def _skipped(bill_id: UUID, why: str) -> AcceptResult:
    return AcceptResult(id=bill_id, result="skipped", reason=why)


async def _record(conn: Connection, bill_id: UUID, shown: InXero, *, reason: str, by: User) -> None:
    await conn.execute("UPDATE xero_entries SET accepted = true, overwrite = false WHERE bill_id = %s", (bill_id,))
    await conn.execute(
        """
        UPDATE time_bills SET xero_status = 'synced', xero_error = NULL, xero_synced_at = clock_timestamp(), xero_accepted =
            jsonb_build_object('minutes', %(minutes)s::int, 'reason', %(reason)s::text, 'by', %(by)s::text, 'at',
                to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        WHERE id = %(bill)s
        """,
        {"minutes": shown.minutes, "reason": reason, "by": by.email or str(by.id), "bill": bill_id},
    )

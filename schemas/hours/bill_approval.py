"""Approval of time bills: the transitions of a bill's status, each under the bill's lock.

pending → approved | rejected        by an admin
rejected → pending                   by an admin; by a change of one of its entries or its memo; by late time
rejected → approved                  by an admin, who accepts the bill after all: its owner may have left
approved → pending                   by an admin, who reopens it; if it is in Xero, once its entry there is deleted, and until
                                     then an admin can approve it again
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from schemas import names
from schemas.base import Body, SchemaKeyword, Text, Version
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.hours import bill_reopening
from schemas.hours.bill_sums import recalculate, reopen_rejected
from schemas.hours.firm_days import get_today
from schemas.hours.time_bills import BILLS, Status, TimeBill, XeroStatus
from schemas.identity.users import User
from schemas.messages import SyncBill, TellRejection
from schemas.outbox import outbox
from schemas.postgres.connection import Connection

# SQL condition: the bill's sum is recalculated before a decision. A process of an earlier version that moves the last entry
# away leaves a bill of 0 seconds, without marking it as stale and without a tombstone.
NEEDS_RECHECK = "(stale OR seconds = 0)"
MADE_PENDING = "A memo makes a rejected bill pending: send rejectionNote without memo, or with status rejected."


RejectionNote = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=2000),
    AfterValidator(names.check_visible),
    SchemaKeyword("pattern", names.HAS_VISIBLE),  # the owner reads it
]


class TimeBillChange(Body):
    """`memo` can be written by the bill's owner, `status` and `rejectionNote` by an admin. If one field is not allowed, nothing
    changes."""

    memo: Annotated[Text | None, Field(examples=["Moved the mail server"])] = None
    status: Annotated[
        Status | None,
        Field(
            description="`approved` for a pending or rejected bill, and for one that is being withdrawn from Xero; `rejected`"
            " for a pending one; `pending` reopens an approved one, and takes back a rejection",
            examples=["approved"],
        ),
    ] = None
    rejection_note: Annotated[RejectionNote | None, Field(description="why; required to reject")] = None
    version: Version | None = None


@dataclass(frozen=True)
class _LockedBill:
    """The columns of a bill that a transition needs, read under the bill's lock."""

    user_id: UUID
    status: Status
    xero_status: XeroStatus
    recheck: bool  # NEEDS_RECHECK
    version: int


async def change(
    conn: Connection, bill_id: UUID, patch: TimeBillChange, *, by: User, zone: str
) -> TimeBill | Conflict | NotFound:
    """Writes the memo, approves, rejects or reopens: everything in `patch`, or nothing. Returns the bill, or an error.

    Two errors are returned and not raised, so that the caller commits:

    - Conflict: the bill's state does not allow the transition, or the version is not the present one.
    - NotFound: the bill is empty after its sum was recalculated.

    The reason for the commit: the sum of a stale bill was recalculated, and the Conflict contains the bill with this sum and
    its new version. After a rollback, other figures could get the same version, and somebody could approve them unseen.

    Raises NotFound for an unknown bill, Forbidden for what this user may not change, and Invalid for fields that contradict
    each other.
    """
    _check(patch)
    if patch.status == "pending":
        await bill_reopening.lock_for_reopening(conn, bill_id)
    bill = await _lock(conn, bill_id)
    if patch.memo is not None and by.id != bill.user_id:
        raise Forbidden("Only its owner can write the memo of a time bill.")
    if (patch.status or patch.rejection_note) and not by.is_admin:
        raise Forbidden("Only an admin can approve, reject or reopen a time bill.")
    if bill.recheck:
        # A new sum is a new version: a client that has read the old figures gets 409 instead of approving the new ones.
        if any(change.removed for change in await recalculate(conn, [bill_id])):
            return NotFound("There is no such time bill: its last entry is gone.")
        bill = await _lock(conn, bill_id)
    try:
        async with conn.transaction():
            await _change(conn, bill_id, bill, patch, by=by, zone=zone)
    except Conflict as refusal:
        return Conflict(refusal.detail, current=await BILLS.current(conn, bill_id))
    return TimeBill.model_validate(await BILLS.current(conn, bill_id))


async def _change(conn: Connection, bill_id: UUID, bill: _LockedBill, patch: TimeBillChange, *, by: User, zone: str) -> None:
    if patch.version is not None and patch.version != bill.version:
        raise Conflict("The bill has changed since you read it; check its figures again.")
    if patch.memo is not None:
        await _write_memo(conn, bill_id, bill, patch.memo)
    match patch.status:
        case "approved":
            if not await approve(conn, [bill_id], by=by, zone=zone):
                current, today = await BILLS.current(conn, bill_id), await get_today(conn, zone)
                raise Conflict(why_not_approved(current, today=today, empty=bool(await find_empty(conn, [bill_id]))))
        case "rejected":
            await _reject(conn, bill_id, patch.rejection_note or "", by=by)
        case "pending":
            await _reopen(conn, bill_id, bill, by=by)
        case None if patch.rejection_note is not None and patch.memo is not None and bill.status == "rejected":
            raise Invalid("rejectionNote", MADE_PENDING)
        case None if patch.rejection_note is not None:
            await _rewrite_rejection(conn, bill_id, patch.rejection_note)


def _check(patch: TimeBillChange) -> None:
    if patch.memo is None and patch.status is None and patch.rejection_note is None:
        raise Invalid("", "Send at least one of memo, status and rejectionNote.")
    if patch.status == "rejected" and patch.rejection_note is None:
        raise Invalid("rejectionNote", "Send the reason as rejectionNote: the owner needs it to correct the bill.")
    if patch.status in ("approved", "pending") and patch.rejection_note is not None:
        raise Invalid("rejectionNote", "Send rejectionNote only with status rejected.")


async def _lock(conn: Connection, bill_id: UUID) -> _LockedBill:
    bill = await conn.maybe(
        f"""
        SELECT user_id, status, xero_status, {NEEDS_RECHECK} AS recheck, version
        FROM time_bills WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
        """,
        (bill_id,),
        row=_LockedBill,
    )
    if bill is None:
        raise NotFound("There is no such time bill.")
    return bill


async def _write_memo(conn: Connection, bill_id: UUID, bill: _LockedBill, memo: str) -> None:
    if bill.status == "approved":
        raise Conflict("An approved time bill cannot be changed; an admin can reopen it.")
    await conn.execute(
        "UPDATE time_bills SET memo = %s, status = 'pending', rejection_note = NULL, version = version + 1 WHERE id = %s",
        (memo, bill_id),
    )


async def approve(conn: Connection, bill_ids: Collection[UUID], *, by: User, zone: str) -> set[UUID]:
    """Approves those of the bills that can be approved, enqueues their sync to Xero, and returns their ids.

    A bill of 0 minutes gets no entry in Xero, so nothing is enqueued for it. The withdrawal of a bill from Xero is cancelled:
    the bill stays approved.

    In earlier statements, the caller has locked the bills, and recalculated those that need it.
    """
    # approved_at is clock_timestamp(), not now(): this transaction may have started before the one whose lock it waited for
    approved = await conn.all(
        """
        UPDATE time_bills b
        SET status = 'approved', rejection_note = NULL, approved_by = %(by)s, approved_at = clock_timestamp(),
            approved_seconds = seconds,
            xero_status = CASE WHEN minutes = 0 THEN 'none'
                WHEN EXISTS (SELECT FROM xero_connection WHERE tenant_id IS NOT NULL) THEN 'queued'
                ELSE 'not_connected' END,
            version = version + 1
        WHERE id = ANY(%(ids)s) AND status IN ('pending', 'rejected') AND deleted_at IS NULL
            AND EXISTS (SELECT FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL)
            AND date <= (clock_timestamp() AT TIME ZONE %(zone)s)::date AND NOT EXISTS (
            SELECT FROM timers r JOIN tasks t ON t.id = r.task_id
            WHERE r.user_id = b.user_id AND t.customer_id = b.customer_id AND t.pillar_id = b.pillar_id
              AND (r.start_time AT TIME ZONE %(zone)s)::date = b.date)
        RETURNING id, minutes
        """,
        {"by": by.id, "ids": list(bill_ids), "zone": zone},
    )
    # Also if Xero is not connected: somebody may be connecting it at this moment, and only this message would notice.
    if billed := [bill_id for bill_id, minutes in approved if minutes]:
        await outbox.enqueue_many(conn, [SyncBill(bill_id=bill_id) for bill_id in billed], created_by=by.id)
    return {bill_id for bill_id, _ in approved} | set(await bill_reopening.cancel_withdrawals(conn, bill_ids, by=by))


async def find_empty(conn: Connection, bill_ids: Collection[UUID]) -> set[UUID]:
    """Those of the bills that have no entries."""
    query = """
        SELECT id FROM time_bills b WHERE id = ANY(%s)
            AND NOT EXISTS (SELECT FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL)
    """
    return set(await conn.values(query, (list(bill_ids),)))


def why_not_approved(bill: dict[str, Any], *, today: date, empty: bool) -> str:
    """Why the bill cannot be approved, as a sentence. `bill`: a `TimeBill` as JSON. `empty`: it has no entries."""
    if bill["status"] == "approved":
        return "The bill is approved already."
    if empty:
        return "No time entry is on the bill, so there is nothing to approve; a recompute of its day deletes it."
    if bill["date"] > today.isoformat():
        return f"The bill's day, {bill['date']}, has not come yet in the firm's time zone; approve it on that day or later."
    return "A timer is running for this bill's customer, pillar and day; approve the bill after the timer has stopped."


async def _reject(conn: Connection, bill_id: UUID, note: str, *, by: User) -> None:
    version: int | None = await conn.value(
        """
        UPDATE time_bills
        SET status = 'rejected', rejection_note = %s, version = version + 1, rejected_version = version + 1
        WHERE id = %s AND status = 'pending' RETURNING version
        """,
        (note, bill_id),
    )
    if version is None:
        current = await BILLS.current(conn, bill_id)
        raise Conflict(f"The bill is {current['status']}; only a pending bill can be rejected.")
    await outbox.enqueue(conn, SyncBill(bill_id=bill_id), created_by=by.id)
    await outbox.enqueue(conn, TellRejection(bill_id=bill_id, version=version, rejected_by=by.id), created_by=by.id)


async def _rewrite_rejection(conn: Connection, bill_id: UUID, note: str) -> None:
    rewritten = await conn.execute(
        "UPDATE time_bills SET rejection_note = %s, version = version + 1 WHERE id = %s AND status = 'rejected'",
        (note, bill_id),
    )
    if not rewritten.rowcount:
        raise Invalid("rejectionNote", "The bill is not rejected; to reject it, send status rejected with the note.")


async def _reopen(conn: Connection, bill_id: UUID, bill: _LockedBill, *, by: User) -> None:
    """Makes a rejected or approved bill pending. Raises Conflict for any other.

    An approved bill that may have an entry in Xero stays approved, and its time entries locked, until the entry is deleted.
    """
    if bill.status == "rejected":
        await reopen_rejected(conn, [bill_id])
        return
    if bill.status == "pending":
        raise Conflict("The bill is pending already.")
    if await bill_reopening.is_withdrawing(conn, bill_id) and bill.xero_status == "withdrawing":
        raise Conflict("The bill is being withdrawn from Xero; it is pending once its time entry there is deleted.")
    if not await bill_reopening.may_exist_in_xero(conn, bill_id):
        await bill_reopening.reopen(conn, bill_id)
        return
    await bill_reopening.withdraw(conn, bill_id)
    await conn.execute("UPDATE time_bills SET xero_status = 'withdrawing', xero_error = NULL WHERE id = %s", (bill_id,))
    await outbox.enqueue(conn, SyncBill(bill_id=bill_id), created_by=by.id)

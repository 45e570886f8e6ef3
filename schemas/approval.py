"""Approval: what a time bill's owner and an admin make of it. The transitions, each under the bill's lock.

pending → approved | rejected        by an admin
rejected → pending                   its owner changes an entry or the memo, or late time arrives
approved → pending                   an admin reopens it
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from schemas import ledger, reopening, xero_entries
from schemas.base import Body, Text, Version, json_object
from schemas.billing import sum_again
from schemas.database import Connection
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.messages import SyncBill
from schemas.time_bills import Status, TimeBill, XeroStatus
from schemas.users import User


class TimeBillChange(Body):
    """`memo` is its owner's to write, `status` and `rejectionNote` an admin's; if one is not allowed, nothing changes."""

    memo: Annotated[Text | None, Field(examples=["Moved the mail server"])] = None
    status: Annotated[
        Status | None,
        Field(
            description="`approved` or `rejected` for a pending bill; `pending` reopens an approved one", examples=["approved"]
        ),
    ] = None
    rejection_note: Annotated[
        str | None,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=2000),
        Field(description="why; needed to reject"),
    ] = None
    version: Version | None = None


@dataclass(frozen=True)
class _Bill:
    """The columns that a transition needs, read under the bill's lock."""

    user_id: UUID
    status: Status
    xero_status: XeroStatus
    stale: bool
    version: int


async def change(conn: Connection, bill_id: UUID, wanted: TimeBillChange, *, by: User, zone: str) -> TimeBill | Conflict:
    """Writes the memo, approves, rejects or reopens: all that is asked for, or nothing.

    A transition that the bill's state does not allow, or a stale version, is returned as a Conflict, not raised: the caller
    commits first. The new sum of a stale bill stands in it, with the version that this sum has; rolled back, the same version
    would be given to other figures, and be approved unseen. Raises Forbidden for what is not this user's to change, Invalid for
    a request that makes no sense.
    """
    _check(wanted)
    if wanted.status == "pending":
        await reopening.hold(conn, bill_id)
    bill = await _lock(conn, bill_id)
    if wanted.memo is not None and by.id != bill.user_id:
        raise Forbidden("Only its owner can write the memo of a time bill.")
    if (wanted.status or wanted.rejection_note) and not by.is_admin:
        raise Forbidden("Only an admin can approve, reject or reopen a time bill.")
    if bill.stale:
        # a new sum is a new version: who has seen the old figures has not seen what would be approved, and gets 409
        await sum_again(conn, [bill_id])
        bill = await _lock(conn, bill_id)
    try:
        async with conn.transaction():
            await _change(conn, bill_id, bill, wanted, by=by, zone=zone)
    except Conflict as refusal:
        return Conflict(refusal.detail, current=await _current(conn, bill_id))
    return TimeBill.model_validate(await _current(conn, bill_id))


async def _change(conn: Connection, bill_id: UUID, bill: "_Bill", wanted: TimeBillChange, *, by: User, zone: str) -> None:
    if wanted.version is not None and wanted.version != bill.version:
        raise Conflict("The bill has changed since you read it; look at its figures again.")
    if wanted.memo is not None:
        await _write_memo(conn, bill_id, bill, wanted.memo)
    match wanted.status:
        case "approved":
            if not await approve(conn, [bill_id], by=by, zone=zone):
                raise Conflict(why_not_approved(await _current(conn, bill_id)))
        case "rejected":
            await _reject(conn, bill_id, wanted.rejection_note or "", by=by)
        case "pending":
            await _reopen(conn, bill_id, bill, by=by)
        case None if wanted.rejection_note is not None:
            await _rewrite_rejection(conn, bill_id, wanted.rejection_note)


def _check(wanted: TimeBillChange) -> None:
    if wanted.memo is None and wanted.status is None and wanted.rejection_note is None:
        raise Invalid("", "Send at least one of memo, status and rejectionNote.")
    if wanted.status == "rejected" and wanted.rejection_note is None:
        raise Invalid("rejectionNote", "Say why the bill is rejected: its owner has to mend it.")
    if wanted.status in ("approved", "pending") and wanted.rejection_note is not None:
        raise Invalid("rejectionNote", "A rejectionNote goes with status rejected only.")


async def _lock(conn: Connection, bill_id: UUID) -> _Bill:
    cursor = await conn.execute(
        """
        SELECT user_id, status, xero_status, stale, version
        FROM time_bills WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
        """,
        (bill_id,),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such time bill.")
    return _Bill(*row)


async def _write_memo(conn: Connection, bill_id: UUID, bill: _Bill, memo: str) -> None:
    if bill.status == "approved":
        raise Conflict("An approved time bill is frozen; an admin can reopen it.")
    await conn.execute(
        "UPDATE time_bills SET memo = %s, status = 'pending', rejection_note = NULL, version = version + 1 WHERE id = %s",
        (memo, bill_id),
    )


async def approve(conn: Connection, bill_ids: Collection[UUID], *, by: User, zone: str) -> set[UUID]:
    """Freezes those of the bills that can be approved, promises that they go to Xero, and returns which. They are locked, and
    summed again where they were stale, in earlier statements.

    approved_at is the clock's, not now(): this transaction may have begun before one whose change it waited for."""
    cursor = await conn.execute(
        """
        UPDATE time_bills b
        SET status = 'approved', approved_by = %(by)s, approved_at = clock_timestamp(), approved_seconds = seconds,
            xero_status = CASE WHEN EXISTS (SELECT FROM xero_connection WHERE tenant_id IS NOT NULL)
                THEN 'queued' ELSE 'not_connected' END,
            version = version + 1
        WHERE id = ANY(%(ids)s) AND status = 'pending' AND minutes > 0 AND NOT EXISTS (
            SELECT FROM timers r JOIN tasks t ON t.id = r.task_id
            WHERE r.user_id = b.user_id AND t.customer_id = b.customer_id AND t.pillar_id = b.pillar_id
              AND (r.start_time AT TIME ZONE %(zone)s)::date = b.date)
        RETURNING id
        """,
        {"by": by.id, "ids": list(bill_ids), "zone": zone},
    )
    approved = {bill_id for (bill_id,) in await cursor.fetchall()}
    # also when Xero is not connected: it may just have been, and then this is who notices
    if approved:
        await ledger.put_all(conn, [SyncBill(bill_id=bill_id) for bill_id in approved], created_by=by.id)
    return approved


def why_not_approved(bill: dict[str, Any]) -> str:
    """Why a bill, as it is answered, cannot be approved."""
    if bill["status"] != "pending":
        return f"The bill is {bill['status']}; only a pending one can be approved."
    if bill["minutes"] == 0:
        return "The bill has no minutes to bill."
    return "A timer is running on this bill's customer, pillar and day; approve when it has stopped."


async def _reject(conn: Connection, bill_id: UUID, note: str, *, by: User) -> None:
    cursor = await conn.execute(
        """
        UPDATE time_bills SET status = 'rejected', rejection_note = %s, version = version + 1
        WHERE id = %s AND status = 'pending' RETURNING id
        """,
        (note, bill_id),
    )
    if await cursor.fetchone() is None:
        current = await _current(conn, bill_id)
        raise Conflict(f"The bill is {current['status']}; only a pending one can be rejected.")
    await ledger.put(conn, SyncBill(bill_id=bill_id), created_by=by.id)


async def _rewrite_rejection(conn: Connection, bill_id: UUID, note: str) -> None:
    cursor = await conn.execute(
        "UPDATE time_bills SET rejection_note = %s, version = version + 1 WHERE id = %s AND status = 'rejected' RETURNING id",
        (note, bill_id),
    )
    if await cursor.fetchone() is None:
        raise Invalid("rejectionNote", "The bill is not rejected; send status rejected with the note.")


async def _reopen(conn: Connection, bill_id: UUID, bill: _Bill, *, by: User) -> None:
    """approved → pending, at once if nothing of the bill is in Xero. Else it stays approved, and locked, until its entry there
    is gone."""
    if bill.status != "approved":
        raise Conflict(f"The bill is {bill.status}; only an approved one can be reopened.")
    if await xero_entries.is_withdrawing(conn, bill_id) and bill.xero_status == "withdrawing":
        raise Conflict("The bill is being withdrawn from Xero; it is pending once its time entry there is gone.")
    if not await xero_entries.may_exist(conn, bill_id):
        await reopening.reopen(conn, bill_id)
        return
    await xero_entries.withdraw(conn, bill_id)
    await conn.execute("UPDATE time_bills SET xero_status = 'withdrawing', xero_error = NULL WHERE id = %s", (bill_id,))
    await ledger.put(conn, SyncBill(bill_id=bill_id), created_by=by.id)


async def _current(conn: Connection, bill_id: UUID) -> dict[str, Any]:
    cursor = await conn.execute(f"SELECT {json_object(TimeBill, 'b')} FROM time_bills b WHERE b.id = %s".encode(), (bill_id,))
    row = await cursor.fetchone()
    assert row is not None
    current: dict[str, Any] = row[0]
    return current

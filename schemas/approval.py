"""Approval: what a time bill's owner and an admin make of it. The transitions, each under the bill's lock.

pending → approved | rejected        by an admin
rejected → pending                   its owner changes an entry or the memo, or late time arrives
approved → pending                   an admin reopens it
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from pydantic import Field, StringConstraints

from schemas import ledger
from schemas.base import Body, Text, Version, json_object
from schemas.billing import lock_user, sum_again
from schemas.database import Connection
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.messages import MoveEntries
from schemas.time_bills import Status, TimeBill
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
    customer_id: UUID
    pillar_id: UUID
    date: date
    status: Status
    memo: str
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
        await _hold_for_reopening(conn, bill_id)
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
            await _reject(conn, bill_id, wanted.rejection_note or "")
        case "pending":
            await _reopen(conn, bill_id, bill)
        case None if wanted.rejection_note is not None:
            await _rewrite_rejection(conn, bill_id, wanted.rejection_note)


def _check(wanted: TimeBillChange) -> None:
    if wanted.memo is None and wanted.status is None and wanted.rejection_note is None:
        raise Invalid("", "Send at least one of memo, status and rejectionNote.")
    if wanted.status == "rejected" and wanted.rejection_note is None:
        raise Invalid("rejectionNote", "Say why the bill is rejected: its owner has to mend it.")
    if wanted.status in ("approved", "pending") and wanted.rejection_note is not None:
        raise Invalid("rejectionNote", "A rejectionNote goes with status rejected only.")


async def _hold_for_reopening(conn: Connection, bill_id: UUID) -> None:
    """Reopening moves entries and may take in a second bill: their owner's row first, then their tasks, which stay where they
    are or have moved already, then both bills by id."""
    cursor = await conn.execute("SELECT user_id FROM time_bills WHERE id = %s", (bill_id,))
    if (row := await cursor.fetchone()) is None:
        return
    await lock_user(conn, row[0])
    await conn.execute(
        """
        SELECT id FROM tasks
        WHERE id IN (SELECT e.task_id FROM time_entries e WHERE e.bill_id = %s AND e.deleted_at IS NULL)
        ORDER BY id FOR SHARE
        """,
        (bill_id,),
    )
    await conn.execute(
        """
        SELECT id FROM time_bills
        WHERE id = %(id)s OR (status <> 'approved' AND deleted_at IS NULL AND (user_id, customer_id, pillar_id, date) =
            (SELECT user_id, customer_id, pillar_id, date FROM time_bills WHERE id = %(id)s))
        ORDER BY id FOR NO KEY UPDATE
        """,
        {"id": bill_id},
    )


async def _lock(conn: Connection, bill_id: UUID) -> _Bill:
    cursor = await conn.execute(
        """
        SELECT user_id, customer_id, pillar_id, date, status, memo, stale, version
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
    """Freezes those of the bills that can be approved, and returns which. They are locked, and summed again where they were
    stale, in earlier statements.

    approved_at is the clock's, not now(): this transaction may have begun before one whose change it waited for."""
    cursor = await conn.execute(
        """
        UPDATE time_bills b
        SET status = 'approved', approved_by = %(by)s, approved_at = clock_timestamp(), approved_seconds = seconds,
            xero_status = 'not_connected', version = version + 1
        WHERE id = ANY(%(ids)s) AND status = 'pending' AND minutes > 0 AND NOT EXISTS (
            SELECT FROM timers r JOIN tasks t ON t.id = r.task_id
            WHERE r.user_id = b.user_id AND t.customer_id = b.customer_id AND t.pillar_id = b.pillar_id
              AND (r.start_time AT TIME ZONE %(zone)s)::date = b.date)
        RETURNING id
        """,
        {"by": by.id, "ids": list(bill_ids), "zone": zone},
    )
    return {bill_id for (bill_id,) in await cursor.fetchall()}


def why_not_approved(bill: dict[str, Any]) -> str:
    """Why a bill, as it is answered, cannot be approved."""
    if bill["status"] != "pending":
        return f"The bill is {bill['status']}; only a pending one can be approved."
    if bill["minutes"] == 0:
        return "The bill has no minutes to bill."
    return "A timer is running on this bill's customer, pillar and day; approve when it has stopped."


async def _reject(conn: Connection, bill_id: UUID, note: str) -> None:
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


async def _rewrite_rejection(conn: Connection, bill_id: UUID, note: str) -> None:
    cursor = await conn.execute(
        "UPDATE time_bills SET rejection_note = %s, version = version + 1 WHERE id = %s AND status = 'rejected' RETURNING id",
        (note, bill_id),
    )
    if await cursor.fetchone() is None:
        raise Invalid("rejectionNote", "The bill is not rejected; send status rejected with the note.")


async def _reopen(conn: Connection, bill_id: UUID, bill: _Bill) -> None:
    """approved → pending, taking in the open bill that late time made for the same key, if there is one."""
    if bill.status != "approved":
        raise Conflict(f"The bill is {bill.status}; only an approved one can be reopened.")
    while True:
        absorbed = await _open_twin(conn, bill_id, bill)
        try:
            async with conn.transaction():
                await _absorb(conn, bill_id, absorbed)
            break
        except UniqueViolation:
            continue  # late time has just opened a bill for this key: take that one in, too
    await _catch_up(conn, bill_id)


async def _catch_up(conn: Connection, bill_id: UUID) -> None:
    """Tasks may have moved while the bill was approved: its entries follow them now. One that moves later finds it open."""
    cursor = await conn.execute(
        """
        SELECT DISTINCT t.id FROM time_entries e JOIN tasks t ON t.id = e.task_id
        WHERE e.bill_id = %s AND e.deleted_at IS NULL AND (e.customer_id, e.pillar_id) <> (t.customer_id, t.pillar_id)
        """,
        (bill_id,),
    )
    for (task_id,) in await cursor.fetchall():
        await ledger.put(conn, MoveEntries(task_id=task_id))


async def _open_twin(conn: Connection, bill_id: UUID, bill: _Bill) -> UUID | None:
    cursor = await conn.execute(
        """
        SELECT id FROM time_bills
        WHERE user_id = %s AND customer_id = %s AND pillar_id = %s AND date = %s
          AND status <> 'approved' AND deleted_at IS NULL AND id <> %s
        FOR NO KEY UPDATE
        """,
        (bill.user_id, bill.customer_id, bill.pillar_id, bill.date, bill_id),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def _absorb(conn: Connection, bill_id: UUID, absorbed: UUID | None) -> None:
    if absorbed is not None:
        await conn.execute(
            "UPDATE time_entries SET bill_id = %s, version = version + 1 WHERE bill_id = %s AND deleted_at IS NULL",
            (bill_id, absorbed),
        )
        await conn.execute(
            "UPDATE time_bills SET deleted_at = now(), seconds = 0, stale = false, version = version + 1 WHERE id = %s",
            (absorbed,),
        )
    await conn.execute(
        """
        UPDATE time_bills b
        SET status = 'pending', approved_by = NULL, approved_at = NULL, approved_seconds = NULL, xero_status = 'none',
            xero_error = NULL, version = version + 1,
            memo = concat_ws(E'\\n', nullif(b.memo, ''), nullif((SELECT memo FROM time_bills WHERE id = %s), ''))
        WHERE id = %s
        """,
        (absorbed, bill_id),
    )
    await sum_again(conn, [bill_id])


async def _current(conn: Connection, bill_id: UUID) -> dict[str, Any]:
    cursor = await conn.execute(f"SELECT {json_object(TimeBill, 'b')} FROM time_bills b WHERE b.id = %s".encode(), (bill_id,))
    row = await cursor.fetchone()
    assert row is not None
    current: dict[str, Any] = row[0]
    return current

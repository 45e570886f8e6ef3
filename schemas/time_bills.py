"""Time bills: one consultant's hours for one customer, pillar and day; approved or rejected by an admin, then frozen.

pending → approved | rejected        by an admin
rejected → pending                   its owner changes an entry or the memo, or late time arrives
approved → pending                   an admin reopens it
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from psycopg.errors import UniqueViolation
from pydantic import Field, StringConstraints

from schemas.base import Body, Row, Sql, Text, Version, json_object
from schemas.billing import lock_user, sum_again
from schemas.customers import of_customer
from schemas.database import Connection, one_json
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.listing import Listing, Order, Page
from schemas.users import User

Status = Literal["pending", "approved", "rejected"]
XeroStatus = Literal["none", "queued", "synced", "failed", "not_connected", "not_mapped", "withdrawing"]


class XeroState(Row):
    """Where an approved bill stands in Xero."""

    status: XeroStatus
    time_entry_id: str | None
    error: str | None
    synced_at: datetime | None


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
            """ 'syncedAt', to_char({t}.xero_synced_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))"""
        ),
    ]
    created_at: datetime
    updated_at: datetime
    version: int


class EnrichedTimeBill(TimeBill):
    """A time bill with the names behind its ids (`enrich=true`)."""

    customer_name: Annotated[str, Sql("(SELECT customer.name FROM customers customer WHERE customer.id = {t}.customer_id)")]
    pillar_name: Annotated[str, Sql("(SELECT pillar.name FROM pillars pillar WHERE pillar.id = {t}.pillar_id)")]
    user_name: Annotated[str, Sql("(SELECT person.name FROM users person WHERE person.id = {t}.user_id)")]
    user_email: Annotated[str, Sql("(SELECT person.email FROM users person WHERE person.id = {t}.user_id)")]


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
class BillFilter:
    """Which bills a list asks for. Dates are inclusive; `customer` is an id or an exact name in any case."""

    user_id: UUID | None = None
    customer: str | None = None
    status: Status | None = None
    start_date: date | None = None
    end_date: date | None = None


def _visible_to(user: User) -> tuple[str, dict[str, Any]]:
    if user.is_internal:
        return "b.deleted_at IS NULL", {}
    return (
        "b.deleted_at IS NULL AND b.customer_id = %(own_customer)s AND b.status = 'approved'",
        {"own_customer": user.customer_id},
    )


async def get(conn: Connection, bill_id: UUID, *, user: User) -> bytes:
    """The bill as JSON. Raises NotFound when there is none that this user may see."""
    visible, parameters = _visible_to(user)
    found = await one_json(
        conn,
        f"SELECT {json_object(TimeBill, 'b')} FROM time_bills b WHERE b.id = %(id)s AND {visible}",
        parameters | {"id": bill_id},
    )
    if found is None:
        raise NotFound("There is no such time bill, or it is not yours to see.")
    return found


async def list_page(conn: Connection, page: Page, chosen: BillFilter, *, user: User, enrich: bool = False) -> bytes:
    """The bills this user may see, newest day first."""
    visible, parameters = _visible_to(user)
    listing = Listing(EnrichedTimeBill if enrich else TimeBill, "time_bills", "b", Order("date", "date", "date"))
    listing.where(visible, **parameters)
    if chosen.user_id is not None:
        listing.where("b.user_id = %(user)s", user=chosen.user_id)
    if chosen.customer is not None:
        condition, customer = of_customer("b", chosen.customer)
        listing.where(condition, customer=customer)
    if chosen.status is not None:
        listing.where("b.status = %(status)s", status=chosen.status)
    if chosen.start_date is not None:
        listing.where("b.date >= %(start_date)s", start_date=chosen.start_date)
    if chosen.end_date is not None:
        listing.where("b.date <= %(end_date)s", end_date=chosen.end_date)
    return await listing.read(conn, page)


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


async def change(conn: Connection, bill_id: UUID, wanted: TimeBillChange, *, by: User, zone: str) -> TimeBill:
    """Writes the memo, approves, rejects or reopens: all that is asked for, or nothing.

    Raises Forbidden for what is not this user's to change, Conflict for a transition that the bill's state does not allow
    or a stale version, Invalid for a request that makes no sense.
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
    if wanted.version is not None and wanted.version != bill.version:
        raise Conflict(
            "The bill has changed since you read it; look at its figures again.", current=await _current(conn, bill_id)
        )
    if wanted.memo is not None:
        await _write_memo(conn, bill_id, bill, wanted.memo)
    match wanted.status:
        case "approved":
            await _approve(conn, bill_id, by=by, zone=zone)
        case "rejected":
            await _reject(conn, bill_id, wanted.rejection_note or "")
        case "pending":
            await _reopen(conn, bill_id, bill)
        case None if wanted.rejection_note is not None:
            await _rewrite_rejection(conn, bill_id, wanted.rejection_note)
    return TimeBill.model_validate(await _current(conn, bill_id))


def _check(wanted: TimeBillChange) -> None:
    if wanted.memo is None and wanted.status is None and wanted.rejection_note is None:
        raise Invalid("", "Send at least one of memo, status and rejectionNote.")
    if wanted.status == "rejected" and wanted.rejection_note is None:
        raise Invalid("rejectionNote", "Say why the bill is rejected: its owner has to mend it.")
    if wanted.status in ("approved", "pending") and wanted.rejection_note is not None:
        raise Invalid("rejectionNote", "A rejectionNote goes with status rejected only.")


async def _hold_for_reopening(conn: Connection, bill_id: UUID) -> None:
    """Reopening moves entries and may take in a second bill: their owner's row first, then both bills by id."""
    cursor = await conn.execute("SELECT user_id FROM time_bills WHERE id = %s", (bill_id,))
    if (row := await cursor.fetchone()) is None:
        return
    await lock_user(conn, row[0])
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
        raise Conflict("An approved time bill is frozen; an admin can reopen it.", current=await _current(conn, bill_id))
    await conn.execute(
        "UPDATE time_bills SET memo = %s, status = 'pending', rejection_note = NULL, version = version + 1 WHERE id = %s",
        (memo, bill_id),
    )


async def _approve(conn: Connection, bill_id: UUID, *, by: User, zone: str) -> None:
    """Freezes what it finds. The bill is locked, and summed again if it was stale, in earlier statements.

    approved_at is the clock's, not now(): this transaction may have begun before one whose change it waited for."""
    cursor = await conn.execute(
        """
        UPDATE time_bills b
        SET status = 'approved', approved_by = %(by)s, approved_at = clock_timestamp(), approved_seconds = seconds,
            xero_status = 'not_connected', version = version + 1
        WHERE id = %(id)s AND status = 'pending' AND minutes > 0 AND NOT EXISTS (
            SELECT FROM timers r JOIN tasks t ON t.id = r.task_id
            WHERE r.user_id = b.user_id AND t.customer_id = b.customer_id AND t.pillar_id = b.pillar_id
              AND (r.start_time AT TIME ZONE %(zone)s)::date = b.date)
        RETURNING id
        """,
        {"by": by.id, "id": bill_id, "zone": zone},
    )
    if await cursor.fetchone() is not None:
        return
    current = await _current(conn, bill_id)
    if current["status"] != "pending":
        raise Conflict(f"The bill is {current['status']}; only a pending one can be approved.", current=current)
    if current["minutes"] == 0:
        raise Conflict("The bill has no minutes to bill.", current=current)
    raise Conflict("A timer is running on this bill's customer, pillar and day; approve when it has stopped.", current=current)


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
        raise Conflict(f"The bill is {current['status']}; only a pending one can be rejected.", current=current)


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
        raise Conflict(
            f"The bill is {bill.status}; only an approved one can be reopened.", current=await _current(conn, bill_id)
        )
    while True:
        absorbed = await _open_twin(conn, bill_id, bill)
        try:
            async with conn.transaction():
                await _absorb(conn, bill_id, absorbed)
                return
        except UniqueViolation:
            continue  # late time has just opened a bill for this key: take that one in, too


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
            "UPDATE time_entries SET bill_id = %s, version = version + 1 WHERE bill_id = %s", (bill_id, absorbed)
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

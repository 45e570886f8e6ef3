"""Syncs a time bill to Xero, one call at a time.

`lock_bill` locks the bill. `plan_call` plans the call. After the call, `plan_next` plans the next step.

The locks are taken in this order: the message, the connection to Xero, the bill's owner (for a reopening), the customer, tasks,
bills, the bill's row in `xero_entries`, the organisation's row in `xero_tenants`.
"""

import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.customers import customers
from schemas.hours import bill_reopening
from schemas.identity.users import lock_user
from schemas.messages import QueueBills
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import backlog, entry_records, rate_limits, tokens, users
from schemas.xero.access import loss
from schemas.xero.differences import alerts, showing
from schemas.xero.entry_records import EntryRecord
from schemas.xero.next_step import Bill, decide
from schemas.xero.planning import unknown_entries
from schemas.xero.planning.certainty import max_call_seconds
from schemas.xero.planning.steps import Call, CallKind, Done, Step, Wait
from schemas.xero.rate_limits import NoSlot
from schemas.xero.tokens import Access
from schemas.xero.users import USERS_SECONDS, UsersCall


@dataclass(frozen=True)
class LockedBill:
    """A locked bill, and the access to Xero."""

    bill: Bill
    access: Access | None  # None: Stint is not connected to Xero, or has no access any more
    for_reopening: bool  # the rows that a reopening changes are locked, too
    no_access: str | None = None  # why Xero gives no access to the connected organisation


@dataclass(frozen=True)
class PendingCall:
    """A call that may be made now."""

    bill_id: UUID
    message_id: UUID
    call: Call
    before: EntryRecord  # what was known of the entry before the call
    slot: UUID | None  # of the rate limits; None: they do not count this call
    start_by: float  # the latest time at which it may start, by `time.monotonic()`
    users: UsersCall | None = None  # which page of Xero's users, if it fetches them


async def lock_bill(conn: Connection, bill_id: UUID, settings: Settings) -> LockedBill | None:
    """Locks the bill and the rows that it depends on, until the transaction ends. None: the bill was deleted."""
    row = await conn.maybe("SELECT user_id, customer_id FROM time_bills WHERE id = %s AND deleted_at IS NULL", (bill_id,))
    if row is None:
        return None
    user_id, customer_id = row
    access = await tokens.access(conn, settings, lock=True)
    no_access = await loss.why_lost(conn) if access is None else None
    withdrawing = await bill_reopening.is_withdrawing(conn, bill_id)
    if withdrawing:  # the owner is first in the order of locks
        await lock_user(conn, user_id)
    await customers.lock_shared(conn, customer_id)
    if withdrawing:
        await bill_reopening.lock_for_reopening(conn, bill_id)
    bill = await _lock_row(conn, bill_id, access.tenant_id if access else None, settings)
    return LockedBill(bill, access, withdrawing, no_access)


async def _lock_row(conn: Connection, bill_id: UUID, tenant_id: str | None, settings: Settings) -> Bill:
    """Locks the row of the bill, and reads what `decide` needs. It always finds the row: bills are only marked as deleted."""
    return await conn.one(
        f"""
        SELECT b.id, b.status = 'approved' AS approved, b.minutes, b.memo,
               (b.date + time '12:00') AT TIME ZONE %(zone)s AS noon, u.email,
               c.xero_project_id AS project_id, p.xero_task_id AS task_id,
               coalesce(c.xero_tenant_id <> %(tenant)s, false) AS project_elsewhere,
               coalesce(p.xero_tenant_id <> %(tenant)s, false) AS task_elsewhere,
               coalesce((SELECT min(x.user_id) FROM xero_users x
                         WHERE x.tenant_id = %(tenant)s AND x.email = nullif(email_key(u.email), '')),
                        (SELECT min(x.user_id) FROM xero_users x WHERE x.tenant_id = %(tenant)s AND x.email = %(fallback)s))
                   AS user_id,
               coalesce((SELECT t.users_fetched_at > clock_timestamp() - make_interval(secs => %(users_seconds)s)
                         FROM xero_tenants t WHERE t.tenant_id = %(tenant)s), false) AS users_fetched,
               coalesce((SELECT t.users_requested_at > clock_timestamp() - make_interval(secs => %(call_seconds)s)
                         FROM xero_tenants t WHERE t.tenant_id = %(tenant)s), false) AS users_fetch_running,
               coalesce((SELECT extract(epoch FROM t.users_fetched_at)::float
                         FROM xero_tenants t WHERE t.tenant_id = %(tenant)s), 0) AS users_fetched_at,
               {unknown_entries.LOST_BEFORE} AS lost_before
        FROM time_bills b JOIN users u ON u.id = b.user_id JOIN customers c ON c.id = b.customer_id
        JOIN pillars p ON p.id = b.pillar_id
        WHERE b.id = %(bill)s FOR NO KEY UPDATE OF b
        """,
        {
            "bill": bill_id,
            "zone": settings.stint_timezone,
            "tenant": tenant_id,
            "fallback": users.fallback_key(settings),
            "users_seconds": USERS_SECONDS,
            "call_seconds": max_call_seconds(settings),
        },
        row=Bill,
    )


async def plan_call(conn: Connection, locked: LockedBill, *, message_id: UUID, settings: Settings) -> PendingCall | Wait | None:
    """The call to make now. It has a slot of the rate limits, and the intention to make it is recorded.

    Wait: plan again later. None: no call is needed, and the bill shows the outcome.
    """
    bill_id = locked.bill.id
    record = await entry_records.lock(conn, bill_id, message_id=message_id)
    step = await _decide(conn, locked, record, settings)
    if isinstance(step, Done):
        await _record_done(conn, bill_id, step, record, settings)
        return None
    if isinstance(step, Wait):
        return step
    slot: UUID | None = None
    if step.kind is not CallKind.renew_access:  # Xero's limits do not count calls to its identity service
        acquired = await _acquire_slot(conn, step, record, settings)
        if isinstance(acquired, NoSlot):
            await entry_records.queue_bill(conn, bill_id, seconds=acquired.seconds)
            return Wait(acquired.seconds)
        slot = acquired
    await entry_records.claim_for_message(conn, bill_id, message_id=message_id)
    # before the time of the attempt is recorded: a process that is suspended in between starts no call later
    start_by = time.monotonic() + settings.stint_xero_call_seconds
    await _record_intention(conn, bill_id, step, record)
    users_call = await users.start_call(conn, step.access.tenant_id) if step.kind is CallKind.fetch_users else None
    return PendingCall(bill_id, message_id, step, record, slot, start_by, users_call)


async def plan_next(conn: Connection, locked: LockedBill, record: EntryRecord, *, settings: Settings) -> Wait | None:
    """When to plan the next call, after a call. None: no call is needed any more, and the bill shows the outcome.

    `record` is what is known of the entry since the call.
    """
    step = await _decide(conn, locked, record, settings)
    if isinstance(step, Done):
        await _record_done(conn, locked.bill.id, step, record, settings)
        return None
    return step if isinstance(step, Wait) else Wait(0)


async def next_slot(conn: Connection, locked: LockedBill, seconds: float, settings: Settings) -> float:
    """Seconds until the bill's next slot, after Xero has refused a call because of a rate limit.

    `seconds`: for how long Xero refuses calls. Bills that wait then get one slot after the other.
    """
    assert locked.access is not None
    acquired = await rate_limits.acquire(conn, locked.access.tenant_id, settings, seconds=0)
    wait_seconds = acquired.seconds if isinstance(acquired, NoSlot) else seconds
    await entry_records.queue_bill(conn, locked.bill.id, seconds=wait_seconds)
    return wait_seconds


async def set_error(conn: Connection, bill_id: UUID, error: str) -> None:
    """Shows on the bill why the last call failed."""
    await conn.execute("UPDATE time_bills SET xero_error = %s WHERE id = %s AND status = 'approved'", (error, bill_id))


async def mark_failed(conn: Connection, body: dict[str, Any]) -> None:
    """Shows on the bill that its message has become a dead letter. `body` is the message's.

    A replay queues the bill again. Stint queues it automatically if the mapping has changed since Xero refused the bill.

    It does nothing if the body has no id of a bill.
    """
    try:
        bill_id = UUID(str(body.get("bill_id")))
    except ValueError:
        return
    customer_id = await conn.value("SELECT customer_id FROM time_bills WHERE id = %s", (bill_id,))
    if customer_id is None:
        return
    # A mapping that is written at the same time waits for this lock. Either it finds that the bill has failed, or it is found
    # here.
    await customers.lock_shared(conn, customer_id)
    await conn.execute(
        """
        UPDATE time_bills SET xero_status = 'failed', xero_error = coalesce(xero_error, %s)
        WHERE id = %s AND xero_status IN ('queued', 'withdrawing')
        """,
        ("Stint could not bring this bill's change to Xero; replay the bill's dead letter.", bill_id),
    )
    if await backlog.is_mapped_differently(conn, bill_id):
        await outbox.enqueue(conn, QueueBills(because="mapped", customer_id=customer_id))


async def _decide(conn: Connection, locked: LockedBill, record: EntryRecord, settings: Settings) -> Step:
    """The next step. It is a wait if it would be a call that may not be made yet, or would need other locks."""
    step = decide(locked.bill, record, locked.access, settings, no_access=locked.no_access)
    if isinstance(step, Call) and step.access.check_seconds is not None:
        return Wait(step.access.check_seconds)
    if isinstance(step, Wait) and step.retry_lookup:
        await entry_records.save(conn, locked.bill.id, record.retry_lookup())
    if isinstance(step, Done) and step.reopen and not locked.for_reopening:
        return Wait(0)  # an admin has just reopened the bill: start again with all locks, in their order
    return step


async def _acquire_slot(conn: Connection, call: Call, record: EntryRecord, settings: Settings) -> UUID | NoSlot:
    has_waited = record.slot_at is not None
    seconds = max_call_seconds(settings)
    return await rate_limits.acquire(conn, call.access.tenant_id, settings, seconds=seconds, skip_queue=has_waited)


async def _record_intention(conn: Connection, bill_id: UUID, call: Call, record: EntryRecord) -> None:
    now = await conn.value("SELECT clock_timestamp()")  # not `record.read_at`: it may be long before, because of the slot
    intended = known_before(record, call, at=now)
    if intended is not record:
        await entry_records.save(conn, bill_id, intended)


def known_before(record: EntryRecord, call: Call, *, at: datetime) -> EntryRecord:
    """What is known of the entry once the call is about to be made."""
    if call.kind is CallKind.find_entry and call.page == 1:
        return _perhaps_created(record, call).look_started(at)
    if call.kind is CallKind.delete_entry:
        return record.delete_attempted(at)
    if call.kind is CallKind.create_entry and call.content is not None:
        return record.create_attempted(
            tenant_id=call.access.tenant_id, project_id=call.project_id, content=call.content, revision=call.revision, at=at
        )
    return record


def _perhaps_created(record: EntryRecord, call: Call) -> EntryRecord:
    if call.lost_before is None or call.content is None:
        return record
    tenant_id, lost_before = call.access.tenant_id, call.lost_before
    return unknown_entries.perhaps_created(
        record, tenant_id=tenant_id, project_id=call.project_id, content=call.content, lost_before=lost_before
    )


async def _record_done(conn: Connection, bill_id: UUID, done: Done, record: EntryRecord, settings: Settings) -> None:
    """Shows the outcome on the bill, if it is a new one, and notifies the admins if a person has to act in Xero.

    If the outcome was awaited to reopen the bill, the bill is reopened instead. If the bill needs no call any more, its dead
    letters are discarded.
    """
    if done.reopen:
        await entry_records.save(conn, bill_id, record.withdrawn())
        await bill_reopening.reopen(conn, bill_id)
        return
    if done.status == "not_mapped" and record.user_refused_at is not None:
        await entry_records.save(conn, bill_id, replace(record, user_refused_at=None))
    if await showing.show_outcome(conn, bill_id, done, record, settings):
        await alerts.tell_admins(conn, bill_id, done, settings)
    if done.status in ("synced", "none"):
        await bill_reopening.discard_dead_syncs(conn, bill_id, reason="the bill needs no call to Xero any more")

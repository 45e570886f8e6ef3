"""Time bills and Xero: what is promised when a bill changes, and one step of making Xero agree with it.

Locks, after the message: the connection, the bill's owner (for a reopening), the customer, tasks, bills, the bill's row in
`xero_entries`, the organisation's limits.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas import customers, failures, reopening, xero_entries, xero_limits, xero_people, xero_tokens
from schemas.billing import lock_user
from schemas.database import Connection
from schemas.messages import SyncBill
from schemas.settings import Settings
from schemas.xero_entries import Known
from schemas.xero_limits import Turn
from schemas.xero_steps import Ask, Bill, Call, Later, Settled, Step, decide
from schemas.xero_tokens import Access

USERS_SECONDS = 600  # who is not among Xero's users may have been invited since they were read


@dataclass(frozen=True)
class Begun:
    """A call that may go out now, the place among the limits that it takes, and what was known before it."""

    call: Call
    known: Known
    place: UUID | None


@dataclass(frozen=True)
class Held:
    """A bill under its lock, and what it depends on. `for_reopening`: so that it can be reopened."""

    bill: Bill
    access: Access | None
    for_reopening: bool


async def hold(conn: Connection, bill_id: UUID, settings: Settings) -> Held | None:
    """Locks the bill and what it depends on until the transaction ends. None: there is no such bill any more."""
    cursor = await conn.execute("SELECT user_id, customer_id FROM time_bills WHERE id = %s AND deleted_at IS NULL", (bill_id,))
    if (row := await cursor.fetchone()) is None:
        return None
    user_id, customer_id = row
    access = await xero_tokens.read(conn, settings, hold=True)
    withdrawing = await xero_entries.is_withdrawing(conn, bill_id)
    if withdrawing:  # its owner comes before all else
        await lock_user(conn, user_id)
    await customers.hold(conn, customer_id)
    if withdrawing:
        await reopening.hold(conn, bill_id)
    return Held(await _lock(conn, bill_id, access.tenant_id if access else None, settings), access, withdrawing)


async def _next_step(conn: Connection, held: Held, *, message_id: UUID, settings: Settings) -> tuple[Step, Known]:
    known = await xero_entries.lock(conn, held.bill.id, message_id=message_id)
    step = decide(held.bill, known, held.access, settings)
    if isinstance(step, Later) and step.look_again:
        await xero_entries.look_again(conn, held.bill.id)
    if isinstance(step, Settled) and step.reopen and not held.for_reopening:
        return Later(0), known  # an admin reopened it this very moment: once more, with the locks in their order
    return step, known


async def _lock(conn: Connection, bill_id: UUID, tenant_id: str | None, settings: Settings) -> Bill:
    cursor = await conn.execute(
        """
        SELECT b.id, b.status = 'approved', b.minutes, b.memo, (b.date + time '12:00') AT TIME ZONE %(zone)s, u.email,
               c.xero_project_id, p.xero_task_id,
               coalesce((SELECT min(x.user_id) FROM xero_users x WHERE x.tenant_id = %(tenant)s AND x.email = lower(u.email)),
                        (SELECT min(x.user_id) FROM xero_users x WHERE x.tenant_id = %(tenant)s AND x.email = %(fallback)s)),
               coalesce((SELECT t.users_read_at > clock_timestamp() - make_interval(secs => %(users_seconds)s)
                         FROM xero_tenants t WHERE t.tenant_id = %(tenant)s), false),
               coalesce((SELECT t.users_asked_at > clock_timestamp() - make_interval(secs => %(asking_seconds)s)
                         FROM xero_tenants t WHERE t.tenant_id = %(tenant)s), false)
        FROM time_bills b JOIN users u ON u.id = b.user_id JOIN customers c ON c.id = b.customer_id
        JOIN pillars p ON p.id = b.pillar_id
        WHERE b.id = %(bill)s FOR NO KEY UPDATE OF b
        """,
        {
            "bill": bill_id,
            "zone": settings.stint_timezone,
            "tenant": tenant_id,
            "fallback": (settings.xero_fallback_user or "").lower(),
            "users_seconds": USERS_SECONDS,
            "asking_seconds": longest_call(settings),
        },
    )
    row = await cursor.fetchone()
    assert row is not None, "bills are never removed, only marked as deleted"
    return Bill(*row)


async def begin(conn: Connection, held: Held, *, message_id: UUID, settings: Settings) -> Begun | Later | None:
    """The call that may go out now: what is intended is written down, and a place taken. Or when to come back; or None, when
    nothing is left to ask, and the bill says so."""
    step, known = await _next_step(conn, held, message_id=message_id, settings=settings)
    bill_id = held.bill.id
    if isinstance(step, Settled):
        await _settle(conn, bill_id, step)
        return None
    if isinstance(step, Later):
        return step
    place = None
    if step.ask is not Ask.renew:  # which is none of the calls that are counted
        seconds, waited = longest_call(settings), known.turn_at is not None
        taken = await xero_limits.enter(conn, step.access.tenant_id, settings, seconds=seconds, waited=waited)
        if isinstance(taken, Turn):
            await xero_entries.stand_in_line(conn, bill_id, seconds=taken.seconds)
            return Later(taken.seconds)
        place = taken
    await xero_entries.hold(conn, bill_id, message_id=message_id)
    if step.ask is Ask.users:
        await xero_people.reading(conn, step.access.tenant_id)
    if step.ask is Ask.create and step.time is not None:
        await xero_entries.attempt(
            conn, bill_id, tenant_id=step.access.tenant_id, project_id=step.project_id, time=step.time, revision=step.revision
        )
    return Begun(step, known, place)


async def go_on(conn: Connection, held: Held, *, message_id: UUID, settings: Settings) -> Later | None:
    """After a call: None when nothing is left to ask, and the bill says so; else when the next call may go out."""
    step, _ = await _next_step(conn, held, message_id=message_id, settings=settings)
    if isinstance(step, Settled):
        await _settle(conn, held.bill.id, step)
        return None
    return step if isinstance(step, Later) else Later(0)


def longest_call(settings: Settings) -> float:
    """Seconds after which a call is over for certain: what has begun to arrive at its deadline may end a little later."""
    return settings.stint_xero_call_seconds * 2.0


async def _settle(conn: Connection, bill_id: UUID, step: Settled) -> None:
    """Writes down what the bill says of Xero, if that is something else than before."""
    if step.reopen:
        await xero_entries.withdrawn(conn, bill_id)
        await reopening.reopen(conn, bill_id)
        return
    await conn.execute(
        """
        UPDATE time_bills
        SET xero_status = %(status)s, xero_error = %(error)s, xero_time_entry_id = %(entry)s,
            xero_synced_at = CASE WHEN %(status)s = 'synced' THEN coalesce(xero_synced_at, clock_timestamp()) END,
            xero_invoiced_at = CASE WHEN %(status)s = 'synced' THEN xero_invoiced_at END
        WHERE id = %(bill)s
          AND (xero_status, xero_error, xero_time_entry_id) IS DISTINCT FROM (%(status)s, %(error)s, %(entry)s)
        """,
        {"status": step.status, "error": step.error, "entry": step.entry_id, "bill": bill_id},
    )


async def next_turn(conn: Connection, held: Held, seconds: float, settings: Settings) -> float:
    """When a bill's turn comes that Xero has sent back for so many seconds: with the others that wait, one after another."""
    assert held.access is not None
    turn = await xero_limits.enter(conn, held.access.tenant_id, settings, seconds=0)
    wait = turn.seconds if isinstance(turn, Turn) else seconds
    await xero_entries.stand_in_line(conn, held.bill.id, seconds=wait)
    return wait


async def say(conn: Connection, bill_id: UUID, error: str) -> None:
    """Shows on the bill what came of the last call."""
    await conn.execute("UPDATE time_bills SET xero_error = %s WHERE id = %s AND status = 'approved'", (error, bill_id))


async def say_failed(conn: Connection, body: dict[str, Any]) -> None:
    """The bill's message is a dead letter, so it says that it failed; replaying the letter mends it."""
    await conn.execute(
        """
        UPDATE time_bills SET xero_status = 'failed', xero_error = coalesce(xero_error, %s)
        WHERE id = %s AND xero_status IN ('queued', 'withdrawing')
        """,
        ("Something went wrong on the way to Xero; replay this bill's dead letter.", body["bill_id"]),
    )


failures.when_dead[SyncBill.actor] = say_failed

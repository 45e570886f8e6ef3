"""Handlers of the messages to Xero. Each is safe to repeat: it first finds out what earlier attempts have done."""

from typing import Any

from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from schemas.errors import NonRetryable
from schemas.messages import CheckAccess, CheckInvoiced, QueueBills, SyncBill
from schemas.postgres.connection import Connection
from schemas.settings import settings
from schemas.xero import backlog, bill_calls, bill_sync, tokens
from schemas.xero.access import check
from schemas.xero.access.check import AccessCheck
from schemas.xero.access.problems import AccessProblem
from schemas.xero.bill_sync import PendingCall
from schemas.xero.checks import chain
from schemas.xero.client_errors import RateLimited, Refused, Unauthorized, XeroError
from schemas.xero.planning.steps import CallKind, Wait
from schemas.xero.rate_limits import NoSlot

RENEW_SECONDS = 5  # well below the limit on idle transactions: the tokens are locked in an open transaction meanwhile


@handles(SyncBill, calls_out=True)
async def sync_bill(call: ExternalCall) -> None:
    """Makes one call to Xero, or none if the bill needs none. Reschedules the message while more calls are needed."""
    async with call.start() as (conn, message):
        step = await _plan(conn, call, message)
        if isinstance(step, Wait):
            call.reschedule(step.seconds)
        elif step is None:
            call.skip()
    assert isinstance(step, PendingCall), "start() ends the attempt without a call to make"
    try:
        async with call.timeout():
            result = await _call(call, step)
    except (XeroError, TimeoutError) as error:
        await _record_failure(call, step, error)
    else:
        await _record_result(call, step, result)


async def _plan(conn: Connection, call: ExternalCall, message: SyncBill) -> PendingCall | Wait | None:
    locked = await bill_sync.lock_bill(conn, message.bill_id, settings())
    if locked is None:
        return None
    return await bill_sync.plan_call(conn, locked, message_id=call.id, settings=settings())


async def _call(call: ExternalCall, pending: PendingCall) -> Any:
    if pending.call.kind is CallKind.renew_access:
        return await tokens.renew(await call.connection(), settings(), seconds=RENEW_SECONDS)
    return await bill_calls.call_xero(pending, settings())


async def _record_result(call: ExternalCall, pending: PendingCall, result: Any) -> None:
    async with call.complete() as conn:
        locked = await bill_sync.lock_bill(conn, pending.bill_id, settings())
        if locked is None:
            return
        record = await bill_calls.record_result(conn, pending, result, settings())
        wait = await bill_sync.plan_next(conn, locked, record, settings=settings())
        if wait is not None:
            call.reschedule(wait.seconds)


async def _record_failure(call: ExternalCall, pending: PendingCall, error: XeroError | TimeoutError) -> None:
    """Records the failure, and ends the attempt.

    After a rate limit, without access, and when the user has to be looked up again, the message is rescheduled, and no attempt
    is counted. A failed look whether somebody has changed an entry is not repeated: the next check follows anyway. Otherwise
    the failure is raised, as NonRetryable if Xero has refused a create.
    """
    failure = error if isinstance(error, XeroError) else XeroError("Xero did not answer in time")
    no_access = await _is_access_in_doubt(call, pending, failure)
    user_in_doubt = bill_calls.is_user_in_doubt(pending.call, error, pending.before)
    reschedules = isinstance(error, RateLimited) or no_access or user_in_doubt
    is_recheck = bill_calls.is_recheck(pending)
    is_completed = reschedules or is_recheck
    transaction = call.complete() if is_completed else call.record_under_lease()
    async with transaction as conn:
        if (locked := await bill_sync.lock_bill(conn, pending.bill_id, settings())) is not None:
            record = await bill_calls.record_failure(conn, pending, failure)
            if isinstance(error, RateLimited):
                call.reschedule(await bill_sync.next_slot(conn, locked, error.seconds, settings()))
            elif no_access:
                call.reschedule(tokens.SUSPECTED_SECONDS)
            elif user_in_doubt:
                call.reschedule(0)
            elif is_recheck and (wait := await bill_sync.plan_next(conn, locked, record, settings=settings())) is not None:
                call.reschedule(wait.seconds)
    if is_completed:
        return
    if pending.call.kind is CallKind.create_entry and isinstance(error, Refused) and not isinstance(error, Unauthorized):
        raise NonRetryable(str(error)) from None
    raise failure from None


async def _is_access_in_doubt(call: ExternalCall, pending: PendingCall, failure: XeroError) -> bool:
    """Whether the failure may mean that Stint has lost access to Xero; then that is being checked."""
    async with call.record_under_lease() as conn:
        return await check.after_failure(conn, failure, settings(), token=pending.call.access.token, failures=call.failures + 1)


@handles(CheckAccess, calls_out=True)
async def check_access(call: ExternalCall) -> None:
    """Finds out whether Stint still has access to Xero. If not, all bills wait, and the next check is enqueued."""
    async with call.start() as (conn, _):
        planned = await check.plan(conn, message_id=call.id, settings=settings())
        if isinstance(planned, NoSlot):
            call.reschedule(planned.seconds)
        elif planned is None:
            call.skip()
    assert isinstance(planned, AccessCheck), "start() ends the attempt without a call to make"
    answer: AccessProblem | XeroError | None
    try:
        async with call.timeout():
            answer = await check.ask_xero(await call.connection(), planned, settings())
    except TimeoutError:
        answer = XeroError("Xero did not answer in time")
    async with call.complete() as conn:
        await check.record(conn, planned, answer, message_id=call.id, settings=settings())


@handles(QueueBills)
async def queue_bills(conn: Connection, message: QueueBills) -> None:
    """Queues a chunk of the bills that were waiting, and enqueues the message for the next chunk."""
    await backlog.queue_next_chunk(conn, message, settings())


@handles(CheckInvoiced, calls_out=True)
async def check_invoiced(call: ExternalCall) -> None:
    """Makes one call to find invoiced entries, and enqueues the next check. A failed call is not retried: the next check
    follows anyway."""
    async with call.start() as (conn, message):
        pending = await chain.next_check(conn, message, message_id=call.id, settings=settings())
        if pending is None:
            call.skip()
    assert pending is not None, "start() ends the attempt without a call to make"
    result: Any = None
    try:
        async with call.timeout():
            if pending.needs_token:
                await tokens.renew(await call.connection(), settings(), seconds=RENEW_SECONDS)
            else:
                result = await chain.call_xero(pending, settings())
    except (XeroError, TimeoutError) as error:
        result = error
    async with call.complete() as conn:
        await chain.record_result(conn, pending, result, settings())

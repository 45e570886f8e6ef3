"""What happens behind the queue to Xero. All of it can be done again: it finds out what is there first."""

from typing import Any

from actors.calling import CallOut
from actors.deliveries import handles
from schemas import xero_calls, xero_invoices, xero_queue, xero_sync, xero_tokens
from schemas.clients.xero_errors import Refused, Throttled, Unauthorized, XeroError
from schemas.database import Connection
from schemas.errors import Permanent
from schemas.messages import CheckInvoiced, QueueBills, SyncBill
from schemas.settings import settings
from schemas.xero_steps import Ask, Later
from schemas.xero_sync import Begun

RENEW_SECONDS = 5  # well within what a transaction may sit idle: the tokens are locked meanwhile


@handles(SyncBill, calls_out=True)
async def sync_bill(work: CallOut) -> None:
    """One call, or none, towards Xero agreeing with the bill; if more are needed, the message comes back for the next."""
    async with work.begin() as (conn, message):
        bill: SyncBill = message
        begun = await _begin(work, conn, bill)
    assert isinstance(begun, Begun)
    try:
        async with work.calling():
            outcome = await _ask(work, bill, begun)
    except (XeroError, TimeoutError) as error:
        await _failed(work, bill, begun, error)
        return
    async with work.settle() as conn:
        held = await xero_sync.hold(conn, bill.bill_id, settings())
        if held is not None:
            await xero_calls.record(conn, bill.bill_id, begun, outcome)
            later = await xero_sync.go_on(conn, held, message_id=work.id, settings=settings())
            if later is not None:
                work.put_off(later.seconds)


async def _begin(work: CallOut, conn: Connection, bill: SyncBill) -> Begun | None:
    held = await xero_sync.hold(conn, bill.bill_id, settings())
    begun = held and await xero_sync.begin(conn, held, message_id=work.id, settings=settings())
    if isinstance(begun, Begun):
        return begun
    if isinstance(begun, Later):
        work.put_off(begun.seconds)
    else:
        work.finish()
    return None


async def _ask(work: CallOut, bill: SyncBill, begun: Begun) -> Any:
    if begun.call.ask is Ask.renew:
        return await xero_tokens.renew(await work.connection(), settings(), seconds=RENEW_SECONDS)
    return await xero_calls.ask(begun.call, bill.bill_id, settings())


async def _failed(work: CallOut, bill: SyncBill, begun: Begun, error: XeroError | TimeoutError) -> None:
    """Writes down what is known. A limit that is used up costs no attempt; what Xero won't create is dead at once."""
    failure = error if isinstance(error, XeroError) else XeroError("Xero did not answer in time")
    throttled = isinstance(error, Throttled)
    async with work.settle() if throttled else work.noting() as conn:
        if (held := await xero_sync.hold(conn, bill.bill_id, settings())) is not None:
            await xero_calls.record_failure(conn, bill.bill_id, begun, failure, settings())
            if isinstance(error, Throttled):
                work.put_off(await xero_sync.next_turn(conn, held, error.seconds, settings()))
    if throttled:
        return
    if begun.call.ask is Ask.create and isinstance(error, Refused) and not isinstance(error, Unauthorized):
        raise Permanent(str(error)) from None
    raise failure from None


@handles(QueueBills)
async def queue_bills(conn: Connection, message: QueueBills) -> None:
    """Sends a chunk of the bills that waited on their way, and promises the next."""
    await xero_queue.go_on(conn, message, settings())


@handles(CheckInvoiced, calls_out=True)
async def check_invoiced(work: CallOut) -> None:
    """Asks about one project, and promises to ask about the next, later. A failed call is no matter: the next one comes."""
    async with work.begin() as (conn, message):
        check: CheckInvoiced = message
        begun = await xero_invoices.begin(conn, check, message_id=work.id, settings=settings())
        if begun is None:
            work.finish()
    assert begun is not None
    outcome: Any = None
    try:
        async with work.calling():
            if begun.renew:
                await xero_tokens.renew(await work.connection(), settings(), seconds=RENEW_SECONDS)
            else:
                outcome = await xero_invoices.ask(begun, settings())
    except (XeroError, TimeoutError) as error:
        outcome = error
    async with work.settle() as conn:
        await xero_invoices.go_on(conn, begun, outcome, settings())

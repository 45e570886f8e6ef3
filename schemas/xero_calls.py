"""One call to Xero for a time bill: how it is asked, and what its outcome means, which is written down."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from schemas import xero_entries, xero_invoices, xero_limits, xero_people, xero_tokens
from schemas.clients.xero import Entry, EntryPage, Xero
from schemas.clients.xero_errors import Gone, NotSent, Refused, Throttled, Unauthorized, XeroError
from schemas.database import Connection
from schemas.settings import Settings
from schemas.xero_steps import Ask, Call
from schemas.xero_sync import Begun, say


async def ask(call: Call, bill_id: UUID, settings: Settings) -> Any:
    """Makes the call, within the deadline of a call. Raises XeroError."""
    access, seconds = call.access, settings.stint_xero_call_seconds
    xero = Xero(settings, access_token=access.token or "", tenant_id=access.tenant_id, seconds=seconds)
    match call.ask:
        case Ask.users:
            return await xero.users()
        case Ask.look if call.time is not None:
            day = timedelta(days=1)
            return await xero.entries(
                call.project_id,
                page=call.page,
                user_id=call.time.user_id,
                date_after_utc=call.time.date_utc - day,
                date_before_utc=call.time.date_utc + day,
            )
        case Ask.create if call.time is not None:
            return await xero.create(call.project_id, call.time, key=f"{bill_id}:{call.revision}")
        case Ask.update if call.time is not None:
            return await xero.update(call.project_id, call.entry_id, call.time)
        case Ask.delete:
            return await _unless_gone(xero.delete(call.project_id, call.entry_id))
        case Ask.read:
            return await _unless_gone(xero.read(call.project_id, call.entry_id))
    raise AssertionError(f"a call that cannot be: {call.ask}")


async def _unless_gone(asking: Any) -> Any:
    try:
        return await asking
    except Gone:
        return None


async def record(conn: Connection, bill_id: UUID, begun: Begun, outcome: Any) -> None:
    """Writes down what the call found or did. The bill is locked."""
    call = begun.call
    if begun.place is not None:
        await xero_limits.leave(conn, begun.place)
    match call.ask:
        case Ask.users:
            await xero_people.replace(conn, call.access.tenant_id, outcome)
        case Ask.look:
            await _looked(conn, bill_id, call, outcome)
        case Ask.create:
            await xero_entries.found(conn, bill_id, [outcome])
        case Ask.update if call.time is not None:
            await xero_entries.rewritten(conn, bill_id, call.time)
        case Ask.delete:
            await xero_entries.gone(conn, bill_id, call.entry_id)
        case Ask.read:
            await _read(conn, bill_id, call, outcome)


async def _looked(conn: Connection, bill_id: UUID, call: Call, page: EntryPage) -> None:
    marked = [entry for entry in page.entries if entry.time.description.endswith(call.mark)]
    if marked:
        # one that is invoiced cannot be deleted: that is the one to stay
        await xero_entries.found(conn, bill_id, sorted(marked, key=lambda entry: entry.status == "ACTIVE"))
    else:
        await xero_entries.not_found(conn, bill_id, pages=call.page, last=page.last)


async def _read(conn: Connection, bill_id: UUID, call: Call, entry: Entry | None) -> None:
    """Why Xero would not change or delete it: it is gone, or invoiced, which ends a reopening; or nothing is in the way now."""
    if entry is None:
        await xero_entries.gone(conn, bill_id, call.entry_id)
    elif entry.status == "ACTIVE":
        await xero_entries.refused(conn, bill_id, refused=False)
    else:
        note = f"It was not reopened: its time entry in Xero is {entry.status.lower()}. Take it off the invoice there first."
        await xero_entries.stays(conn, bill_id, status=entry.status, note=note)
        await xero_invoices.mark(conn, [bill_id])


async def record_failure(conn: Connection, bill_id: UUID, begun: Begun, error: XeroError, settings: Settings) -> None:
    """Writes down what is known after a call that failed: surely not done, or perhaps. The bill is locked, and says why."""
    call = begun.call
    if begun.place is not None:
        await xero_limits.leave(conn, begun.place)
    if isinstance(error, Throttled):
        await xero_limits.pause(conn, call.access.tenant_id, seconds=error.seconds)
    if isinstance(error, Unauthorized) and error.status == 401 and call.access.token is not None:
        await xero_tokens.distrust(conn, call.access.token, settings)
    surely_not_done = isinstance(error, NotSent | Throttled | Refused)
    if call.ask is Ask.create and surely_not_done:
        await xero_entries.not_done(conn, bill_id, before=begun.known)
    if call.ask is Ask.users:
        await xero_people.not_read(conn, call.access.tenant_id)
    if call.ask in (Ask.update, Ask.delete) and type(error) is Refused:
        await xero_entries.refused(conn, bill_id, refused=True)
    if call.ask is Ask.update and isinstance(error, Gone):
        await xero_entries.gone(conn, bill_id, call.entry_id)
    await say(conn, bill_id, str(error))

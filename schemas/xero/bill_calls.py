"""One call to Xero for a time bill: making it, and recording its result or its failure."""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import entry_records, rate_limits, users
from schemas.xero.bill_sync import PendingCall, set_error
from schemas.xero.client import XeroClient
from schemas.xero.client_errors import DoesNotExist, NotSent, RateLimited, Refused, Unauthorized, XeroError
from schemas.xero.entries.entry import EntryPage
from schemas.xero.entry_records import EntryRecord
from schemas.xero.planning.certainty import seconds_until_deleted
from schemas.xero.planning.steps import Call, CallKind


async def call_xero(pending: PendingCall, settings: Settings) -> Any:
    """Makes the call, with the deadline of one call, and returns its result for `record_result`. Raises XeroError."""
    call, seconds = pending.call, settings.stint_xero_call_seconds
    xero = XeroClient(
        settings,
        access_token=call.access.token or "",
        tenant_id=call.access.tenant_id,
        seconds=seconds,
        start_by=pending.start_by,
    )
    match call.kind:
        case CallKind.fetch_users if pending.users is not None:
            return await xero.list_users(pending.users.page)
        case CallKind.find_entry if call.content is not None:
            day = timedelta(days=1)
            return await xero.list_entries(
                call.project_id,
                page=call.page,
                date_after_utc=call.content.date_utc - day,
                date_before_utc=call.content.date_utc + day,
            )
        case CallKind.create_entry if call.content is not None:
            return await xero.create(call.project_id, call.content, key=f"{pending.bill_id}:{call.revision}")
        case CallKind.update_entry if call.content is not None:
            return await xero.update(call.project_id, call.entry_id, call.content)
        case CallKind.delete_entry:
            return await _none_if_missing(xero.delete(call.project_id, call.entry_id))
        case CallKind.fetch_entry:
            return await _none_if_missing(xero.get(call.project_id, call.entry_id))
    raise AssertionError(f"unexpected call: {call.kind}")


async def _none_if_missing(result: Awaitable[Any]) -> Any:
    try:
        return await result
    except DoesNotExist:
        return None


async def record_result(conn: Connection, pending: PendingCall, result: Any, settings: Settings) -> EntryRecord:
    """Records what the call found or did, and returns what is known of the entry now. The bill must be locked."""
    call, bill_id = pending.call, pending.bill_id
    if pending.slot is not None:
        await rate_limits.release(conn, pending.slot, succeeded=True)
    if pending.users is not None:
        await users.record_page(conn, call.access.tenant_id, pending.users, result)
    if call.kind is CallKind.fetch_entry and result is not None:
        await entry_records.show_status(conn, bill_id, result.status)
    before = await entry_records.lock(conn, bill_id, message_id=pending.message_id)
    record = known_after(before, call, result, planned_on=pending.before, settings=settings)
    if record is not before:
        await entry_records.save(conn, bill_id, record)
    return record


def known_after(before: EntryRecord, call: Call, result: Any, *, planned_on: EntryRecord, settings: Settings) -> EntryRecord:
    """What is known of the entry after the call, from what was known before its result. `planned_on`: what was known when it
    was planned."""
    match call.kind:
        case CallKind.find_entry:
            return _searched(before, call, result)
        case CallKind.create_entry:
            return before.created(result)
        case CallKind.update_entry if call.content is not None:
            return before.updated(call.content)
        case CallKind.fetch_entry if result is not None:
            not_deleted = seconds_until_deleted(planned_on, settings) <= 0
            return before.fetched(result, not_deleted=not_deleted, reopen_error=_not_reopened(result.status))
        case CallKind.fetch_entry:
            return _missing(before, call)
        case CallKind.delete_entry:
            return before.deleted(call.entry_id)
    return before


def _missing(before: EntryRecord, call: Call) -> EntryRecord:
    """The entry is not there: Stint may have deleted it, or somebody has."""
    may_be_own = before.withdrawing or before.delete_attempted_at is not None or call.entry_id not in before.entry_ids
    return before.deleted(call.entry_id) if may_be_own or before.overwrite else before.gone()


def _searched(before: EntryRecord, call: Call, page: EntryPage) -> EntryRecord:
    """An entry that Stint has deleted may still be listed for a while."""
    marked = [
        entry for entry in page.entries if entry.content.description.endswith(call.mark) and entry.id not in before.deleted_ids
    ]
    if not marked:
        return before.not_found(pages=call.page, last=page.last)
    # the first one is kept, so an entry that is invoiced comes first: Xero does not delete it
    return before.found(sorted(marked, key=lambda entry: entry.status == "ACTIVE"))


def _not_reopened(status: str) -> str:
    return f"It was not reopened: its time entry in Xero is {status.lower()}. Take it off the invoice there first."


def is_user_in_doubt(call: Call, error: Exception, planned_on: EntryRecord) -> bool:
    """Whether Xero may have refused the create because it has removed the user. Only once: after Xero's users were read again,
    a second refusal is final."""
    is_create = call.kind is CallKind.create_entry
    return is_create and isinstance(error, Refused) and error.may_be_for_user and planned_on.user_refused_at is None


async def record_failure(conn: Connection, pending: PendingCall, error: XeroError) -> EntryRecord:
    """Records what a failed call tells about the entry and the connection, shows the error on the bill, and returns what is
    known of the entry now. The bill must be locked."""
    call, bill_id = pending.call, pending.bill_id
    if pending.slot is not None:
        await rate_limits.release(conn, pending.slot)
    if isinstance(error, RateLimited):
        await rate_limits.pause(conn, call.access.tenant_id, error)
    if pending.users is not None:
        await users.end_call(conn, call.access.tenant_id, pending.users)
    before = await entry_records.lock(conn, bill_id, message_id=pending.message_id)
    record = known_after_failure(before, pending.call, error, planned_on=pending.before)
    if record is not before:
        await entry_records.save(conn, bill_id, record)
    if not is_recheck(pending):
        await set_error(conn, bill_id, str(error))
    return record


def is_recheck(pending: PendingCall) -> bool:
    """Whether the call only finds out whether somebody has changed the entry of a bill that needs no other call."""
    return pending.call.kind is CallKind.fetch_entry and pending.before.recheck


def known_after_failure(before: EntryRecord, call: Call, error: XeroError, *, planned_on: EntryRecord) -> EntryRecord:
    """What is known of the entry after the call has failed. `planned_on`: what was known when it was planned."""
    certainly_not_done = isinstance(error, NotSent | RateLimited | Refused)
    is_refused = type(error) is Refused
    match call.kind:
        case CallKind.create_entry if isinstance(error, Refused) and not isinstance(error, Unauthorized):
            in_doubt = is_user_in_doubt(call, error, planned_on)
            return before.not_created(planned_on).refused_to_create(user_in_doubt=in_doubt)
        case CallKind.create_entry if certainly_not_done:
            return before.not_created(planned_on)
        case CallKind.update_entry if isinstance(error, DoesNotExist):
            return _missing(before, call)
        case CallKind.fetch_entry if planned_on.recheck and not isinstance(error, RateLimited):
            return replace(before, recheck=False)  # the next check of the project finds the difference again
        case CallKind.update_entry if is_refused:
            return replace(before, refused=True)
        case CallKind.delete_entry if certainly_not_done:
            return before.not_deleted(planned_on, refused=is_refused)
    return before

"""The chain of checks, which reads the time entries in Xero. It finds out

- which entries are invoiced, and which are not any more;
- which entries somebody has changed or deleted by hand;
- which entries should not be there.

Xero has no webhooks for projects. So Stint lists the entries of one project after another, one page in each message.

Each CheckInvoiced message enqueues the next one: this is the chain. There is only one, because the connection's row contains
the id of the current message, and any other CheckInvoiced message does nothing. The rescuer starts a chain if there is none.
"""

from dataclasses import dataclass
from uuid import UUID

from schemas.messages import CheckInvoiced
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import backlog, rate_limits, tokens, users
from schemas.xero.access import check
from schemas.xero.checks import differences, statuses, strays
from schemas.xero.checks.projects import (
    ProjectToCheck,
    days,
    first_page,
    mark_checked,
    next_project,
    page_after,
    pause,
    pause_seconds,
)
from schemas.xero.client import XeroClient
from schemas.xero.client_errors import DoesNotExist, RateLimited, XeroError
from schemas.xero.entries.entry import EntryPage
from schemas.xero.rate_limits import NoSlot
from schemas.xero.tokens import Access
from schemas.xero.users import UsersCall, UsersPage

CALL_SECONDS = CheckInvoiced.timeout_seconds


@dataclass(frozen=True)
class PendingCheck:
    """The call to make now.

    - Without a token in `access`, it renews the token.
    - Without a project, it fetches a page of Xero's users.
    - Otherwise it lists a page of the project's entries.
    """

    message: CheckInvoiced
    access: Access
    project: ProjectToCheck | None
    slot: UUID | None
    users: UsersCall | None = None

    @property
    def needs_token(self) -> bool:
        return self.access.token is None


async def ensure_started(conn: Connection) -> None:
    """Starts the chain if Xero is connected and there is none. Safe to call concurrently: only one chain is started."""
    chain_is_missing = """
        SELECT 1 FROM xero_connection x LEFT JOIN messages m ON m.id = x.check_message_id
        WHERE x.tenant_id IS NOT NULL AND x.needs_reconnect_at IS NULL
          AND (m.id IS NULL OR m.state IN ('done', 'dead', 'discarded'))
    """
    if await conn.maybe(chain_is_missing) is None:
        return
    async with conn.transaction():
        await conn.execute("SELECT 1 FROM xero_connection FOR NO KEY UPDATE")
        if await conn.maybe(chain_is_missing) is not None:
            await _enqueue_check(conn, CheckInvoiced(), seconds=0)


async def start_now(conn: Connection) -> None:
    """Begins the next check at once, because somebody has requested a reading of all projects.

    The caller has locked the connection.
    """
    await _enqueue_check(conn, CheckInvoiced(), seconds=0)


async def _enqueue_check(conn: Connection, message: CheckInvoiced, *, seconds: float) -> None:
    at = await conn.value("SELECT clock_timestamp() + make_interval(secs => %s)", (seconds,)) if seconds else None
    message_id = await outbox.enqueue(conn, message, available_at=at)
    await conn.execute("UPDATE xero_connection SET check_message_id = %s", (message_id,))


async def next_check(conn: Connection, message: CheckInvoiced, *, message_id: UUID, settings: Settings) -> PendingCheck | None:
    """The call to make now, with a slot of the rate limits. None: there is no call to make now.

    With None, the next check is enqueued for later. It is not enqueued if Stint has no access to Xero, or if the message is not
    the current one of the chain.
    """
    current = await conn.maybe("SELECT 1 FROM xero_connection WHERE check_message_id = %s FOR NO KEY UPDATE", (message_id,))
    access = await tokens.access(conn, settings)
    if current is None or access is None:
        return None
    if access.check_seconds is not None:
        await _enqueue_check(conn, message, seconds=access.check_seconds)
        return None
    if access.token is None:
        return PendingCheck(message, access, None, None)
    user_is_missing = await _is_user_missing(conn, access, settings)
    project = None if user_is_missing else await next_project(conn, message, access, settings)
    if project is None and not user_is_missing:
        await _enqueue_check(conn, CheckInvoiced(), seconds=pause_seconds(settings))
        return None
    slot = await rate_limits.acquire(conn, access.tenant_id, settings, seconds=CALL_SECONDS)
    if isinstance(slot, NoSlot):
        await _enqueue_check(conn, message, seconds=slot.seconds)
        return None
    if project is None:
        return PendingCheck(message, access, None, slot, await users.start_call(conn, access.tenant_id))
    return PendingCheck(first_page(message, project), access, project, slot)


async def _is_user_missing(conn: Connection, access: Access, settings: Settings) -> bool:
    """Whether to fetch Xero's users: bills wait until their consultant is one of them, and no fetch is recent or running."""
    found = await conn.maybe(
        f"""
        SELECT 1 FROM xero_tenants t
        WHERE t.tenant_id = %s AND t.users_fetched_at < clock_timestamp() - make_interval(secs => %s)
          AND t.users_requested_at < clock_timestamp() - make_interval(secs => %s) AND EXISTS (
            SELECT FROM time_bills b JOIN customers c ON c.id = b.customer_id JOIN pillars p ON p.id = b.pillar_id
            WHERE b.xero_status = 'not_mapped' AND {backlog.MAPPED})
        """,
        (access.tenant_id, settings.stint_xero_check_seconds, CALL_SECONDS),
    )
    return found is not None


async def call_xero(pending: PendingCheck, settings: Settings) -> EntryPage | UsersPage:
    """Makes the call: a page of the project's entries, or of Xero's users. Raises XeroError."""
    access, seconds = pending.access, settings.stint_xero_call_seconds
    xero = XeroClient(settings, access_token=access.token or "", tenant_id=access.tenant_id, seconds=seconds)
    if pending.users is not None:
        return await xero.list_users(pending.users.page)
    assert pending.project is not None
    # All entries are listed, not only the invoiced ones. Entries move from page to page while they are read, so one that is
    # missing in a list of the invoiced ones may be invoiced.
    filters = days(pending.message, pending.project)
    return await xero.list_entries(pending.project.id, page=pending.message.page, **filters)


async def record_result(conn: Connection, pending: PendingCheck, result: object, settings: Settings) -> None:
    """Records the result of the call, or its error, and enqueues the next check."""
    await conn.execute("SELECT 1 FROM xero_connection FOR NO KEY UPDATE")  # it is first in the order of locks
    if pending.slot is not None:
        await rate_limits.release(conn, pending.slot, succeeded=not isinstance(result, Exception))
    if isinstance(result, XeroError):
        await check.after_failure(conn, result, settings, token=pending.access.token)
    if isinstance(result, RateLimited):
        await rate_limits.pause(conn, pending.access.tenant_id, result)
    next_message = CheckInvoiced()
    seconds = pause_seconds(settings)
    reads = 0  # entries that are read because of the page
    if pending.users is not None and isinstance(result, UsersPage):
        await users.record_page(conn, pending.access.tenant_id, pending.users, result)
        seconds = 0
    elif pending.users is not None:
        await users.end_call(conn, pending.access.tenant_id, pending.users)
    elif isinstance(result, EntryPage) and pending.project is not None:
        next_message, reads = await _record_page(conn, pending, pending.project, result, settings)
    elif pending.needs_token:
        next_message = pending.message
        if result is None:
            seconds = 0
    elif pending.project is not None:  # the call failed: a project that does not exist any more must not block the others
        error = result if isinstance(result, Exception) else None
        await mark_checked(conn, pending.access.tenant_id, pending.project, started_at=pending.message.started_at, error=error)
        if isinstance(result, DoesNotExist):
            await conn.execute("DELETE FROM xero_stray_entries WHERE project_id = %s", (pending.project.id,))
    if pending.project is not None:  # each entry that is read because of the page costs a call, too
        seconds = (1 + reads) * await pause(conn, pending.access.tenant_id, settings)
    await _enqueue_check(conn, next_message, seconds=seconds)


async def _record_page(
    conn: Connection, pending: PendingCheck, project: ProjectToCheck, page: EntryPage, settings: Settings
) -> tuple[CheckInvoiced, int]:
    """Records what a page of the project's entries shows.

    Returns the message for the next call, and how many single entries are read because of this page.
    """
    tenant_id, message = pending.access.tenant_id, pending.message
    await statuses.record_statuses(conn, tenant_id, project, page.entries)
    await strays.record_strays(conn, tenant_id, project, page, message, settings)
    reads = await differences.record_differences(conn, tenant_id, project, page, message, settings)
    next_message = page_after(message, last=page.last)
    if next_message is None:
        await mark_checked(conn, tenant_id, project, started_at=message.started_at)
    return next_message or CheckInvoiced(), reads

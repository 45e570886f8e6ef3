"""What has been invoiced in Xero: it has no way to tell, so it is asked, one project after the other, a little at a time.

There is one chain of messages, whose next link is named in the connection's row; a message that is not that link ends. The
sweep begins a new chain where there is none.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from schemas import ledger, xero_limits, xero_people, xero_tokens
from schemas.billing import lock_bills
from schemas.clients.xero import EntryPage, Xero
from schemas.clients.xero_errors import Throttled
from schemas.database import Connection
from schemas.messages import CheckInvoiced, QueueBills
from schemas.settings import Settings
from schemas.xero_limits import Turn
from schemas.xero_tokens import Access

CALL_SECONDS = CheckInvoiced.deadline_seconds


@dataclass(frozen=True)
class Project:
    """A project, and the first day of which it is not known that its time is invoiced."""

    id: str
    since: datetime


@dataclass(frozen=True)
class Begun:
    """What is asked now: the invoiced time of a project; without one, who can be named on time; without a token, for one."""

    check: CheckInvoiced
    access: Access
    project: Project | None
    place: UUID | None

    @property
    def renew(self) -> bool:
        return self.access.token is None


async def ensure(conn: Connection) -> None:
    """Begins the chain if Xero is connected and there is none, however many ask for it at once."""
    broken = """
        SELECT 1 FROM xero_connection x LEFT JOIN messages m ON m.id = x.check_message_id
        WHERE x.tenant_id IS NOT NULL AND x.needs_reconnect_at IS NULL
          AND (m.id IS NULL OR m.state IN ('done', 'dead', 'discarded'))
    """
    if await (await conn.execute(broken)).fetchone() is None:
        return
    async with conn.transaction():
        await conn.execute("SELECT 1 FROM xero_connection FOR NO KEY UPDATE")
        if await (await conn.execute(broken)).fetchone() is not None:
            await _put(conn, CheckInvoiced(), seconds=0)


async def _put(conn: Connection, message: CheckInvoiced, *, seconds: float) -> None:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    message_id = await ledger.put(conn, message, available_at=at if seconds else None)
    await conn.execute("UPDATE xero_connection SET check_message_id = %s", (message_id,))


async def begin(conn: Connection, check: CheckInvoiced, *, message_id: UUID, settings: Settings) -> Begun | None:
    """What to ask now, with a place for it; None when that is for another time, which is promised, or for no time: whoever
    connects anew has the sweep begin a new chain."""
    cursor = await conn.execute("SELECT 1 FROM xero_connection WHERE check_message_id = %s FOR NO KEY UPDATE", (message_id,))
    access = await xero_tokens.read(conn, settings)
    if await cursor.fetchone() is None or access is None:
        return None
    if access.token is None:
        return Begun(check, access, None, None)
    somebody_is_missing = await _is_somebody_missing(conn, access, settings)
    project = None if somebody_is_missing else await _next_project(conn, check, access, settings)
    if project is None and not somebody_is_missing:
        await _put(conn, CheckInvoiced(), seconds=settings.stint_xero_check_seconds)
        return None
    place = await xero_limits.enter(conn, access.tenant_id, settings, seconds=CALL_SECONDS)
    if isinstance(place, Turn):
        await _put(conn, check, seconds=place.seconds)
        return None
    return Begun(check, access, project, place)


async def _is_somebody_missing(conn: Connection, access: Access, settings: Settings) -> bool:
    """Whether bills wait for somebody to be invited to Xero Projects, and nobody has looked for a while."""
    cursor = await conn.execute(
        """
        SELECT 1 FROM xero_tenants t WHERE t.tenant_id = %s AND t.users_read_at < clock_timestamp() - make_interval(secs => %s)
        AND EXISTS (SELECT FROM time_bills b JOIN customers c ON c.id = b.customer_id JOIN pillars p ON p.id = b.pillar_id
            WHERE b.xero_status = 'not_mapped' AND c.xero_project_id IS NOT NULL AND p.xero_task_id IS NOT NULL)
        """,
        (access.tenant_id, settings.stint_xero_check_seconds),
    )
    return await cursor.fetchone() is not None


async def _next_project(conn: Connection, check: CheckInvoiced, access: Access, settings: Settings) -> Project | None:
    """The project whose pages are being read, or that which has waited longest; from its first day that is not invoiced on."""
    cursor = await conn.execute(
        """
        SELECT e.project_id, min((e.written->>'date_utc')::timestamptz) FROM xero_entries e
        WHERE e.tenant_id = %(tenant)s AND e.checked_at IS NOT NULL AND e.project_id = coalesce(%(project)s, (
            SELECT project_id FROM xero_entries WHERE tenant_id = %(tenant)s
                AND checked_at < clock_timestamp() - make_interval(secs => %(seconds)s) ORDER BY checked_at LIMIT 1))
        GROUP BY e.project_id
        """,
        {"tenant": access.tenant_id, "project": check.project_id, "seconds": settings.stint_xero_check_seconds},
    )
    row = await cursor.fetchone()
    return None if row is None else Project(*row)


async def ask(begun: Begun, settings: Settings) -> EntryPage | list[tuple[str, str]]:
    """Makes the call. Raises XeroError."""
    xero = Xero(
        settings,
        access_token=begun.access.token or "",
        tenant_id=begun.access.tenant_id,
        seconds=settings.stint_xero_call_seconds,
    )
    if begun.project is None:
        return await xero.users()
    return await xero.entries(
        begun.project.id,
        page=begun.check.page,
        states=["INVOICED,LOCKED"],  # one parameter, as Xero's documentation has it; the client would make two
        date_after_utc=begun.project.since - timedelta(days=1),
    )


async def go_on(conn: Connection, begun: Begun, outcome: object, settings: Settings) -> None:
    """Writes down what was found, or how the call failed, and promises the next one."""
    if begun.place is not None:
        await xero_limits.leave(conn, begun.place)
    if isinstance(outcome, Throttled):
        await xero_limits.pause(conn, begun.access.tenant_id, seconds=outcome.seconds)
    next_one, seconds = CheckInvoiced(), settings.stint_xero_check_seconds
    if isinstance(outcome, list):
        await xero_people.replace(conn, begun.access.tenant_id, outcome)
        await ledger.put(conn, QueueBills(because="mapped"))
        seconds = 0
    elif isinstance(outcome, EntryPage) and begun.project is not None:
        await _mark_entries(conn, [entry.id for entry in outcome.entries], begun.project)
        if outcome.last:
            await _checked(conn, begun.project)
        else:
            next_one, seconds = CheckInvoiced(project_id=begun.project.id, page=begun.check.page + 1), 0
    elif begun.renew:
        next_one, seconds = begun.check, 0 if outcome is None else seconds
    elif begun.project is not None:  # its turn comes again: one that is gone must not be in the way of all others
        await _checked(conn, begun.project)
    await _put(conn, next_one, seconds=seconds)


async def _mark_entries(conn: Connection, entry_ids: list[str], project: Project) -> None:
    cursor = await conn.execute(
        """
        SELECT bill_id FROM xero_entries
        WHERE project_id = %s AND checked_at IS NOT NULL AND entry_ids && %s::text[] ORDER BY bill_id
        """,
        (project.id, entry_ids),
    )
    await mark(conn, [row[0] for row in await cursor.fetchall()])


async def mark(conn: Connection, bill_ids: Collection[UUID]) -> None:
    """Says of bills that their entries are locked or invoiced in Xero."""
    await lock_bills(conn, bill_ids)
    await conn.execute(
        "UPDATE time_bills SET xero_invoiced_at = coalesce(xero_invoiced_at, clock_timestamp()) WHERE id = ANY(%s)",
        (list(bill_ids),),
    )
    await conn.execute("UPDATE xero_entries SET checked_at = NULL WHERE bill_id = ANY(%s)", (list(bill_ids),))


async def _checked(conn: Connection, project: Project) -> None:
    await conn.execute(
        """
        UPDATE xero_entries SET checked_at = clock_timestamp() WHERE bill_id IN (
            SELECT bill_id FROM xero_entries WHERE project_id = %s AND checked_at IS NOT NULL
            ORDER BY bill_id FOR NO KEY UPDATE SKIP LOCKED)
        """,
        (project.id,),
    )

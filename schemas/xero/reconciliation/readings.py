"""Asking for a fresh reading of all projects in Xero, and how far it is."""

from dataclasses import dataclass
from datetime import datetime

from schemas.errors import Conflict
from schemas.postgres.connection import Connection
from schemas.xero.access import loss
from schemas.xero.checks import chain
from schemas.xero.connection import NOT_CONNECTED


@dataclass(frozen=True)
class Progress:
    """How many projects there are, how many were read since the request, how many of these in vain, and how many entries are
    being read because they are not as Stint knows them. `waits_until`: no call is made before."""

    projects: int
    read: int
    failed: int
    entries: int
    waits_until: datetime | None

    @property
    def is_done(self) -> bool:
        return self.read == self.projects and not self.entries


async def request(conn: Connection) -> datetime:
    """Requests that every project is read again, as soon as the rate limits allow, and returns the time of the request. The
    caller owns the transaction. Raises Conflict while Xero is not connected, or gives no access."""
    tenant_id = await conn.value(
        "SELECT tenant_id FROM xero_connection WHERE needs_reconnect_at IS NULL FOR NO KEY UPDATE",
    )
    if tenant_id is None:
        raise Conflict(await loss.why_lost(conn) or NOT_CONNECTED)
    requested_at: datetime = await conn.value(
        """
        INSERT INTO xero_tenants (tenant_id, reading_requested_at) VALUES (%s, clock_timestamp())
        ON CONFLICT (tenant_id) DO UPDATE SET reading_requested_at = excluded.reading_requested_at
        RETURNING reading_requested_at
        """,
        (tenant_id,),
    )
    await chain.start_now(conn)
    return requested_at


async def progress(conn: Connection, requested_at: datetime) -> Progress:
    """How far the reading is that was requested then. Raises Conflict if Xero was disconnected or gives no access any more."""
    found = await conn.maybe(
        """
        WITH known AS (
            SELECT DISTINCT e.project_id, p.tried_at >= %(at)s AS is_read, p.error IS NOT NULL AS has_failed
            FROM xero_entries e JOIN xero_connection x ON x.tenant_id = e.tenant_id AND x.needs_reconnect_at IS NULL
            LEFT JOIN xero_projects p ON p.tenant_id = e.tenant_id AND p.project_id = e.project_id
            WHERE e.entry_ids <> '{}' OR e.invoice_checked_at IS NOT NULL
        )
        SELECT count(*) AS projects, count(*) FILTER (WHERE is_read) AS read,
               count(*) FILTER (WHERE is_read AND has_failed) AS failed,
               (SELECT count(*) FROM xero_entries e WHERE e.recheck AND EXISTS (
                   SELECT FROM messages m WHERE m.actor = 'sync_bill' AND m.queue = 'xero'
                     AND m.state IN ('ready', 'sent', 'calling') AND m.body->>'bill_id' = e.bill_id::text)) AS entries,
               (SELECT max(t.paused_until) FROM xero_tenants t JOIN xero_connection x USING (tenant_id)
                WHERE t.paused_until > clock_timestamp()) AS waits_until
        FROM known
        HAVING EXISTS (SELECT FROM xero_connection WHERE tenant_id IS NOT NULL AND needs_reconnect_at IS NULL)
        """,
        {"at": requested_at},
        row=Progress,
    )
    if found is None:
        raise Conflict(await loss.why_lost(conn) or NOT_CONNECTED)
    return found

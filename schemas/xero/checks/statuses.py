"""The statuses of time entries in Xero: which are invoiced or locked, and which are not any more."""

from uuid import UUID

from schemas.hours.bill_sums import lock_bills
from schemas.messages import SyncBill
from schemas.outbox import outbox
from schemas.outbox.dead_letters.actions import BY_ITSELF
from schemas.postgres.connection import Connection
from schemas.xero import backlog, entry_records
from schemas.xero.checks.projects import ProjectToCheck
from schemas.xero.entries.entry import Entry


async def record_statuses(conn: Connection, tenant_id: str, project: ProjectToCheck, entries: list[Entry]) -> None:
    """Records the statuses that have changed. An entry whose status was read by another call since this one began keeps what
    that call has found."""
    changed: list[tuple[UUID, str]] = await conn.all(
        """
        SELECT e.bill_id, now.status FROM unnest(%(ids)s::text[], %(statuses)s::text[]) now (entry_id, status)
        JOIN xero_entries e ON e.entry_ids[1] = now.entry_id AND e.entry_ids <> '{}'
            AND e.tenant_id = %(tenant)s AND e.project_id = %(project)s
        JOIN time_bills b ON b.id = e.bill_id
        WHERE (e.invoice_checked_at IS NULL OR e.invoice_checked_at < %(at)s)
          AND (e.entry_status IS DISTINCT FROM now.status OR (b.xero_invoiced_at IS NULL) <> (now.status = 'ACTIVE')
            OR e.reopen_error IS NOT NULL AND now.status = 'ACTIVE')
        """,
        {
            "ids": [entry.id for entry in entries],
            "statuses": [entry.status for entry in entries],
            "tenant": tenant_id,
            "project": project.id,
            "at": project.at,
        },
    )
    ids = [bill_id for bill_id, _ in changed]
    await lock_bills(conn, ids)
    for bill_id, status in changed:
        await entry_records.show_status(conn, bill_id, status)
        await entry_records.record_status(conn, bill_id, status)
    # What the bill shows may not be true any more: a bill that differs from its entry can be corrected now, or a reopening that
    # was refused is possible.
    await backlog.send_again(conn, ids, who=BY_ITSELF, reason="its entry in Xero has another status now")
    with_error = (
        "SELECT id FROM time_bills WHERE id = ANY(%s) AND xero_status = 'synced' AND xero_error IS NOT NULL ORDER BY id"
    )
    await outbox.enqueue_many(conn, [SyncBill(bill_id=bill_id) for bill_id in await conn.values(with_error, (ids,))])

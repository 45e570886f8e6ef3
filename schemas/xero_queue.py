"""Bills that waited for something to be mended, and are sent on their way to Xero now that it is; a chunk at a time."""

from schemas import ledger
from schemas.database import Connection
from schemas.messages import QueueBills, SyncBill
from schemas.settings import Settings
from schemas.xero_sync import USERS_SECONDS

CHUNK = 500

# Which of the bills `b` waited for that. One whose message is a dead letter waits for whoever replays that.
WAITED = {
    "connected": "b.xero_status IN ('not_connected', 'withdrawing')",
    "mapped": """
        b.xero_status = 'not_mapped' AND c.xero_project_id IS NOT NULL AND p.xero_task_id IS NOT NULL AND (
            EXISTS (SELECT FROM xero_users x WHERE x.tenant_id = t.tenant_id AND x.email IN (lower(u.email), %(fallback)s))
            OR t.users_read_at < clock_timestamp() - make_interval(secs => %(users_seconds)s))
    """,
}


async def go_on(conn: Connection, message: QueueBills, settings: Settings) -> None:
    """Queues the next bills that waited for this, and promises the chunk after them."""
    cursor = await conn.execute(
        f"""
        WITH waiting AS (
            SELECT b.id FROM time_bills b JOIN users u ON u.id = b.user_id JOIN customers c ON c.id = b.customer_id
            JOIN pillars p ON p.id = b.pillar_id CROSS JOIN xero_connection n JOIN xero_tenants t ON t.tenant_id = n.tenant_id
            WHERE b.status = 'approved' AND {WAITED[message.because]}
              AND (%(customer)s::uuid IS NULL OR b.customer_id = %(customer)s)
              AND (%(after)s::uuid IS NULL OR b.id > %(after)s)
            ORDER BY b.id LIMIT {CHUNK} FOR NO KEY UPDATE OF b
        )
        UPDATE time_bills b
        SET xero_status = CASE WHEN b.xero_status = 'withdrawing' THEN b.xero_status ELSE 'queued' END, xero_error = NULL
        FROM waiting WHERE b.id = waiting.id RETURNING b.id
        """.encode(),
        {
            "customer": message.customer_id,
            "after": message.after,
            "fallback": (settings.xero_fallback_user or "").lower(),
            "users_seconds": USERS_SECONDS,
        },
    )
    bill_ids = sorted(row[0] for row in await cursor.fetchall())
    await ledger.put_all(conn, [SyncBill(bill_id=bill_id) for bill_id in bill_ids])
    if len(bill_ids) == CHUNK:
        await ledger.put(conn, message.model_copy(update={"after": bill_ids[-1]}))

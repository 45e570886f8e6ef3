"""What Slack has sent, by its own names for it: it sends again what was not answered in time, for up to 24 hours."""

from schemas.database import Connection


async def first_time(conn: Connection, key: str) -> bool:
    """Whether this is received for the first time: kept in the transaction of its effect. Waits for one under way."""
    cursor = await conn.execute("INSERT INTO slack_receipts (key) VALUES (%s) ON CONFLICT (key) DO NOTHING", (key,))
    return cursor.rowcount == 1


async def prune(conn: Connection, *, rows: int) -> None:
    """Forgets what was received more than 48 hours ago, some at a time."""
    await conn.execute(
        """
        DELETE FROM slack_receipts WHERE key IN (
            SELECT key FROM slack_receipts WHERE at < clock_timestamp() - interval '48 hours'
            ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (rows,),
    )

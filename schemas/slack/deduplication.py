"""Deduplication of Slack's requests by Slack's own ids: Slack repeats a request without a timely answer for up to 24 hours."""

from schemas.postgres.connection import Connection


async def record_once(conn: Connection, key: str) -> bool:
    """True if the key is new. It is stored in the caller's transaction, the one of the request's effect. If another transaction
    is storing the same key, this waits for its end. A key that was stored before is locked, which is written to the WAL: so the
    caller's commit, too, waits until a synchronous standby has the key."""
    cursor = await conn.execute(
        "INSERT INTO slack_deduplication (key) VALUES (%s) ON CONFLICT (key) DO UPDATE SET key = excluded.key WHERE false",
        (key,),
    )
    return cursor.rowcount == 1


async def is_recorded(conn: Connection, key: str) -> bool:
    """Whether the key was recorded before, in the last 48 hours."""
    return bool(await conn.value("SELECT EXISTS (SELECT FROM slack_deduplication WHERE key = %s)", (key,)))

"""Transaction ids of another server: the rows of a restored dump contain them (docs/decisions/0023-sync-epochs.md).

Ids that this server has not given out yet would look changed to every client until it has. They are corrected before a sync
epoch begins (sync_epochs.py).
"""

import logging

from schemas.postgres.connection import Connection

logger = logging.getLogger(__name__)

LOCK = 7_474_612  # an advisory lock: epochs begin one after another, and not while transaction ids are corrected
ROWS_AT_ONCE = 10_000  # of one table, in one transaction that corrects transaction ids
# The columns that contain the transaction which changed a row. tests/sync/test_epochs.py compares them with the database.
CHANGED_BY = {
    "users": ("changed_xid",),
    "customers": ("changed_xid",),
    "pillars": ("changed_xid",),
    "tasks": ("changed_xid",),
    "focus": ("changed_xid",),
    "timers": ("changed_xid",),
    "time_bills": ("changed_xid", "locked_xid"),
    "time_entries": ("changed_xid",),
    "slack_channel_mappings": ("changed_xid",),
    "task_moves": ("changed_xid",),
    "timer_ends": ("changed_xid",),
    "bill_reopenings": ("changed_xid",),
}
_OLDEST_XID = "3"  # the first that Postgres ever gives out
# No visible row was written by this transaction or a later one. A row with such an id comes from the dump of another server.
FIRST_UNUSED = "pg_snapshot_xmax(pg_current_snapshot())"


def _has_future_rows(table: str, column: str) -> str:
    """SQL: whether a row of the table contains a transaction id that this server has not given out yet."""
    if table in ("time_bills", "time_entries"):  # the index of the large tables begins with the user
        return f"""EXISTS (SELECT FROM users u CROSS JOIN LATERAL (
            SELECT FROM {table} r WHERE r.user_id = u.id AND r.{column} >= {FIRST_UNUSED} OFFSET 0) found)"""
    return f"EXISTS (SELECT FROM {table} WHERE {column} >= {FIRST_UNUSED})"


_HAS_FUTURE_ROWS = " OR ".join(_has_future_rows(table, column) for table, columns in CHANGED_BY.items() for column in columns)
# pg_restore creates the primary keys after it has filled the tables
_IS_BEING_RESTORED = f"""(
    SELECT count(*) <= {len(CHANGED_BY)} FROM pg_index
    WHERE indisprimary AND indrelid = ANY ('{{sync_epochs, {", ".join(CHANGED_BY)}}}'::regclass[]))"""
NO_EPOCH_YET = f"SELECT {_IS_BEING_RESTORED} OR {_HAS_FUTURE_ROWS}"


async def correct(conn: Connection) -> int:
    """Replaces transaction ids that this server has not given out yet by the oldest one, in at most ROWS_AT_ONCE rows of each
    table, and returns in how many. Otherwise these rows would look changed until the server has given out as many ids. While
    there are such rows, there is no epoch, and so no cursor that these rows could be missing from."""
    if await conn.value(f"SELECT {_IS_BEING_RESTORED}"):
        return 0
    count = 0
    for table, columns in CHANGED_BY.items():
        is_future = {column: f"{column} >= {FIRST_UNUSED}" for column in columns}
        values = ", ".join(
            f"{column} = CASE WHEN {condition} THEN '{_OLDEST_XID}' ELSE {column} END"
            for column, condition in is_future.items()
        )
        async with conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(%s), set_config('stint.correcting_xids', 'on', true)", (LOCK,))
            cursor = await conn.execute(
                f"""
                UPDATE {table} SET {values} WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM {table} WHERE {" OR ".join(is_future.values())}
                    LIMIT {ROWS_AT_ONCE} FOR NO KEY UPDATE SKIP LOCKED))
                """
            )
            if cursor.rowcount:
                await _invalidate_all(conn)
        count += cursor.rowcount
    if count:
        logger.warning("transaction ids of another server were corrected: rows=%d", count)
    return count


async def _invalidate_all(conn: Connection) -> None:
    """Ends all epochs: no earlier cursor is valid any more."""
    await conn.execute("DELETE FROM sync_epoch_marker")
    await conn.execute(
        """
        INSERT INTO sync_epochs (id, position, valid_below, unbroken_since, written_by, began_at, ended_at)
        SELECT -1, '0/0', '0', clock_timestamp(), pg_current_xact_id(), clock_timestamp(), clock_timestamp()
        WHERE NOT EXISTS (SELECT FROM sync_epochs)   -- a dump of a version without epochs
        """
    )
    await conn.execute(
        """
        UPDATE sync_epochs
        SET valid_below = '0', written_by = pg_current_xact_id(), ended_at = coalesce(ended_at, clock_timestamp())
        WHERE valid_below IS DISTINCT FROM '0'
        """
    )

"""Epochs: from a start, failover or restore of Postgres to the next one (docs/decisions/0023-sync-epochs.md).

A sync cursor counts transaction ids, which are only unique within an epoch. In SQL, `sync_epoch()` is the epoch of the running
server, or null when it has none yet. Then whichever process reads this first begins one here. No person has to tell Stint that
Postgres crashed or was restored.

An epoch that begins with a restore to an earlier moment ends all sessions: the database does not know who was removed or signed
out since (docs/decisions/0049-sessions-after-a-restore.md).
"""

import logging
import secrets
import time
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.pq import TransactionStatus

from schemas.postgres.connection import Connection
from schemas.postgres.foreign_xids import LOCK, NO_EPOCH_YET, correct

logger = logging.getLogger(__name__)

FAILOVER_SECONDS = 300.0  # a promoted standby is not a restore if its last record is younger
SHOWN_SECONDS = 86_400.0  # after a restore
_TIMELINE = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer"
# '' unless the server was told to replay the WAL up to a certain point
_TARGET = " || ".join(f"current_setting('recovery_target{end}')" for end in ("", "_name", "_time", "_xid", "_lsn"))


@dataclass(frozen=True)
class Restore:
    """Postgres was restored to `moment`, `age_seconds` ago."""

    moment: datetime
    age_seconds: float


async def begin(conn: Connection) -> bool:
    """Whether the running server has an epoch; begins one if it has none and can have one. `conn` is outside a transaction: in
    one this changes nothing."""
    if conn.info.transaction_status is not TransactionStatus.IDLE or await conn.value(NO_EPOCH_YET):
        return False
    try:
        async with conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if await conn.value("SELECT sync_epoch()") is not None:
                return True
            if await conn.value(NO_EPOCH_YET):
                return False
            await _begin(conn)
            return True
    except psycopg.errors.ReadOnlySqlTransaction:
        return False


async def _begin(conn: Connection) -> None:
    epoch = secrets.randbits(63)
    # If the marker is still there, the server was stopped properly, and all that a client has seen is in this database. If not,
    # that is known only of what it saw up to the recorded position. Of epochs that come from a dump nothing is known: the ids
    # in them may be another server's. A restore to a moment begins another timeline of the WAL, as a promoted standby does. But
    # it has a new recovery target, or the moment is long ago.
    *began, restored_to = await conn.one(
        f"""
        WITH stopped AS (
            SELECT e.id, e.unbroken_since FROM sync_epoch_marker m JOIN sync_epochs e ON e.id = m.epoch_id
            WHERE m.xmin = m.written_by::xid AND e.xmin = e.written_by::xid
                AND m.database = (SELECT oid FROM pg_database WHERE datname = current_database())),
        restored AS (
            SELECT recorded_at FROM sync_epochs
            WHERE number = (SELECT max(number) FROM sync_epochs) AND xmin = written_by::xid
                AND NOT EXISTS (SELECT FROM stopped) AND timeline <> {_TIMELINE}
                AND ({_TARGET} NOT IN ('', recovery_target)
                    OR recorded_at < clock_timestamp() - make_interval(secs => %(failover_seconds)s))),
        ended AS (
            UPDATE sync_epochs e SET
                position = CASE WHEN id IN (SELECT id FROM stopped) THEN 'FFFFFFFF/FFFFFFFF' ELSE position END,
                valid_below = CASE
                    WHEN xmin = written_by::xid THEN least(valid_below, pg_snapshot_xmax(pg_current_snapshot())) ELSE '0' END,
                written_by = pg_current_xact_id(), ended_at = coalesce(ended_at, clock_timestamp())
            RETURNING id)
        INSERT INTO sync_epochs
            (id, position, unbroken_since, written_by, began_at, timeline, recovery_target, restored_to)
        SELECT %(epoch)s, pg_current_wal_insert_lsn(), coalesce(
            (SELECT unbroken_since FROM stopped),
            CASE WHEN EXISTS (SELECT FROM sync_epochs) THEN clock_timestamp() ELSE '-infinity' END),
            pg_current_xact_id(), clock_timestamp(), {_TIMELINE}, {_TARGET}, (SELECT recorded_at FROM restored)
        RETURNING number, EXISTS (SELECT FROM stopped), (SELECT count(*) FROM ended), restored_to
        """,
        {"epoch": epoch, "failover_seconds": FAILOVER_SECONDS},
    )
    await conn.execute("DELETE FROM sync_epoch_marker")
    await conn.execute(
        """
        INSERT INTO sync_epoch_marker (epoch_id, server_started, database, written_by)
        SELECT %s, pg_postmaster_start_time(), oid, pg_current_xact_id() FROM pg_database WHERE datname = current_database()
        """,
        (epoch,),
    )
    logger.info("a sync epoch begins: number=%d after_proper_stop=%s earlier=%d", *began)
    if restored_to is not None:
        logger.warning("Postgres was restored to an earlier moment, and all sessions have ended: moment=%s", restored_to)


async def record_position(conn: Connection) -> None:
    """Records how far the WAL has come: a later epoch accepts the cursors that were issued before. Each relay does this every
    two seconds. Begins an epoch if the running server has none."""
    cursor = await conn.execute(
        f"""
        UPDATE sync_epochs
        SET position = pg_current_wal_insert_lsn(), recorded_at = clock_timestamp(), written_by = pg_current_xact_id(),
            timeline = {_TIMELINE}, recovery_target = {_TARGET}
        WHERE id = sync_epoch()
        """
    )
    if cursor.rowcount == 0:
        await adopt(conn)


async def adopt(conn: Connection, *, seconds: float = 3.0) -> bool:
    """Begins an epoch if the running server has none. Before that, it corrects the transaction ids of a restored dump, for
    about `seconds`; if it returns False, call it again later."""
    ends = time.monotonic() + seconds
    while not await begin(conn):
        if time.monotonic() > ends or not await correct(conn):
            return False
    return True


async def last_restore(conn: Connection) -> Restore | None:
    """The last restore to an earlier moment; None if there was none in the last day."""
    return await conn.maybe(
        """
        SELECT restored_to AS moment, extract(epoch FROM clock_timestamp() - began_at)::float AS age_seconds FROM sync_epochs
        WHERE restored_to IS NOT NULL AND began_at > clock_timestamp() - make_interval(secs => %s)
        ORDER BY number DESC LIMIT 1
        """,
        (SHOWN_SECONDS,),
        row=Restore,
    )

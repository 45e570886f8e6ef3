"""The sweep: finds work that stopped moving, and sends it on its way again; and prunes what is long done."""

import asyncio
import logging

from actors.handling import process_name
from schemas import (
    failures,
    ledger,
    limits,
    replays,
    sign_in,
    slack_receipts,
    sync_operations,
    xero_connection,
    xero_invoices,
    xero_limits,
)
from schemas.database import Connection, connect
from schemas.failures import Failure
from schemas.ledger import Record
from schemas.settings import Settings

logger = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
PRUNE_ROWS = 5_000  # a round; more of it comes with the next


async def sweep(settings: Settings) -> None:
    """Sweeps every two seconds, for ever."""
    async with await connect(settings) as conn:
        while True:
            await sweep_once(conn, settings)
            await asyncio.sleep(EVERY_SECONDS)


async def sweep_once(conn: Connection, settings: Settings) -> None:
    """One round over everything that can be stuck."""
    if count := await return_unpublished(conn):
        logger.warning("a relay ended; sending %d messages again that it may not have published", count)
    if count := await return_sent_too_long(conn, seconds=settings.stint_sent_seconds):
        logger.warning("%d messages stayed sent too long; sending them again", count)
    if count := await return_lapsed(conn, base_seconds=settings.stint_retry_base_seconds):
        logger.warning("%d leases ran out", count)
    await xero_invoices.ensure(conn)
    await prune(conn, days=settings.stint_prune_days)


async def return_unpublished(conn: Connection) -> int:
    """Makes ready what was claimed by a relay that is no more: its advisory lock is free. It may have published some of it;
    those arrive twice, and the second publication is the one that counts."""
    cursor = await conn.execute("SELECT DISTINCT sent_by FROM messages WHERE state = 'sent' AND sent_by IS NOT NULL")
    count = 0
    for (other,) in await cursor.fetchall():
        async with conn.transaction():
            held = await conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (other,))
            row = await held.fetchone()
            if row is not None and row[0]:
                cursor = await conn.execute(
                    """
                    UPDATE messages SET state = 'ready' WHERE id IN (
                        SELECT id FROM messages WHERE state = 'sent' AND sent_by = %s FOR UPDATE SKIP LOCKED)
                    """,
                    (other,),
                )
                count += cursor.rowcount
    return count


async def return_sent_too_long(conn: Connection, *, seconds: float) -> int:
    """Makes ready what no worker has taken up for that long: RabbitMQ may have lost it. It may also just be slow, so the
    patience doubles with each publication: copies must not pile up faster than they are worked off."""
    cursor = await conn.execute(
        """
        UPDATE messages SET state = 'ready' WHERE id IN (
            SELECT id FROM messages
            WHERE state = 'sent'
              AND sent_at < clock_timestamp() - make_interval(secs => %s * power(2, least(publication - 1, 7)))
            FOR UPDATE SKIP LOCKED)
        """,
        (seconds,),
    )
    return cursor.rowcount


async def return_lapsed(conn: Connection, *, base_seconds: float) -> int:
    """Ends the attempts whose lease has run out: their worker died or hung in the middle of a call."""
    count = 0
    while (record := await _lapse_one(conn, base_seconds=base_seconds)) is not None:
        logger.info("the lease of %s %s ran out", record.actor, record.id)
        count += 1
    return count


async def _lapse_one(conn: Connection, *, base_seconds: float) -> Record | None:
    async with conn.transaction():
        cursor = await conn.execute(
            """
            SELECT id FROM messages WHERE state = 'calling' AND lease_until < clock_timestamp()
            ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED
            """
        )
        row = await cursor.fetchone()
        record = await ledger.lock(conn, row[0]) if row is not None else None
        if record is not None:
            await failures.fail(conn, record, _lapsed(), base_seconds=base_seconds)
        return record


def _lapsed() -> Failure:
    return Failure(
        error_class="LeaseLapsed",
        error="the worker ended or hung during the call; whether the call went through is not known",
        traceback="",
        worker=process_name(),
        crash=True,
    )


async def prune(conn: Connection, *, days: float) -> int:
    """Forgets messages and recompute jobs that were done that long ago, and what is of no use any more (limits, codes, outcomes
    of sync, what Slack sent, calls to Xero), some at a time. Dead messages never go."""
    await conn.execute(
        """
        DELETE FROM recompute_jobs WHERE id IN (
            SELECT id FROM recompute_jobs WHERE finished_at < clock_timestamp() - make_interval(secs => %s)
            ORDER BY finished_at LIMIT 1 FOR UPDATE SKIP LOCKED)
        """,
        (days * 86_400,),
    )
    await replays.prune(conn, days=days)
    await limits.prune(conn, rows=PRUNE_ROWS)
    await sign_in.prune(conn, rows=PRUNE_ROWS)
    await slack_receipts.prune(conn, rows=PRUNE_ROWS)
    await sync_operations.prune(conn, rows=PRUNE_ROWS)
    await xero_connection.prune(conn, rows=PRUNE_ROWS)
    await xero_limits.prune(conn, rows=PRUNE_ROWS)
    cursor = await conn.execute(
        """
        DELETE FROM messages WHERE id IN (
            SELECT id FROM messages WHERE state = 'done' AND done_at < clock_timestamp() - make_interval(secs => %s)
            ORDER BY done_at LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (days * 86_400, PRUNE_ROWS),
    )
    return cursor.rowcount

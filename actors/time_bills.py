"""Handlers of time bills' recompute messages."""

from actors.runtime.handlers import handles
from schemas.hours.bill_sums import lock_bills, recalculate
from schemas.hours.recompute import chunks
from schemas.messages import Recompute, RecomputeBills
from schemas.postgres.connection import Connection


@handles(RecomputeBills)
async def recompute_bills(conn: Connection, message: RecomputeBills) -> None:
    """Recalculates the sums of the bills, except approved ones."""
    await lock_bills(conn, message.bill_ids)
    await recalculate(conn, message.bill_ids)


@handles(Recompute)
async def recompute(conn: Connection, message: Recompute) -> None:
    """Processes one chunk of a recompute job, and enqueues the next one."""
    await chunks.process_chunk(conn, message)

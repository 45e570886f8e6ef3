"""What happens behind the queue to time bills."""

from actors.deliveries import handles
from schemas import recompute_chunks
from schemas.billing import lock_bills, sum_again
from schemas.database import Connection
from schemas.messages import Recompute, RecomputeBills


@handles(RecomputeBills)
async def recompute_bills(conn: Connection, message: RecomputeBills) -> None:
    """Sums the bills again; an approved one is left alone."""
    await lock_bills(conn, message.bill_ids)
    await sum_again(conn, message.bill_ids)


@handles(Recompute)
async def recompute(conn: Connection, message: Recompute) -> None:
    """Does one chunk of a recompute job, and promises the next."""
    await recompute_chunks.go_on(conn, message)

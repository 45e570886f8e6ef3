"""What happens behind the queue when a timer is stopped."""

from actors.deliveries import handles
from schemas import time_entries
from schemas.database import Connection
from schemas.messages import StopTimer
from schemas.settings import settings


@handles(StopTimer)
async def stop_timer(conn: Connection, message: StopTimer) -> None:
    """Makes the time entry and puts it on its bill."""
    limits = settings()
    await time_entries.add_stopped(conn, message, zone=limits.stint_timezone, long_seconds=limits.stint_long_hours * 3600)

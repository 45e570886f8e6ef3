"""Handler of stopped timers."""

from actors.runtime.handlers import handles
from schemas.hours import time_entries
from schemas.messages import StopTimer
from schemas.postgres.connection import Connection
from schemas.settings import settings


@handles(StopTimer)
async def stop_timer(conn: Connection, message: StopTimer) -> None:
    """Creates the time entry of a stopped timer on its bill."""
    await time_entries.create_from_stop(conn, message, zone=settings().stint_timezone)

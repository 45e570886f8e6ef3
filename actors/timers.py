"""Handler of stopped timers."""

from collections.abc import Sequence
from uuid import UUID

from actors.runtime.deliveries import Delivery
from actors.runtime.handlers import handles
from schemas.hours import time_entries
from schemas.messages import StopTimer
from schemas.postgres.connection import Connection
from schemas.settings import settings


async def _handle(conn: Connection, delivery: Delivery) -> bool:
    return await time_entries.handle_stop(
        conn, delivery.id, delivery.delivery_number, queue=delivery.queue, zone=settings().stint_timezone
    )


async def _handle_together(conn: Connection, deliveries: Sequence[Delivery]) -> set[UUID]:
    references = {delivery.id: delivery.delivery_number for delivery in deliveries}
    return await time_entries.handle_stops(conn, references, queue=StopTimer.queue, zone=settings().stint_timezone)


@handles(StopTimer, in_one_call=_handle, together=_handle_together)
async def stop_timer(conn: Connection, message: StopTimer) -> None:
    """Creates the time entry of a stopped timer on its bill."""
    await time_entries.create_from_stop(conn, message, zone=settings().stint_timezone)

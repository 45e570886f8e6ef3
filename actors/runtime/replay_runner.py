"""Runs in each relay: advances replays of dead letters, and sends alerts for new kinds of dead letters."""

import asyncio
import logging

from schemas.outbox import alerts
from schemas.outbox.dead_letters import replay_steps
from schemas.postgres.connection import connect
from schemas.settings import Settings

logger = logging.getLogger(__name__)

BUSY_SECONDS, IDLE_SECONDS = 0.1, 1.0


async def advance_replays(settings: Settings) -> None:
    """Advances running replays in a loop, until the connection to Postgres is lost."""
    async with await connect(settings) as conn:
        while True:
            busy = await replay_steps.advance(conn)
            async with conn.transaction():
                for alert in await alerts.send_alerts(conn, settings):
                    logger.error("%s", alert)
            await asyncio.sleep(BUSY_SECONDS if busy else IDLE_SECONDS)

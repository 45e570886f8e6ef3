"""What a relay does about dead letters: carries replays, and tells the people on call what is new."""

import asyncio
import logging

from schemas import alarms, replays
from schemas.database import connect
from schemas.settings import Settings

logger = logging.getLogger(__name__)

BUSY_SECONDS, IDLE_SECONDS = 0.1, 1.0


async def carry(settings: Settings) -> None:
    """Carries replays for ever, as far as they go at each step."""
    async with await connect(settings) as conn:
        while True:
            busy = await replays.carry(conn)
            async with conn.transaction():
                for news in await alarms.tell(conn, ops_email=settings.ops_email):
                    logger.error("%s", news)
            await asyncio.sleep(BUSY_SECONDS if busy else IDLE_SECONDS)

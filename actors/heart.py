"""The heartbeat of a worker or relay: beside its work, on a connection of its own."""

import asyncio
import logging
from datetime import UTC, datetime

import psycopg

from actors.handling import TALLY, process_name
from schemas import heartbeats
from schemas.database import Connection, connect, is_unreachable
from schemas.heartbeats import EVERY_SECONDS, Tally
from schemas.settings import Settings

logger = logging.getLogger(__name__)


async def beat(settings: Settings, *, kind: str, queues: list[str]) -> None:
    """Beats for ever, through outages of Postgres, too."""
    started_at = datetime.now(UTC)
    while True:
        try:
            async with await connect(settings) as conn:
                while True:
                    async with conn.transaction():
                        await heartbeats.beat(conn, process=process_name(), kind=kind, queues=queues, started_at=started_at)
                    await write_down(conn, TALLY)
                    await asyncio.sleep(EVERY_SECONDS)
        except psycopg.Error as error:
            if not is_unreachable(error):
                logger.error("the heartbeat fails: %s", type(error).__name__)
            await asyncio.sleep(EVERY_SECONDS)


async def write_down(conn: Connection, tally: Tally) -> None:
    """Adds up what was counted. What could not be written now, for an outage say, is kept for the next beat."""
    counted = tally.take()
    try:
        async with conn.transaction():
            await heartbeats.add_up(conn, counted)
    except BaseException:
        tally.give_back(counted)
        raise

"""The heartbeat of an API process: that it is alive, and how far its clock is from Postgres's. On a connection of its own, so
that it never waits for requests, nor they for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from schemas.outbox import heartbeats
from schemas.outbox.heartbeats import EVERY_SECONDS, process_name
from schemas.postgres.connection import connect
from schemas.settings import Settings


@asynccontextmanager
async def beating(settings: Settings) -> AsyncIterator[None]:
    """Records a heartbeat every few seconds while the block runs."""
    task = asyncio.create_task(_beat(settings))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})  # it has a connection


async def _beat(settings: Settings) -> None:
    """Never returns; survives outages of Postgres, which readiness and each request report."""
    started = time.monotonic()
    while True:
        try:
            async with await connect(settings) as conn:
                while True:
                    await heartbeats.beat(conn, process=process_name(), kind="api", queues=[], started=started)
                    await asyncio.sleep(EVERY_SECONDS)
        except (psycopg.Error, TimeoutError, OSError):
            await asyncio.sleep(EVERY_SECONDS)

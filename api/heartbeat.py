"""The heartbeat of an API process: that it is alive, and how far its clock is from Postgres's. On a connection of its own, so
that it never waits for requests, nor they for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg

from schemas.diagnosis import outages
from schemas.outbox import heartbeats
from schemas.outbox.heartbeats import EVERY_SECONDS, process_name
from schemas.postgres.connection import connect
from schemas.settings import Settings

FIRST_SECONDS = 2.0  # the longest that the start of a process waits for its first heartbeat


@asynccontextmanager
async def beating(settings: Settings) -> AsyncIterator[None]:
    """Records a heartbeat every few seconds while the block runs, and the first one before: a process that reports that it is
    ready counts as alive. While Postgres is away, the block begins without it. Meanwhile it looks for outages to tell. An end
    of the block without an error is recorded."""
    tried = asyncio.Event()
    tasks = {asyncio.create_task(_beat(settings, tried)), asyncio.create_task(outages.watch(settings))}
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await tried.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # they have connections
    await heartbeats.say_goodbye(settings)


async def _beat(settings: Settings, tried: asyncio.Event) -> None:
    """Never returns; survives outages of Postgres, which readiness and each request report. `tried` is set after the first
    attempt."""
    started = time.monotonic()
    while True:
        try:
            async with await connect(settings) as conn:
                while True:
                    await heartbeats.beat(conn, process=process_name(), kind="api", queues=[], started=started)
                    tried.set()
                    await asyncio.sleep(EVERY_SECONDS)
        except (psycopg.Error, TimeoutError, OSError):
            tried.set()
            await asyncio.sleep(EVERY_SECONDS)

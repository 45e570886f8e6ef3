"""The metrics of this process's connections to Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from api.processes.metrics import place
from schemas.postgres.pool import Database

EVERY_SECONDS = 1.0  # how old the figures of a process may be in another process's answer

CONNECTIONS = Gauge("stint_connections", "Connections to Postgres", ["process", "pool", "state"], multiprocess_mode="livesum")
MOST = Gauge("stint_connections_most", "The size of a pool", ["process", "pool"], multiprocess_mode="livesum")
WAITS = Gauge("stint_connection_waits", "Requests that wait for a connection", ["process", "pool"], multiprocess_mode="livesum")


def record(database: Database) -> None:
    """Sets the metrics to what is so now."""
    process = str(place())
    for pool in database.pools():
        for state, number in (("in_use", pool.in_use), ("idle", pool.idle), ("missing", pool.missing)):
            CONNECTIONS.labels(process, pool.name, state).set(number)
        MOST.labels(process, pool.name).set(pool.most)
        WAITS.labels(process, pool.name).set(pool.waiting)


@asynccontextmanager
async def recording(database: Database) -> AsyncIterator[None]:
    """Keeps the metrics current for the answers of other processes while the block runs."""

    async def record_again_and_again() -> None:
        while True:
            record(database)
            await asyncio.sleep(EVERY_SECONDS)

    task = asyncio.create_task(record_again_and_again())
    try:
        yield
    finally:
        task.cancel()

"""The heartbeat of a worker or relay, on a connection of its own, and its report to a supervisor that it is alive."""

import asyncio
import logging
import time
from collections.abc import Callable

import psycopg

from actors.runtime.attempts import handler_metrics
from schemas.outbox import heartbeats
from schemas.outbox.heartbeats import EVERY_SECONDS, HandlerMetrics, Report, process_name
from schemas.postgres.connection import Connection, connect, is_unreachable
from schemas.settings import Settings
from schemas.starting import report_alive

logger = logging.getLogger(__name__)


async def beat(settings: Settings, *, kind: str, queues: list[str], report: Callable[[], Report]) -> None:
    """Records a heartbeat every few seconds with the `report` of that moment, and this process's handler metrics. Never
    returns; survives outages of Postgres."""
    started = time.monotonic()
    while True:
        try:
            async with await connect(settings) as conn:
                while True:
                    async with conn.transaction():
                        await heartbeats.beat(
                            conn,
                            process=process_name(),
                            kind=kind,
                            queues=queues,
                            started=started,
                            report=report(),
                        )
                    await flush(conn, handler_metrics)
                    await asyncio.sleep(EVERY_SECONDS)
        except psycopg.Error as error:
            if not is_unreachable(error):
                logger.error("heartbeat failed: %s", type(error).__name__)
            await asyncio.sleep(EVERY_SECONDS)


async def stay_alive() -> None:
    """Reports every few seconds that the process is alive, also while Postgres is away or does not react. Never returns."""
    while True:
        report_alive()
        await asyncio.sleep(EVERY_SECONDS)


async def flush(conn: Connection, metrics: HandlerMetrics) -> None:
    """Adds the metrics to the totals in Postgres. If that fails, they are kept for the next heartbeat."""
    taken = metrics.take()
    try:
        async with conn.transaction():
            await heartbeats.add_totals(conn, taken)
    except BaseException:
        metrics.put_back(taken)
        raise

"""The part of `/metrics` that is read from Postgres: at most once in a few seconds, however many scrapes ask for it."""

import asyncio
import time

from schemas.diagnosis import postgres_health
from schemas.outbox import metrics
from schemas.postgres import backups
from schemas.postgres.connection import WRITES_REFUSED, Connection, PoolBusy, is_unreachable
from schemas.postgres.pool import Database
from schemas.postgres.server.writes import check_writable


class OutboxMetrics:
    """The metrics of the whole installation, as this process read them last."""

    def __init__(self, database: Database, *, seconds: float, backup_max_age_days: float | None) -> None:
        self._database, self._seconds, self._backup_max_age_days = database, seconds, backup_max_age_days
        self._reading: asyncio.Task[list[str]] | None = None
        self._read_at = float("-inf")

    async def lines(self) -> list[str]:
        """The metrics, at most `seconds` old. Concurrent callers share one read; a caller that is cancelled does not end it."""
        if self._reading is None or (self._reading.done() and not self._is_fresh(self._reading)):
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    def _is_fresh(self, read: asyncio.Task[list[str]]) -> bool:
        has_failed = read.cancelled() or read.exception() is not None
        return not has_failed and time.monotonic() - self._read_at < self._seconds

    async def _read(self) -> list[str]:
        try:
            lines = ["stint_postgres_up 1", *await self._database.with_deadline(self._read_outbox())]
        except Exception as error:
            if not is_unreachable(error):
                raise
            lines = [f"stint_postgres_up {int(isinstance(error, PoolBusy))}"]  # busy: Postgres answers others
        self._read_at = time.monotonic()
        return ["# TYPE stint_postgres_up gauge", *lines]

    async def _read_outbox(self) -> list[str]:
        async with self._database.connection(queued=False) as conn:
            writable = ["# TYPE stint_postgres_writable gauge", f"stint_postgres_writable {int(await self._is_writable(conn))}"]
            backup = backups.lines(await backups.read(conn, max_age_days=self._backup_max_age_days))
            health = postgres_health.lines(await postgres_health.read(conn))
            return [*writable, *health, *backup, *await metrics.metrics(conn)]

    async def _is_writable(self, conn: Connection) -> bool:
        try:
            await check_writable(conn, disk=self._database.disk_was_full)
        except WRITES_REFUSED as error:
            self._database.note_refusal(error)
            return False
        return True

"""The metric `stint_findings`: how many findings of the doctor there are in each section of docs/operations.md, for sections
without another metric."""

import asyncio
import time
from collections.abc import Mapping

import psycopg

from api.processes import metrics
from schemas.diagnosis.report.counts import MIGRATIONS, count
from schemas.postgres.connection import is_unreachable
from schemas.postgres.migrate import UNDEFINED
from schemas.postgres.pool import Database
from schemas.settings import Settings

TOO_FEW = "API has too few processes"
TIMES_SLOWER = 5  # than the other metrics that are read from Postgres: these change seldom


class FindingCounts:
    """The counts as this process read them last, at most once in five times STINT_METRICS_SECONDS."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._reading: asyncio.Task[dict[str, int]] | None = None
        self._read_at = float("-inf")

    async def lines(self) -> list[str]:
        """The metric in Prometheus's text format. Concurrent callers share one read; one that is cancelled does not end it."""
        seconds = TIMES_SLOWER * self._settings.stint_metrics_seconds
        if self._reading is None or (self._reading.done() and time.monotonic() - self._read_at >= seconds):
            self._reading = asyncio.create_task(self._read())
        found = dict(await asyncio.shield(self._reading))
        serving, expected = metrics.serving()
        if expected > 1:
            found[TOO_FEW] = int(serving < expected)
        return finding_lines(found)

    async def _read(self) -> dict[str, int]:
        """The counts of what Postgres knows; none while it cannot be read, which other metrics tell."""
        try:
            return await self._database.with_deadline(self._count())
        except UNDEFINED:
            return {MIGRATIONS: 1}
        except (psycopg.Error, TimeoutError, OSError) as error:
            if not is_unreachable(error):
                raise
            return {}
        finally:
            self._read_at = time.monotonic()

    async def _count(self) -> dict[str, int]:
        async with self._database.connection(queued=False) as conn:
            return await count(conn, self._settings)


def finding_lines(found: Mapping[str, int]) -> list[str]:
    """The metric in Prometheus's text format."""
    lines = [f'stint_findings{{section="{section}"}} {number}' for section, number in found.items()]
    return ["# TYPE stint_findings gauge", *lines]

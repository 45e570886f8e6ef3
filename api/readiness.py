"""Whether this process can serve: one check of Postgres, however many probes ask for it."""

import asyncio
import time

from schemas.postgres.connection import PoolBusy, is_unreachable
from schemas.postgres.migrate import pending
from schemas.postgres.pool import Database

SHARED_SECONDS = 0.5  # checks start at least that far apart


class Readiness:
    """The problems that keep this process from serving, as the last check found them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._check: asyncio.Task[tuple[str, ...]] | None = None
        self._started_at = float("-inf")

    async def problems(self) -> tuple[str, ...]:
        """None if Postgres answers and has all migrations. Concurrent callers share a check, since the route is public and the
        connections are few; a caller that is cancelled does not end it."""
        now = time.monotonic()
        if self._check is None or (self._check.done() and now - self._started_at >= SHARED_SECONDS):
            self._started_at = now
            self._check = asyncio.create_task(self._find_problems())
        return await asyncio.shield(self._check)

    async def _find_problems(self) -> tuple[str, ...]:
        try:
            if await self._database.with_deadline(self._lacks_migrations()):
                return ("The database lacks migrations; run ./stint migrate.",)
        except Exception as error:
            if not is_unreachable(error):
                raise
            if isinstance(error, PoolBusy):
                return ("Busy: all connections of this process to Postgres are in use, and Postgres answers.",)
            return ("Postgres cannot be reached; check DATABASE_URL and the server.",)
        return ()

    async def _lacks_migrations(self) -> bool:
        async with self._database.connection(queued=False) as conn:
            return await pending(conn)

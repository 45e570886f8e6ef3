"""Whether this process can serve: one check of Postgres, however many probes ask for it."""

import asyncio
import time

import psycopg

from schemas.postgres import sync_epochs
from schemas.postgres.connection import PoolBusy, connect, is_unreachable
from schemas.postgres.migrate import pending
from schemas.postgres.pool import Database
from schemas.postgres.server.pooler import POOLED, SECONDS, is_pooled
from schemas.postgres.server.writes import check_writable
from schemas.settings import Settings

SHARED_SECONDS = 0.5  # checks start at least that far apart
LACKS_MIGRATIONS = "The database lacks migrations; run ./stint migrate."
READ_ONLY = "Postgres is read-only; ./stint doctor says why."
DISK_FULL = "The disk of Postgres is full; ./stint doctor says where."


class Readiness:
    """The problems that keep this process from serving, as the last check found them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._pooler_look: asyncio.Task[bool] | None = None  # once it has found none, it is not repeated
        self._check: asyncio.Task[tuple[str, ...]] | None = None
        self._started_at = float("-inf")

    async def problems(self) -> tuple[str, ...]:
        """Empty if Postgres answers, stores changes and has all migrations. Concurrent callers share a check, since the route
        is public and the connections are few; a caller that is cancelled does not end it."""
        now = time.monotonic()
        if self._check is None or (self._check.done() and now - self._started_at >= SHARED_SECONDS):
            self._started_at = now
            self._check = asyncio.create_task(self._find_problems())
        return await asyncio.shield(self._check)

    async def _find_problems(self) -> tuple[str, ...]:
        try:
            problems = await self._database.with_deadline(self._look())
            return problems or ((f"{POOLED}.",) if await self._is_pooled() else ())
        except psycopg.errors.ReadOnlySqlTransaction:
            return (READ_ONLY,)
        except psycopg.errors.DiskFull:
            return (DISK_FULL,)
        except Exception as error:
            if not is_unreachable(error):
                raise
            if isinstance(error, PoolBusy):
                return ("Busy: all connections of this process to Postgres are in use, and Postgres answers.",)
            return ("Postgres cannot be reached; check DATABASE_URL and the server.",)

    async def _look(self) -> tuple[str, ...]:
        async with self._database.connection(queued=False) as conn:
            if await pending(conn):
                return (LACKS_MIGRATIONS,)
            # at the disk only after a statement has found it full: that look costs 20 ms of the server
            looks_at_disk = self._database.disk_was_full
            await check_writable(conn, disk=looks_at_disk)
            if looks_at_disk:  # else a statement may have found it full meanwhile
                self._database.disk_was_full = False
            if await conn.value("SELECT sync_epoch()") is None:  # a restore to an earlier moment ends the sessions of before
                await sync_epochs.begin(conn)
        return ()

    async def _is_pooled(self) -> bool:
        """Whether a pooler was found. False as well if that cannot be known now: there is no connection for the look, or it
        takes long. That keeps nobody from serving with the connections that there are."""
        if self._pooler_look is None:
            self._pooler_look = asyncio.create_task(is_pooled(lambda: connect(self._settings)))
        await asyncio.wait({self._pooler_look}, timeout=SECONDS)
        if not self._pooler_look.done():
            return False
        try:
            found = self._pooler_look.result()
        except psycopg.Error:
            found, self._pooler_look = False, None
        if found:  # until it is taken away
            self._pooler_look = None
        return found

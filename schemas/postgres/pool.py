"""The connection pools of one API process."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from schemas.errors import Unavailable
from schemas.postgres.checkouts import Checkouts, DetachedTasks, PoolState
from schemas.postgres.connection import (
    CONNECTION_OPTIONS,
    STATEMENT_FAILED,
    UNREACHABLE,
    Connection,
    PoolBusy,
    Result,
    begin_session,
    connect,
    trace,
    wait_for_leases,
)
from schemas.postgres.liveness import LivenessMonitor
from schemas.postgres.server.writes import check_writable
from schemas.servers.postgres_hosts import hosts_of
from schemas.servers.postgres_refusals import WRITES_REFUSED
from schemas.settings import Settings

# The sizes of the two pools. The first is for most requests. The second is for requests that must not queue behind them. In
# addition, an API process has a connection that listens for live events, and the probe of the liveness monitor.
POOL_SIZE, UNQUEUED_SIZE = 16, 8
BUSY_SECONDS = 5.0  # the longest wait for a connection while all are in use and Postgres is alive
ANSWER_SECONDS = 1.5  # the probe is asked at least that often
BULK_WAIT_SECONDS = 20  # the longest wait of a request with many transactions


class Database:
    """The connections of one API process to Postgres.

    - If Postgres is away, a request gets PoolTimeout after `stint_connect_seconds`.
    - If all connections are in use or being made while Postgres answers, a request gets PoolBusy after BUSY_SECONDS.
    - If Postgres stops responding, a request that has a connection gets OperationalError within two seconds.
    - A request that is cancelled gives back its connection, whenever it is cancelled.
    """

    def __init__(self, settings: Settings, *, size: int = POOL_SIZE) -> None:
        self._settings = settings
        self._all: WeakSet[Connection] = WeakSet()
        self._monitor = LivenessMonitor(
            lambda: connect(settings),
            self._all,
            is_connection_expected=lambda: self._queued.is_connection_expected(),
            connect_seconds=lambda: hosts_of(settings.database_url).longest_seconds(LivenessMonitor.CONNECT_SECONDS),
        )
        self._pool, self._unqueued_pool = self._new_pool(2, size), self._new_pool(1, UNQUEUED_SIZE)
        self._queued = Checkouts("queued", self._pool, size, self._monitor)
        self._unqueued = Checkouts("unqueued", self._unqueued_pool, UNQUEUED_SIZE, self._monitor)
        self._deadline_seconds = settings.stint_connect_seconds + 0.4
        self._bulk_slots = asyncio.Semaphore(max(1, size // 4))
        self._checking: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.disk_was_full = False  # whether a statement has found the disk full, and no check has found space since
        self._tasks = DetachedTasks()

    async def open(self) -> None:
        """Starts to connect, without waiting, so that the API starts even while Postgres is away."""
        await self._pool.open(wait=False)
        await self._unqueued_pool.open(wait=False)
        self._monitor.open()

    async def close(self) -> None:
        await self._tasks.wait(seconds=2)
        await self._monitor.close()
        await asyncio.gather(self._queued.close(), self._unqueued.close())

    def pools(self) -> list[PoolState]:
        """The state of both pools."""
        return [self._queued.state(), self._unqueued.state()]

    def _new_pool(self, least: int, most: int) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool(
            self._settings.database_url,
            connection_class=Connection,
            kwargs=CONNECTION_OPTIONS,
            configure=self._configure,
            min_size=least,
            max_size=most,
            # reconnect within seconds after Postgres is back, instead of after a long exponential backoff
            reconnect_timeout=3,
            open=False,
        )

    async def _configure(self, conn: Connection) -> None:
        self._all.add(conn)
        # parallel workers take a request's statements up to twice as much CPU time in all
        await begin_session(conn, self._settings, max_parallel_workers_per_gather=0)
        self._queued.record_connected()

    @asynccontextmanager
    async def connection(self, *, queued: bool = True) -> AsyncIterator[Connection]:
        """Yields one connection, in autocommit: a single statement needs no transaction.

        With `queued=False` the connection comes from the pool for requests that must not queue behind all others.

        If the block has changed somebody's access, the end of the block waits until no process uses what it read of it before.
        The connection is given back before this wait.
        """
        checkouts = self._queued if queued else self._unqueued
        must_wait = False
        try:
            with self._monitor.track():  # includes the wait for a connection
                conn = await checkouts.take_now() or await self._wait_for(checkouts)
                try:
                    await trace(conn)
                    yield conn
                except WRITES_REFUSED:
                    await conn.close()  # it does not suspend; another connection may lead to a server that stores changes
                    raise
                finally:
                    must_wait = conn.take_must_wait()
                    await checkouts.return_connection(conn)  # to its end, also if the request is cancelled
        except UNREACHABLE as error:
            if isinstance(error, WRITES_REFUSED):
                self.note_refusal(error)
            elif not isinstance(error, (PoolBusy, *STATEMENT_FAILED)):
                self._replace_dead_connections()
            raise
        finally:
            if must_wait:
                await wait_for_leases()

    async def _wait_for(self, checkouts: Checkouts) -> Connection:
        """A connection. Raises PoolTimeout or PoolBusy if there is none in time.

        The wait ends after `stint_connect_seconds`. In the queue it lasts up to BUSY_SECONDS while Postgres answers.
        """
        started = time.monotonic()
        seconds = self._settings.stint_connect_seconds
        longest = seconds
        limit: AbstractAsyncContextManager[None] = nullcontext()
        if checkouts is self._queued:
            longest = BUSY_SECONDS
            limit = self._monitor.timeout_while_alive(seconds)
        try:
            with self._monitor.asking():
                async with asyncio.timeout(longest), limit:
                    return await checkouts.take(longest)
        except (TimeoutError, PoolTimeout):
            raise self._no_connection(since=started) from None

    def _no_connection(self, *, since: float) -> PoolTimeout:
        # the probe may not have been asked yet during a very short wait
        if self._monitor.answered_since(min(since, time.monotonic() - ANSWER_SECONDS)):
            return PoolBusy("all connections are in use")
        return PoolTimeout("Postgres does not respond")

    @asynccontextmanager
    async def bulk_connection(self) -> AsyncIterator[Connection]:
        """Yields one connection for a request with many transactions. Raises Unavailable after BULK_WAIT_SECONDS.

        Such requests use at most a quarter of the pool at a time. Further ones wait without a connection. So short requests are
        not delayed.
        """
        try:
            async with asyncio.timeout(BULK_WAIT_SECONDS):
                await self._bulk_slots.acquire()
        except TimeoutError:
            raise Unavailable("Too many clients are syncing right now; send the same request again in a moment.") from None
        try:
            async with self.connection() as conn:
                yield conn
        finally:
            self._bulk_slots.release()

    @asynccontextmanager
    async def transaction(self, *, queued: bool = True) -> AsyncIterator[Connection]:
        """Yields one connection inside a transaction. It is committed at the end, and rolled back on any exception."""
        async with self.connection(queued=queued) as conn:
            try:
                async with conn.transaction():
                    yield conn
            except BaseException:
                conn.access_changed = False
                raise

    async def with_deadline(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of a short piece of work. Raises PoolTimeout within two seconds, even if Postgres is frozen.

        A frozen server does not apply its own statement timeout, and a cancelled statement waits for the server, too. So the
        work has a task of its own, which is left alone at the deadline. PoolBusy, a PoolTimeout, means that Postgres answers
        others.
        """
        started = time.monotonic()
        task = self._tasks.start(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._deadline_seconds)
        finally:
            if not task.done():
                task.cancel()
                task.add_done_callback(_ignore_error)
        if not done:
            raise self._no_connection(since=started)
        return task.result()

    async def to_its_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`, which continues to its end even if the caller is cancelled.

        It is for work that takes something which it must give back by a statement.
        """
        return await asyncio.shield(self._tasks.start(work))

    def answers(self, *, seconds: float) -> bool:
        """Whether Postgres has answered within the last `seconds`. It must be ANSWER_SECONDS or more."""
        return self._monitor.answered_since(time.monotonic() - seconds)

    def note_refusal(self, error: Exception) -> None:
        """Call it with an error of WRITES_REFUSED of one of these connections that no `connection()` block has raised."""
        if isinstance(error, psycopg.errors.DiskFull):
            self.disk_was_full = True
        elif self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Replaces all connections if a new connection can write. In this case only the old sessions are read-only."""
        with suppress(*UNREACHABLE):
            async with await connect(self._settings) as conn:
                await check_writable(conn, disk=False)
            await self._pool.drain()
            await self._unqueued_pool.drain()

    def _replace_dead_connections(self) -> None:
        # After a restart of Postgres all idle connections are dead. Without this, each would first make a request fail.
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        await asyncio.gather(self._pool.check(), self._unqueued_pool.check())


def _ignore_error(task: asyncio.Task[Any]) -> None:
    """Reads the error of a task that nobody waits for, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()

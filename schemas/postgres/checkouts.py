"""Takes connections from a pool of psycopg and gives them back, so that a cancelled request never loses one.

psycopg_pool has two faults (decision 24). It loses a connection if `putconn` is cancelled while the pool's lock is taken. And
it may lose a connection or a cancellation if `getconn` is cancelled while it waits in the pool's queue.

So a request does not wait in that queue. It waits for one of `size` places, which are an `asyncio.Semaphore`. When it has a
place, it asks the pool for a connection in a task. If the request is cancelled, the task continues, and gives back the
connection that it gets.

Mostly there is nothing to wait for: the pool has an idle connection, and its lock is free. Then a request calls the pool
directly, without a task. Such a call does not suspend, so no cancellation can happen during it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from schemas.postgres.connection import Connection, Result
from schemas.postgres.liveness import LivenessMonitor


class DetachedTasks:
    """Tasks that continue to their end if the request that started them is cancelled."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()  # the event loop itself keeps no reference to a task

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Starts the work. To wait for it without cancelling it, use `asyncio.shield`."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def wait(self, *, seconds: float) -> None:
        """Waits until all tasks have ended, for at most `seconds`."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)


@dataclass(frozen=True)
class PoolState:
    """The numbers of the connections of one pool, and of the requests that wait for one."""

    name: str
    most: int  # connections that the pool may have
    in_use: int
    idle: int
    missing: int  # connections that are being made; if the number stays, they are lost
    waiting: int  # requests


class Checkouts:
    """Takes connections from one pool: at most `size` are in use at a time."""

    def __init__(self, name: str, pool: AsyncConnectionPool[Connection], size: int, monitor: LivenessMonitor) -> None:
        self._name = name
        self._pool = pool
        self._size = size
        self._monitor = monitor
        self._places = asyncio.Semaphore(size)
        self._free = size  # places that nobody has
        self._waiting = 0  # requests
        self._tasks = DetachedTasks()
        self._failures_before = 0  # attempts to connect that had failed when the last one succeeded
        self.in_use = 0  # connections that requests have

    def record_connected(self) -> None:
        """The pool calls this when it has made a connection."""
        self._failures_before = self._failures()

    def is_connection_expected(self) -> bool:
        """Whether there is a connection, or will be one soon.

        This is so while one is in use, and if the last attempt to connect that has ended did not fail.
        """
        return self.in_use > 0 or self._failures() == self._failures_before

    def _failures(self) -> int:
        return self._pool.get_stats().get("connections_errors", 0)

    async def take_now(self) -> Connection | None:
        """An idle connection of the pool. None: there is none, or others wait for one. It does not suspend."""
        idle = self._pool._pool
        if self._places.locked() or not _is_free(self._pool._lock) or not idle or _is_closed(idle[0]):
            return None
        await self._places.acquire()
        self._free -= 1
        try:
            conn = await self._pool.getconn()
        except BaseException:
            self._release()
            raise
        self.in_use += 1
        return conn

    async def take(self, seconds: float) -> Connection:
        """A connection. Requests get theirs in the order in which they asked.

        The wait for a place has no limit: limit it with `asyncio.timeout`. With a place, PoolTimeout is raised if the pool has
        no connection after `seconds`.
        """
        self._waiting += 1
        try:
            await self._places.acquire()
            self._free -= 1
            taking = self._tasks.start(self._take(seconds))
            try:
                conn = await asyncio.shield(taking)
            except BaseException:  # cancelled, or Postgres is away
                taking.add_done_callback(self._give_up)
                raise
        finally:
            self._waiting -= 1
        self.in_use += 1
        return conn

    async def return_connection(self, conn: Connection) -> None:
        """Gives back what `take` or `take_now` has returned, even if the caller is cancelled during the call."""
        self.in_use -= 1
        is_idle = conn.pgconn.transaction_status == TransactionStatus.IDLE
        if is_idle and _is_free(self._pool._lock) and not self._pool._waiting:
            await self._return_connection(conn)  # it does not suspend
        else:
            await asyncio.shield(self._tasks.start(self._return_connection(conn)))

    async def _take(self, seconds: float) -> Connection:
        """A connection that the server has not closed. Raises PoolTimeout after `seconds`.

        After a restart of Postgres, the idle connections of the pool are closed. Each that it finds is replaced.
        """
        ends = time.monotonic() + seconds
        conn = await self._get(seconds)
        while _is_closed(conn):
            await conn.close()
            await self._pool.putconn(conn)  # the pool replaces a closed connection when it gets it back
            conn = await self._get(max(0.01, ends - time.monotonic()))
        return conn

    async def _get(self, seconds: float) -> Connection:
        try:
            return await self._pool.getconn(seconds)
        except PoolTimeout:
            _remove_expired(self._pool._waiting)
            raise

    def _give_up(self, taking: asyncio.Task[Connection]) -> None:
        """Called at the end of a task whose request has gone: gives back its place, and the connection if it has got one."""
        if taking.cancelled() or taking.exception() is not None:
            self._release()
        else:
            self._tasks.start(self._return_connection(taking.result()))

    async def _return_connection(self, conn: Connection) -> None:
        try:
            with self._monitor.track():  # a rollback waits for Postgres, too
                await self._pool.putconn(conn)
        finally:
            self._release()

    def _release(self) -> None:
        self._free += 1
        self._places.release()

    async def close(self) -> None:
        """Closes the pool. Before that, it waits for connections that are being given back, for at most two seconds."""
        await self._tasks.wait(seconds=2)
        await self._pool.close(timeout=2)

    def state(self) -> PoolState:
        """The present numbers."""
        stats = self._pool.get_stats()
        taken = self._size - self._free
        idle = stats["pool_available"]
        missing = max(0, stats["pool_size"] - idle - taken)
        return PoolState(self._name, self._size, in_use=taken, idle=idle, missing=missing, waiting=self._waiting)


def _is_free(lock: asyncio.Lock) -> bool:
    """Whether the lock can be taken without suspending. A lock that is handed over to a waiter is not locked, but not free."""
    return not lock.locked() and not lock._waiters


def _is_closed(conn: Connection) -> bool:
    return bool(conn.closed or conn.is_closed_by_server())


def _remove_expired(waiting: deque[Any]) -> None:
    """Removes the clients from the pool's queue that have waited in vain.

    psycopg_pool removes such a client only when it has a connection for it. While Postgres is away, the queue would grow with
    each request.
    """
    for client in [client for client in waiting if client.error is not None]:
        with suppress(ValueError):
            waiting.remove(client)

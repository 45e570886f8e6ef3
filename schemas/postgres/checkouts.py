"""Takes connections from a pool of psycopg, and gives them back, so that no cancelled request loses one.

psycopg_pool loses a connection if `putconn` is cancelled while the pool's lock is taken, and its queue of waiting clients does
not stand every cancellation either. So a request never waits in that queue itself: it waits for one of `size` places, which is
an `asyncio.Semaphore`, and only with a place asks for a connection, in a task. If the request is cancelled, the task continues,
and gives back whatever it gets. Mostly there is nothing to wait for, as the pool has a connection and its lock is free: then a
request calls the pool itself, which does not suspend it, so that no cancellation can come in between.
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

from schemas.postgres.connection import Connection
from schemas.postgres.liveness import LivenessMonitor


@dataclass(frozen=True)
class PoolState:
    """The connections of one pool, in numbers, and the requests that wait for one."""

    name: str
    most: int
    in_use: int
    idle: int
    missing: int  # being connected; or lost, if it stays so
    waiting: int


class Checkouts:
    """The connections of one pool that are in use, at most `size`."""

    def __init__(self, name: str, pool: AsyncConnectionPool[Connection], size: int, monitor: LivenessMonitor) -> None:
        self._name, self._pool, self._size, self._monitor = name, pool, size, monitor
        self._places = asyncio.Semaphore(size)
        self._free, self._waiting = size, 0
        self._tasks: set[asyncio.Task[Any]] = set()  # the event loop itself keeps no reference to a task
        self._failures_before = 0  # attempts to connect that had failed when the last one succeeded
        self.in_use = 0

    def record_connected(self) -> None:
        """Call it when the pool has made a connection."""
        self._failures_before = self._failures()

    def is_connection_expected(self) -> bool:
        """Whether one is in use, or is being made: the last attempt to connect that has ended did not fail."""
        return self.in_use > 0 or self._failures() == self._failures_before

    def _failures(self) -> int:
        return self._pool.get_stats().get("connections_errors", 0)

    async def take_now(self) -> Connection | None:
        """A connection that the pool has, if nobody waits for one; else None. It does not suspend."""
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
        """A connection, first come, first served. Limit the wait for it with `asyncio.timeout`; after `seconds` with a place
        it raises PoolTimeout."""
        self._waiting += 1
        try:
            await self._places.acquire()
            self._free -= 1
            taking = self._start(self._take(seconds))
            try:
                conn: Connection = await asyncio.shield(taking)
            except BaseException:  # cancelled, or Postgres is away
                taking.add_done_callback(self._give_up)
                raise
        finally:
            self._waiting -= 1
        self.in_use += 1
        return conn

    async def return_connection(self, conn: Connection) -> None:
        """Gives back what `take` or `take_now` returned, also if the caller is cancelled meanwhile."""
        self.in_use -= 1
        is_idle = conn.pgconn.transaction_status == TransactionStatus.IDLE
        if is_idle and _is_free(self._pool._lock) and not self._pool._waiting:
            await self._return_connection(conn)  # it does not suspend
        else:
            await asyncio.shield(self._start(self._return_connection(conn)))

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _take(self, seconds: float) -> Connection:
        """A connection that the server has not closed; idle ones that died with a restart of Postgres are replaced. Raises
        PoolTimeout."""
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
        """After a request that did not get its connection."""
        if taking.cancelled() or taking.exception() is not None:
            self._release()
        else:
            self._start(self._return_connection(taking.result()))

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
        """Closes the pool, after what is still being given back."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        await self._pool.close(timeout=2)

    def state(self) -> PoolState:
        """The pool's connections now."""
        stats = self._pool.get_stats()
        taken, idle = self._size - self._free, stats["pool_available"]
        missing = max(0, stats["pool_size"] - idle - taken)
        return PoolState(self._name, self._size, in_use=taken, idle=idle, missing=missing, waiting=self._waiting)


def _is_free(lock: asyncio.Lock) -> bool:
    """Whether it can be taken without a suspension. While it is handed over to who waits for it, it is not locked."""
    return not lock.locked() and not lock._waiters


def _is_closed(conn: Connection) -> bool:
    return bool(conn.closed or conn.is_closed_by_server())


def _remove_expired(waiting: deque[Any]) -> None:
    """psycopg_pool removes a client that has waited in vain only when it has a connection for it: while Postgres is away, its
    queue would grow with each request."""
    for client in [client for client in waiting if client.error is not None]:
        with suppress(ValueError):
            waiting.remove(client)

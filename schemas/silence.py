"""Hanging up on a Postgres that stands still, or behind a network that swallows everything: its connections stay open, and
whoever waits for an answer would wait until the network gives up, or for ever.

A request that is refused when Postgres is away has two seconds. A limit on every statement would cut off those that are merely
slow, so a statement that takes long is a reason to ask something trivial beside it: only if that is not answered either, all
who wait are told that Postgres is away.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import AsyncConnection

TICK_SECONDS = 0.2
LONG_SECONDS = 0.6  # that a connection is lent before it is asked whether Postgres says anything
PROBE_SECONDS = 0.9
LOOP_SECONDS = 0.05  # an answer that has arrived may wait for this process itself

Connection = AsyncConnection[tuple[object, ...]]


class Silence:
    """Watches over connections that are lent, and hangs up those that wait for a Postgres that says nothing."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._lent: dict[Connection, float] = {}
        self._probe: Connection | None = None

    @contextmanager
    def ends(self, conn: Connection) -> Iterator[None]:
        """Within the block, a silent Postgres makes whatever waits on the connection raise psycopg.OperationalError."""
        self._lent[conn] = time.monotonic()
        try:
            yield
        finally:
            del self._lent[conn]

    async def watch(self) -> None:
        """Watches until it is cancelled. As long as no connection is lent for long, it asks Postgres nothing."""
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                if self._waiting() and await self._is_silent():
                    for conn in self._waiting():
                        hang_up(conn)
        finally:
            if self._probe is not None:
                hang_up(self._probe)

    def _waiting(self) -> list[Connection]:
        since = time.monotonic() - LONG_SECONDS
        return [conn for conn, lent in self._lent.items() if lent < since]

    async def _is_silent(self) -> bool:
        asking = asyncio.create_task(self._ask())
        for seconds in (PROBE_SECONDS, LOOP_SECONDS):
            done, _ = await asyncio.wait({asking}, timeout=seconds)
        if done:
            # a Postgres that refuses says why: that is no silence, and whoever is connected may be served
            error = asking.exception()
            return isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        asking.add_done_callback(lambda late: late.cancelled() or late.exception())
        if self._probe is not None:
            hang_up(self._probe)  # first: cancelling a statement waits for Postgres, too
            self._probe = None
        asking.cancel()
        return True

    async def _ask(self) -> None:
        if self._probe is not None:
            with suppress(psycopg.Error):  # one from before a restart says nothing of now
                await self._probe.execute("SELECT 1")
                return
        self._probe = None
        self._probe = await self._connect()
        await self._probe.execute("SELECT 1")


def hang_up(conn: Connection) -> None:
    """Makes whoever waits on the connection see its end at once. Postgres rolls back what was not committed."""
    with suppress(psycopg.Error, OSError):  # it has ended already
        # a second handle on the socket, of whatever kind it is: closing the connection itself is its owner's business
        with socket.fromfd(conn.pgconn.socket, socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.shutdown(socket.SHUT_RDWR)

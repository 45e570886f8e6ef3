"""Detects an unresponsive Postgres within two seconds, and aborts all connections that wait for it.

An unresponsive Postgres gives no answer at all, not even a refusal. Examples: the server is frozen, or the network drops
packets.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from weakref import WeakSet

import psycopg

from schemas.postgres.connection import Connection


class LivenessMonitor:
    """Aborts all connections as soon as Postgres is unresponsive.

    A slow statement does not mean that Postgres is unresponsive. So the monitor asks Postgres on a connection of its own, the
    probe. The probe is connected in the same way as the others: if the network loses their answers, it loses those to the
    probe, too.

    When an answer to the probe is overdue, all connections that existed before are aborted. They would not recover: some
    networks lose their state permanently.
    """

    SLOW_SECONDS, IDLE_SECONDS, INTERVAL_SECONDS = 0.8, 1.0, 0.25
    CONNECT_SECONDS = 2.0
    # The probe's answer is overdue after this many short waits. With one long wait, an event loop that was too busy to run
    # would report Postgres as unresponsive.
    WAITS, WAIT_SECONDS = 8, 0.1

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        connections: WeakSet[Connection],
        is_connection_expected: Callable[[], bool],
        connect_seconds: Callable[[], float] = lambda: LivenessMonitor.CONNECT_SECONDS,
    ) -> None:
        """Creates the monitor. `open` starts it.

        - `connect` connects the probe.
        - `connections` are all connections to abort.
        - `is_connection_expected` tells whether a connection that requests may wait for is in use, or is being made.
        - `connect_seconds` is the longest time of an attempt to connect. After that, Postgres counts as unresponsive.
        """
        self._connect = connect
        self._connections = connections
        self._is_connection_expected = is_connection_expected
        self._connect_seconds = connect_seconds
        self._started: dict[object, float] = {}  # when each tracked piece of work started, oldest first
        self._running: asyncio.Task[None] | None = None
        # by wait for a connection: the timer that will end it; None: the wait has no limit at present
        self._waits: dict[asyncio.Timeout, asyncio.TimerHandle | None] = {}
        self._waiting = 0  # blocks of `asking`
        self._answered_at = float("-inf")
        self._late_seconds = 0.0  # since the last answer: for how long this process should have run, and did not
        self._planned = float("inf")  # when the present wait of the monitor should end

    def open(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    @contextmanager
    def track(self) -> Iterator[None]:
        """Tracks the work in the block. An overdue answer counts only while tracked work is slow."""
        work = object()
        self._started[work] = time.monotonic()
        try:
            yield
        finally:
            del self._started[work]

    def answered_since(self, moment: float) -> bool:
        """Whether Postgres has answered the probe since `moment`, by `time.monotonic()`, and is not unresponsive now.

        Time in which this process was too busy to run does not count: an answer that is read late is no missing answer.
        """
        return self._answered_at > moment - self._late()

    def _late(self) -> float:
        """The seconds for which this process should have run since the last answer, and did not."""
        return self._late_seconds + max(0.0, time.monotonic() - self._planned)

    @contextmanager
    def _waiting_for(self, seconds: float) -> Iterator[None]:
        """Measures by how much the wait in the block ends later than planned. It should last for `seconds` at most."""
        self._planned = time.monotonic() + seconds
        try:
            yield
        finally:
            self._late_seconds += max(0.0, time.monotonic() - self._planned)
            self._planned = float("inf")

    def _record_answer(self) -> None:
        self._answered_at, self._late_seconds = time.monotonic(), 0.0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While the block waits for a connection, the monitor asks Postgres in each interval."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def timeout_while_alive(self, seconds: float) -> AsyncIterator[None]:
        """Limits the block's wait for a connection that others use. Raises TimeoutError.

        The limit is `seconds`. Time in which this process was too busy to run does not count. While the probe shows that
        Postgres is alive, there is no limit.
        """
        async with asyncio.timeout(None) as wait:
            self._waits[wait] = asyncio.get_running_loop().call_later(seconds, self._end_wait, wait, self._late())
            try:
                yield
            finally:
                self._lift(wait)
                del self._waits[wait]

    def _end_wait(self, wait: asyncio.Timeout, late_before: float) -> None:
        """Ends a wait at its limit.

        If this process was too busy to run since, it may not have read an answer that is there. Then the limit is later by that
        time.
        """
        loop = asyncio.get_running_loop()
        late = self._late()
        if late > late_before:
            self._waits[wait] = loop.call_later(late - late_before, self._end_wait, wait, late)
        else:
            self._waits[wait] = None
            wait.reschedule(loop.time())

    def _lift(self, wait: asyncio.Timeout) -> None:
        if (limit := self._waits[wait]) is not None:
            limit.cancel()
            self._waits[wait] = None

    def _extend_waits(self) -> None:
        """Removes the limits of the waits for connections, because Postgres answers.

        But if no connection is in use, and Postgres accepts no new one, the waits end soon.
        """
        if not self._is_connection_expected():
            return self._expire_waits(self.SLOW_SECONDS)
        for wait in self._waits:
            if not wait.expired():
                self._lift(wait)
                wait.reschedule(None)

    def _expire_waits(self, seconds: float) -> None:
        """Ends the waits that have no limit `seconds` from now."""
        ends = asyncio.get_running_loop().time() + seconds
        for wait, limit in self._waits.items():
            if limit is None and not wait.expired() and wait.when() is None:
                wait.reschedule(ends)

    async def _run(self) -> None:
        while True:
            before = list(self._connections)
            try:
                async with await self._connect_probe() as probe:
                    self._record_answer()
                    before.clear()
                    await self._until_unresponsive(probe)
                    self._answered_at = float("-inf")
                    self._expire_waits(0)
                    _abort_all(self._connections)
            except psycopg.errors.ConnectionTimeout:  # Postgres is unresponsive; but connections made in the meantime are alive
                self._answered_at = float("-inf")
                self._expire_waits(0)
                _abort_all(before)
            except psycopg.Error:  # Postgres restarts, or only the probe was closed
                self._answered_at = float("-inf")
                self._expire_waits(self.SLOW_SECONDS)
            await asyncio.sleep(self.INTERVAL_SECONDS)

    async def _connect_probe(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds()):
                return await self._connect()
        except TimeoutError:
            raise psycopg.errors.ConnectionTimeout from None

    async def _until_unresponsive(self, probe: Connection) -> None:
        asked_at = 0.0
        while True:
            with self._waiting_for(self.INTERVAL_SECONDS):
                await asyncio.sleep(self.INTERVAL_SECONDS)
            # Without slow work it asks from time to time, so that the probe is known to be alive when it is needed.
            is_needed = self._waiting or self._is_slow()
            if is_needed or time.monotonic() - asked_at > self.IDLE_SECONDS:
                if not await self._responds(probe):
                    return
                asked_at = time.monotonic()

    def _is_slow(self) -> bool:
        now = time.monotonic()
        return now - next(iter(self._started.values()), now) > self.SLOW_SECONDS

    async def _responds(self, probe: Connection) -> bool:
        """Whether the probe gets an answer. False only while tracked work is slow: without slow work it waits indefinitely."""
        query = asyncio.create_task(probe.execute("SELECT 1"))
        waits = 0
        try:
            while waits < self.WAITS:
                with self._waiting_for(self.WAIT_SECONDS):
                    done, _ = await asyncio.wait({query}, timeout=self.WAIT_SECONDS)
                if done:
                    query.result()
                    self._record_answer()
                    self._extend_waits()
                    return True
                waits += self._is_slow()
            return False
        finally:
            if not query.done():
                query.add_done_callback(lambda late: late.cancelled() or late.exception())  # so that asyncio does not log it
                probe.abort()
                await asyncio.wait({query})


def _abort_all(connections: Iterable[Connection]) -> None:
    for conn in list(connections):
        conn.abort()

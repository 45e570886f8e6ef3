"""Detects an unresponsive Postgres within two seconds, and aborts all connections that wait for it.

Unresponsive means: no answer at all, not even a refusal. Examples are a frozen server, or a network that drops packets.
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

    A statement may be slow, so the monitor asks Postgres on its own connection, the probe: it distinguishes a slow statement
    from a dead network path. The probe is connected like the others, so a path that loses their answers loses the probe's
    too. When its answer is overdue, all connections that existed before are aborted, because some networks lose their state
    permanently.
    """

    SLOW_SECONDS, IDLE_SECONDS, INTERVAL_SECONDS = 0.8, 1.0, 0.25
    CONNECT_SECONDS = 2.0
    # The probe's answer is overdue after this many short waits. With one long wait, an event loop that lags itself would report
    # Postgres as unresponsive.
    WAITS, WAIT_SECONDS = 8, 0.1

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        connections: WeakSet[Connection],
        is_connection_expected: Callable[[], bool],
        connect_seconds: Callable[[], float] = lambda: LivenessMonitor.CONNECT_SECONDS,
    ) -> None:
        """`connections` are all connections to abort; `is_connection_expected` tells whether one that others may wait for is in
        use or being made; `connect_seconds` is the longest time of an attempt to connect, after which Postgres is
        unresponsive."""
        self._connect, self._connections, self._is_connection_expected = connect, connections, is_connection_expected
        self._connect_seconds = connect_seconds
        self._started: dict[object, float] = {}  # when each tracked piece of work started, oldest first
        self._running: asyncio.Task[None] | None = None
        self._waits: dict[asyncio.Timeout, asyncio.TimerHandle | None] = {}  # what will end each; None: it has no limit now
        self._waiting = 0
        self._answered_at = float("-inf")
        self._late_seconds = 0.0  # how much later than planned this process has run since the last answer, in total
        self._planned = float("inf")  # when the present wait should end

    def open(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    @contextmanager
    def track(self) -> Iterator[None]:
        """Tracks the work in the block. Only while tracked work is slow, an overdue answer counts."""
        work = object()
        self._started[work] = time.monotonic()
        try:
            yield
        finally:
            del self._started[work]

    def answered_since(self, moment: float) -> bool:
        """Whether Postgres has answered the probe since `moment`, of the monotonic clock, and is not unresponsive now. Time in
        which this process was too busy to run does not count: Postgres is not away because an answer was read late."""
        late = self._late()
        return self._answered_at > moment - late

    def _late(self) -> float:
        """For how long this process should have run since the last answer, and did not."""
        return self._late_seconds + max(0.0, time.monotonic() - self._planned)

    @contextmanager
    def _waiting_for(self, seconds: float) -> Iterator[None]:
        """Measures how much later than planned a wait of at most `seconds` ends."""
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
        """Asks Postgres in each interval during the block, which waits for a connection."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def timeout_while_alive(self, seconds: float) -> AsyncIterator[None]:
        """Limits the wait for a connection that others use. The limit is `seconds`, without time in which this process was too
        busy to run; while the probe shows that Postgres is alive, it is lifted. Raises TimeoutError."""
        async with asyncio.timeout(None) as wait:
            self._waits[wait] = asyncio.get_running_loop().call_later(seconds, self._end_wait, wait, self._late())
            try:
                yield
            finally:
                self._lift(wait)
                del self._waits[wait]

    def _end_wait(self, wait: asyncio.Timeout, late_before: float) -> None:
        """Ends a wait at its limit. If this process was too busy to run meanwhile, an answer may be there that it has not read:
        then the limit is as much later."""
        loop, late = asyncio.get_running_loop(), self._late()
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
        """Postgres answers: the waits for connections have no limit. But if none is in use, and Postgres accepts no new ones,
        the waits end soon."""
        if not self._is_connection_expected():
            return self._expire_waits(self.SLOW_SECONDS)
        for wait in self._waits:
            if not wait.expired():
                self._lift(wait)
                wait.reschedule(None)

    def _expire_waits(self, seconds: float) -> None:
        """Ends the waits without a limit `seconds` from now."""
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
            except psycopg.errors.ConnectionTimeout:  # unresponsive too; connections that were made since are not
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
            # also without slow work, from time to time, so that the probe is known to be alive when it is needed
            if self._waiting or self._is_slow() or time.monotonic() - asked_at > self.IDLE_SECONDS:
                if not await self._responds(probe):
                    return
                asked_at = time.monotonic()

    def _is_slow(self) -> bool:
        now = time.monotonic()
        return now - next(iter(self._started.values()), now) > self.SLOW_SECONDS

    async def _responds(self, probe: Connection) -> bool:
        """False if tracked work is slow and the probe gets no answer. Without slow work this waits indefinitely."""
        query, waits = asyncio.create_task(probe.execute("SELECT 1")), 0
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

"""Postgres that does not answer, not even by a refusal: noticed within two seconds, for everybody who waits for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

import psycopg

if TYPE_CHECKING:
    from schemas.database import Connection


class Watch:
    """Notices that Postgres has fallen silent, and hangs up for everybody who waits for it.

    A statement may take its time, so whether one is slow or its answer will never come is asked on a line of our own: it came
    about like the others, and what swallows their answers swallows this one's. Once an answer is overdue, no connection that
    was there is trusted any more, for some networks forget them for good."""

    SLOW_SECONDS, IDLE_SECONDS, EVERY_SECONDS = 0.8, 2.0, 0.25
    DIAL_SECONDS = 2.0
    LOOKS, LOOK_SECONDS = 8, 0.1  # many short ones, so that an event loop that lags itself does not blame Postgres

    def __init__(
        self,
        connect: "Callable[[], Awaitable[Connection]]",
        connections: "WeakSet[Connection]",
        are_lent: Callable[[], bool],
    ) -> None:
        """`are_lent` says whether anybody has a connection that others may wait for."""
        self._connect, self._connections, self._are_lent = connect, connections, are_lent
        self._since: dict[object, float] = {}  # when work that is not over began, oldest first
        self._running: asyncio.Task[None] | None = None
        self._limits: set[asyncio.Timeout] = set()

    def open(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    @contextmanager
    def over(self) -> Iterator[None]:
        """Watches over the work in the block."""
        work = object()
        self._since[work] = time.monotonic()
        try:
            yield
        finally:
            del self._since[work]

    @asynccontextmanager
    async def while_heard(self, seconds: float) -> AsyncIterator[None]:
        """Limits a wait for somebody's connection: to that long, or until Postgres falls silent. Raises TimeoutError."""
        async with asyncio.timeout(seconds) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def _prolong(self) -> None:
        """Postgres answers: whoever waits for what others have may go on. That it can be reached does not say that it gives
        us any more connections, if nobody has one."""
        if not self._are_lent():
            return self._give_up(self.SLOW_SECONDS)
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(None)

    def _give_up(self, seconds: float) -> None:
        """Whoever was told to go on waits for so long still, and then no longer."""
        ends = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            if not limit.expired() and limit.when() is None:
                limit.reschedule(ends)

    async def _run(self) -> None:
        while True:
            before = list(self._connections)
            try:
                async with await self._dial() as line:
                    before.clear()
                    await self._until_silent(line)
                    self._give_up(0)
                    _hang_up(self._connections)
            except psycopg.errors.ConnectionTimeout:  # silent, too; what came about meanwhile is not
                self._give_up(0)
                _hang_up(before)
            except psycopg.Error:  # it is restarted, or hung up on this line alone
                self._give_up(self.SLOW_SECONDS)
            await asyncio.sleep(self.EVERY_SECONDS)

    async def _dial(self) -> "Connection":
        try:
            async with asyncio.timeout(self.DIAL_SECONDS):
                return await self._connect()
        except TimeoutError:
            raise psycopg.errors.ConnectionTimeout from None

    async def _until_silent(self, line: "Connection") -> None:
        asked = 0.0
        while True:
            await asyncio.sleep(self.EVERY_SECONDS)
            # now and then also without a reason, so that the line is no dead one when there is
            if self._is_slow() or time.monotonic() - asked > self.IDLE_SECONDS:
                if not await self._answers(line):
                    return
                asked = time.monotonic()

    def _is_slow(self) -> bool:
        now = time.monotonic()
        return now - next(iter(self._since.values()), now) > self.SLOW_SECONDS

    async def _answers(self, line: "Connection") -> bool:
        """False when somebody's work is slow and no answer comes. While nobody waits for anything, this waits, too."""
        asking, looks = asyncio.create_task(line.execute("SELECT 1")), 0
        try:
            while looks < self.LOOKS:
                if (await asyncio.wait({asking}, timeout=self.LOOK_SECONDS))[0]:
                    asking.result()
                    self._prolong()
                    return True
                looks += self._is_slow()
            return False
        finally:
            if not asking.done():
                line.hang_up()
                await asyncio.wait({asking})
                asking.exception()


def _hang_up(connections: "Iterable[Connection]") -> None:
    for conn in list(connections):
        conn.hang_up()

"""Cancels a coroutine at its n-th suspension, for n = 1, 2, … until it ends before that: every await point is cancelled once.

Each point is cancelled in three ways: while it waits; at the moment at which what it waits for has come (a connection that is
handed over just then); and twice in a row, so that its cleanup is cancelled, too.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

Way = Literal["waiting", "handed over", "twice"]
WAYS: tuple[Way, ...] = ("waiting", "handed over", "twice")
MAX_POINTS = 400


class Cancelled(Coroutine[Any, Any, Any]):
    """A coroutine whose task is cancelled at the suspension number `at`."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, way: Way) -> None:
        self._work, self._at, self._way = work, at, way
        self.suspensions = 0
        self.was_cancelled = False

    def send(self, value: Any) -> Any:
        return self._suspended(self._work.send(value))

    def throw(self, *error: Any) -> Any:
        return self._suspended(self._work.throw(*error))

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("only for a task")

    def _suspended(self, awaited: Any) -> Any:
        self.suspensions += 1
        task = asyncio.current_task()
        assert task is not None
        if self.suspensions == self._at or (self._way == "twice" and self.suspensions == self._at + 1):
            self.was_cancelled = True
            if self._way == "handed over" and isinstance(awaited, asyncio.Future):
                # before the task's own callback: the task is cancelled when the result is there already
                awaited.add_done_callback(lambda _: task.cancel())
            else:
                asyncio.get_running_loop().call_soon(task.cancel)
        return awaited


async def cancel_at_every_point(
    work: Callable[[], Coroutine[Any, Any, Any]], way: Way, after_each: Callable[[], Awaitable[None]] | None = None
) -> int:
    """Runs `work()` again and again, each time cancelled one suspension later, until it ends uncancelled. Returns the number of
    points. Errors that cancellation causes in it are expected; what counts is what `after_each` finds."""
    for point in range(1, MAX_POINTS):
        stepped = Cancelled(work(), point, way)
        task = asyncio.create_task(stepped)
        with suppress(Exception, asyncio.CancelledError):
            await task
        if after_each is not None:
            await after_each()
        if not stepped.was_cancelled:
            task.result()  # it ended uncancelled, without an error
            return point - 1
    raise AssertionError(f"more than {MAX_POINTS} suspensions")


@asynccontextmanager
async def repeatedly(step: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Runs `step` in the background, again and again, while the caller's block runs."""

    async def run() -> None:
        while True:
            await step()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

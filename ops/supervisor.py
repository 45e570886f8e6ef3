"""Watching children: those that die start again, and all of them end together."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Sequence

from ops.errors import CommandError
from ops.logs import LogView, Terminal
from ops.processes import Child, until

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 15.0
_STEADY_SECONDS = 5.0  # who has lived as long starts again with the first pause
_TRIES_AT_START = 5


class Supervisor:
    """Keeps children alive until a signal says stop. All of it happens in the main thread: when the thread that
    launched a child ends, the kernel ends the child."""

    def __init__(self, *, verbose: bool, on_change: Callable[[], None]) -> None:
        self.terminal = Terminal()
        self.settled = False  # before it is, a child that keeps dying ends everything, with its reason
        self._verbose = verbose
        self._on_change = on_change
        self._over = asyncio.Event()
        self._hurry = False
        self._failure: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def say(self, text: str) -> None:
        self.terminal.say(f"Stint: {text}")

    def do(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Lets `work` run beside the rest; its failure ends everything."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)
        return task

    async def until_over(self) -> None:
        """Returns when a signal came; raises what failed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self._over.wait()
        finally:  # also for who no longer waits: a child that is made to end must not be taken for one that died
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def keep(self, child: Child) -> None:
        """Keeps one child alive: starts it again, after pauses that grow while it does not stay."""
        pause, failures = _FIRST_PAUSE_SECONDS, 0
        while True:
            launched = time.monotonic()
            reason = await self._live(child)
            if time.monotonic() - launched > _STEADY_SECONDS:
                pause, failures = _FIRST_PAUSE_SECONDS, 0
            failures += 1
            if failures >= _TRIES_AT_START and not self.settled:
                raise CommandError(f"{child.name} does not start: it {reason}. {child.last_lines()}")
            self.say(f"{child.name} {reason}; starting it again in {pause:.1f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def show_logs(self, children: Sequence[Child]) -> None:
        """Shows what the children's logs hold for a person, and keeps those files small."""
        views = [LogView(child.name, child.log, verbose=self._verbose) for child in children]
        while True:
            for view in views:
                for line in view.new_lines(warnings=self.settled):
                    self.terminal.say(line)
            self.terminal.flush()
            await asyncio.sleep(0.2)

    async def end(self, children: Sequence[Child]) -> None:
        """Asks all of them to stop and returns when they are gone; a second signal makes it short."""
        for child in children:
            child.ask_to_stop()
        patience = max((child.stop_seconds for child in children), default=0.0)
        await until(lambda: self._hurry or not any(child.is_running() for child in children), timeout_seconds=patience)
        for child in children:
            if child.is_running():
                self.say(f"{child.name} does not stop; killing it")
                child.kill()
            child.stop()

    async def _live(self, child: Child) -> str:
        """One life of a child; returns how it ended."""
        try:
            if not child.is_running():
                child.launch()
        except (CommandError, OSError) as error:
            return f"could not be started ({error})"
        self._on_change()
        await until(lambda: child.is_ready() or not child.is_running())
        self._on_change()
        await until(lambda: not child.is_running())
        self._on_change()
        return child.describe_end()

    def _on_signal(self) -> None:
        self._hurry = self._over.is_set()
        self._over.set()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failure = self._failure or error
            self._over.set()

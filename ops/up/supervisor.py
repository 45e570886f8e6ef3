"""Watching processes: one that dies is started again, and all of them end together."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Sequence

from ops.errors import CommandError
from ops.up.log_view import LogView, Terminal
from ops.up.processes import Child, until

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 15.0
_STEADY_SECONDS = 5.0  # a process that was ready for longer is started again after the first pause
_TRIES_AT_START = 5


class Supervisor:
    """Keeps processes running until a signal arrives. Everything happens in the main thread: when the thread that launched a
    process ends, the kernel kills the process (PR_SET_PDEATHSIG)."""

    def __init__(self, *, verbose: bool, on_change: Callable[[], None]) -> None:
        self.terminal = Terminal()
        self.started = False  # until it is, a process that dies repeatedly ends everything, with its reason
        self._verbose = verbose
        self._on_change = on_change
        self._ended = asyncio.Event()
        self._kill_now = False
        self._failure: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def process_changed(self) -> None:
        """Call it when a process was replaced: the pids are others now."""
        self._on_change()

    def say(self, text: str) -> None:
        self.terminal.say(f"Stint: {text}")

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Runs the coroutine as a task; `Child.launch` starts processes. If it fails, everything ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)
        return task

    async def wait_for_end(self) -> None:
        """Returns after a signal. Raises the error of a task that failed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self._ended.wait()
        finally:  # also when cancelled: a process that is told to stop must not be restarted
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def keep_running(self, child: Child) -> None:
        """Starts one process and starts it again whenever it ends. The pause before doubles while it ends soon."""
        pause, failures = _FIRST_PAUSE_SECONDS, 0
        while True:
            reason, ready_seconds = await self._run_once(child)
            if ready_seconds > _STEADY_SECONDS:
                pause, failures = _FIRST_PAUSE_SECONDS, 0
            failures += 1
            if failures >= _TRIES_AT_START and not self.started:
                raise CommandError(f"{child.name} does not start: it {reason}.{child.last_lines()}")
            self.say(f"{child.name} {reason}; starting it again in {pause:.1f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def show_logs(self, children: Sequence[Child]) -> None:
        """Shows warnings and errors of the processes' logs, and limits the size of the files."""
        views = [LogView(child.name, child.log, verbose=self._verbose) for child in children]
        while True:
            for view in views:
                for line in view.new_lines(warnings=self.started):
                    self.terminal.say(line)
            self.terminal.flush()
            await asyncio.sleep(0.2)

    async def end(self, children: Sequence[Child]) -> None:
        """Asks all processes to stop and returns when they have ended. A second signal kills them at once."""
        for child in children:
            child.ask_to_stop()
        seconds = max((child.stop_seconds for child in children), default=0.0)
        await until(lambda: self._kill_now or not any(child.is_running() for child in children), timeout_seconds=seconds)
        for child in children:
            if child.is_running():
                self.say(f"{child.name} is still running; killing it")
                child.kill()
            child.stop()

    async def _run_once(self, child: Child) -> tuple[str, float]:
        """Runs a process to its end, and returns how it ended and for how many seconds it was ready: 0 if it never was, however
        long it ran."""
        try:
            if not child.is_running():
                child.launch()
        except (CommandError, OSError) as error:
            return f"could not be started ({error})", 0
        self._on_change()
        await until(lambda: child.is_ready() or not child.is_running())
        self._on_change()
        ready_at = time.monotonic() if child.is_running() else None
        await until(lambda: not child.is_running())
        self._on_change()
        return child.describe_end(), time.monotonic() - ready_at if ready_at is not None else 0

    def _on_signal(self) -> None:
        # the second signal, or the first one after a failure, which has set `_ended`, too
        self._kill_now = self._ended.is_set()
        self._ended.set()

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failure = self._failure or error
            self._ended.set()

"""Starting programs so that none of them outlives us, whatever ends us."""

import asyncio
import contextlib
import ctypes
import math
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from ops.errors import CommandError
from ops.files import private
from ops.state import CHECKOUT

PLAIN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def unprivileged_account() -> pwd.struct_passwd | None:
    """Who runs what refuses to run as root: None when we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise CommandError(
            "Postgres refuses to run as root and there is no account `nobody`: "
            "start Stint as another user, or set DATABASE_URL."
        ) from None


def follow(parent: int, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Has the kernel send this process the signal when its parent ends."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != parent:  # it died before the line above took effect
        os._exit(1)


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path | IO[bytes],
    environment: Mapping[str, str],
    account: pwd.struct_passwd | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    directory: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, with its output appended to `log`. When the thread that called this
    ends, the kernel sends the program `death_signal`: call it from the main thread, or one that lives as long."""
    parent = os.getpid()

    opened = open(log, "ab", opener=private) if isinstance(log, Path) else contextlib.nullcontext(log)
    with opened as output:
        return subprocess.Popen(  # noqa: S603 - what it runs is ours
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory or "/",
            start_new_session=True,
            preexec_fn=lambda: follow(parent, death_signal),  # after setuid, which would have cleared the setting
            pass_fds=pass_fds,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )


async def run(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str] = PLAIN_ENVIRONMENT,
    account: pwd.struct_passwd | None = None,
    directory: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> str:
    """Runs a program to its end and returns what it printed; raises CommandError with its last lines when it fails.
    Cancelling this kills it."""
    with tempfile.TemporaryFile() as log:  # without a name: nothing to leave behind
        process = spawn(argv, log=log, environment=environment, account=account, directory=directory, pass_fds=pass_fds)
        try:
            await until(lambda: process.poll() is not None)
        finally:
            end(process)
        log.seek(0)
        output = log.read().decode(errors="replace")
    if process.returncode:
        reason = " / ".join(output.strip().splitlines()[-3:]) or describe_end(process.returncode)
        raise CommandError(f"{Path(argv[0]).name} failed: {reason}")
    return output


async def until(condition: Callable[[], bool], *, timeout_seconds: float = math.inf) -> None:
    """Returns when the condition holds, or the time is up."""
    deadline = time.monotonic() + timeout_seconds
    # No event tells of a child's end in every Python and from every thread, and looking costs next to nothing.
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.03)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a program, and the session that it leads, when it has not ended by itself."""
    # Only while it is not reaped: afterwards its number may belong to somebody else.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_leftovers(name: str, directory: Path) -> None:
    """Returns when none of the processes called `name` works in `directory`: those of a server of ours that was killed
    end by themselves, and are helped when they take long. Raises CommandError when one cannot be ended."""
    start = time.monotonic()
    while leftovers := _processes_in(directory, name):
        waited = time.monotonic() - start
        if waited > 10:
            raise CommandError(f"Another {name} works in {directory}, process {leftovers[0]}: end it first.")
        for pid in leftovers if waited > 2 else []:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes_in(directory: Path, name: str) -> list[int]:
    """The processes of that name whose current directory is `directory`."""
    found = []
    wanted = os.path.realpath(directory)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(entry / "cwd") == wanted and (entry / "comm").read_text().strip() == name:
                found.append(int(entry.name))
    return found


def describe_end(returncode: int | None) -> str:
    """How a program ended, in words."""
    if returncode is not None and returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"ended with {returncode}"


class Child(ABC):
    """One long-lived program of ours: launched, watched, asked to stop, and gone when we are gone."""

    stop_signal = signal.SIGTERM
    stop_seconds = 10.0

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def launch(self) -> None:
        """Starts it and returns at once; `is_ready` tells when it can be used."""

    def is_ready(self) -> bool:
        return self.is_running()

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pids(self) -> list[int]:
        return [self.process.pid] if self.process is not None and self.is_running() else []

    def describe_end(self) -> str:
        return describe_end(self.process.returncode if self.process else None)

    def ask_to_stop(self) -> None:
        if self.process is not None and self.is_running():
            self.process.send_signal(self.stop_signal)

    def kill(self) -> None:
        """Ends it the hard way, with all that it started."""
        if self.process is not None:
            end(self.process)

    def stop(self) -> None:
        """Asks it to stop, kills it when it has not after `stop_seconds`, and returns when it is gone."""
        self.ask_to_stop()
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.stop_seconds)
        self.kill()

    def start(self, timeout_seconds: float = 60) -> None:
        """Launches it and returns when it is ready; raises CommandError with the end of its log when it cannot."""
        self.launch()
        self.wait(timeout_seconds)

    def restart(self) -> None:
        """Stops and starts it; its URL stays the same."""
        self.stop()
        self.start()

    def wait(self, timeout_seconds: float = 60) -> None:
        """Returns when it is ready; raises CommandError when it ended instead, or is not ready in time."""
        deadline = time.monotonic() + timeout_seconds
        while not self.is_ready():
            if not self.is_running():
                raise CommandError(f"{self.name} {self.describe_end()}: {self.last_lines()}")
            if time.monotonic() > deadline:
                raise CommandError(f"{self.name} is not ready after {timeout_seconds:g} s: {self.last_lines()}")
            time.sleep(0.03)

    def last_lines(self, count: int = 3) -> str:
        """The end of its log, and where the rest stands."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()[-count:]
        except OSError:
            lines = []
        return " / ".join([*lines, f"the whole log: {self.log}"])


class Program(Child):
    """One of Stint's own processes: a module of this checkout, with our environment."""

    def __init__(self, name: str, arguments: list[str], logs: Path) -> None:
        super().__init__(name, logs / f"{name.replace(' ', '-')}.log")
        self.arguments = arguments

    def launch(self) -> None:
        # -P: a directory called `api` where the person happens to stand is not ours.
        self.process = spawn(
            [sys.executable, "-P", "-m", *self.arguments], log=self.log, environment=os.environ, directory=CHECKOUT
        )

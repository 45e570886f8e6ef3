"""Starting programs that end when this process ends, even if it is killed."""

import asyncio
import contextlib
import copy
import ctypes
import math
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Self

from ops.errors import CommandError, telling_lines
from ops.files import no_space, private
from ops.state import CHECKOUT

PLAIN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def unprivileged_account() -> pwd.struct_passwd | None:
    """The account for programs that refuse to run as root, or None when this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise CommandError(
            "Postgres refuses to run as root and there is no account `nobody`: "
            "start Stint as another user, or set DATABASE_URL."
        ) from None


def end_with_parent(parent: int, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Makes the kernel send this process `death_signal` when its parent ends."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != parent:  # the parent ended before the line above took effect
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
    """Starts a program in a session of its own, with its output appended to `log`. The kernel sends it `death_signal` when the
    calling thread ends: call this from the main thread, or from a thread that lives as long."""
    parent = os.getpid()

    opened = open(log, "ab", opener=private) if isinstance(log, Path) else contextlib.nullcontext(log)
    with opened as output:
        return subprocess.Popen(  # noqa: S603 - only programs of this code base's choice
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory or "/",
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(parent, death_signal),  # runs after setuid, which clears the setting
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
    """Runs a program to its end and returns its output. Raises CommandError with what it said when it fails. Cancelling this
    kills the program."""
    with tempfile.TemporaryFile() as log:  # it has no name, so nothing is left behind
        process = spawn(argv, log=log, environment=environment, account=account, directory=directory, pass_fds=pass_fds)
        try:
            await until(lambda: process.poll() is not None)
        finally:
            end(process)
        log.seek(0)
        output = log.read().decode(errors="replace")
    if process.returncode:
        reason = "".join(f"\n    {line}" for line in telling_lines(output))
        raise CommandError(f"{Path(argv[0]).name} failed: it {describe_end(process.returncode)}.{reason}")
    return output


async def until(condition: Callable[[], bool], *, timeout_seconds: float = math.inf) -> None:
    """Returns when the condition is true, or after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    # No event for a child's end works in every Python version and every thread, and polling costs little.
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.03)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a program with its whole session, unless it has ended already."""
    # Only while it is not reaped: afterwards its pid may belong to another process.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_leftovers(name: str, directory: Path) -> None:
    """Returns when no process called `name` has `directory` as its current directory. The processes of a killed server end on
    their own; after two seconds they are killed. Raises CommandError when one cannot be ended."""
    start = time.monotonic()
    while leftovers := _processes_in(directory, name):
        waited = time.monotonic() - start
        if waited > 10:
            raise CommandError(f"Another {name} runs in {directory}, process {leftovers[0]}: end it first.")
        for pid in leftovers if waited > 2 else []:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes_in(directory: Path, name: str) -> list[int]:
    """The processes of that name whose current directory is `directory`."""
    found = []
    real_path = os.path.realpath(directory)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(entry / "cwd") == real_path and (entry / "comm").read_text().strip() == name:
                found.append(int(entry.name))
    return found


def describe_end(returncode: int | None) -> str:
    """How a program ended, in words."""
    if returncode is not None and returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"ended with {returncode}"


class Child(ABC):
    """One long-lived program that this process launches and watches, and that ends with it."""

    stop_signal = signal.SIGTERM
    stop_seconds = 10.0

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def launch(self) -> None:
        """Starts it and returns immediately; `is_ready` returns whether it can be used."""

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
        """Kills it with all processes that it started."""
        if self.process is not None:
            end(self.process)

    def stop(self) -> None:
        """Asks it to stop, kills it after `stop_seconds`, and returns when it has ended."""
        self.ask_to_stop()
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.stop_seconds)
        self.kill()

    def start(self, timeout_seconds: float = 60) -> None:
        """Launches it and returns when it is ready. Raises CommandError with the end of its log when it fails."""
        self.launch()
        self.wait(timeout_seconds)

    def restart(self) -> None:
        """Stops and starts it; its URL stays the same."""
        self.stop()
        self.start()

    def wait(self, timeout_seconds: float = 60) -> None:
        """Returns when it is ready. Raises CommandError when it ends instead, or is not ready in time."""
        deadline = time.monotonic() + timeout_seconds
        while not self.is_ready():
            if not self.is_running():
                raise CommandError(f"{self.name} {self.describe_end()}.{self.last_lines()}")
            if time.monotonic() > deadline:
                raise CommandError(f"{self.name} is not ready after {timeout_seconds:g} s.{self.last_lines()}")
            time.sleep(0.03)

    def last_lines(self) -> str:
        """What its log says of its end, the path of the whole log, and whether there was space for more of it."""
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = telling_lines(self.log.read_text(errors="replace"))
        said = "".join(f"\n    {line}" for line in lines)
        full = no_space(self.log.parent)
        return f"{said}\nThe whole log: {self.log}{full and f' — {full}'}"


class Program(Child):
    """One of Stint's own processes: a module of this checkout, with this process's environment."""

    def __init__(self, name: str, arguments: list[str], logs: Path) -> None:
        super().__init__(name, logs / f"{name.replace(' ', '-')}.log")
        self.arguments = arguments
        self._reports: socket.socket | None = None
        self._has_reported = False

    def launch(self) -> None:
        self._launch()

    def _launch(
        self,
        *,
        log: Path | IO[bytes] | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        pass_fds: Sequence[int] = (),
    ) -> None:
        if self._reports is not None:
            self._reports.close()
        name = f"stint-{secrets.token_hex(8)}"
        self._reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._reports.bind(f"\0{name}")
        self._has_reported = False
        self.process = spawn(
            # -P: do not import from a directory called `api` in the current directory.
            [sys.executable, "-P", "-m", *self.arguments],
            log=log or self.log,
            environment={**os.environ, "NOTIFY_SOCKET": f"@{name}", **environment},
            directory=CHECKOUT,
            pass_fds=pass_fds,
        )

    def kill(self) -> None:
        super().kill()
        if self._reports is not None:
            self._reports.close()
            self._reports = None

    def has_reported(self) -> bool:
        """Whether the process runs and has reported that it serves (`schemas.starting.report_ready`)."""
        if not self._has_reported and self._reports is not None:
            with contextlib.suppress(BlockingIOError):
                self._has_reported = self._reports.recv(64).startswith(b"READY=1")
        return self._has_reported and self.is_running()

    def successor(self) -> Self:
        """The same program without a process, for one that will replace this one's."""
        other = copy.copy(self)
        other.process, other._reports, other._has_reported = None, None, False
        return other

    def be_replaced_by(self, successor: "Program") -> subprocess.Popen[bytes] | None:
        """Takes over the successor's process, and returns the one that it replaces, which still runs."""
        old = self.process
        if self._reports is not None:
            self._reports.close()
        self.process, self._reports, self._has_reported = successor.process, successor._reports, successor._has_reported
        return old

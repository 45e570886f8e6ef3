"""Several API processes behind one listening socket, which this process holds.

A process that is killed, or restarted, leaves the socket open: connections wait in the kernel's queue until another process
accepts them, and none is refused.
"""

import asyncio
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ops.errors import CommandError
from ops.state import CHECKOUT
from ops.up.processes import Program, spawn, until
from ops.up.supervisor import Supervisor
from schemas.starting import BACKLOG, listening_socket, report_ready

SYSTEMD_FD = 3  # the first descriptor that systemd passes on


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket with that address, which does not listen yet. Raises CommandError if the port cannot be used."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, OverflowError) as error:
        raise CommandError(f"{host!a} is no address that the API can listen on: {error}.") from error
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise unusable(port, error) from error
    return bound


def listen(bound: socket.socket) -> None:
    """Lets connections wait in the kernel's queue from now on. Raises CommandError if another process was first."""
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        raise unusable(bound.getsockname()[1], error) from error


def unusable(port: int, error: OSError, *, what: str = "") -> CommandError:
    """The error for a port that cannot be used."""
    return CommandError(f"Port {port}{what and f', {what},'} cannot be used ({error.strerror}): choose another with --port.")


def passed_fd(environment: Mapping[str, str]) -> int | None:
    """The descriptor of the listening socket that systemd has passed to this process (LISTEN_FDS), or None. Raises
    CommandError if there are several."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or not (count := environment.get("LISTEN_FDS", "")).isdecimal():
        return None
    if int(count) > 1:
        raise CommandError(f"systemd passes {count} sockets, but the API listens on one: write one ListenStream=.")
    return SYSTEMD_FD if int(count) else None


class ApiProcess(Program):
    """One API process on the shared socket. It is ready when it has reported that it accepts connections."""

    def __init__(self, number: int, listening: socket.socket, logs: Path, *, metrics: Path, output: IO[bytes] | None) -> None:
        super().__init__(f"api {number}", ["api", "--fd", str(listening.fileno())], logs)
        self._fd, self._metrics, self._output = listening.fileno(), metrics, output
        self._reports: socket.socket | None = None
        self._is_ready = False

    def launch(self) -> None:
        if self._reports is not None:
            self._reports.close()
        name = f"stint-{secrets.token_hex(8)}"
        self._reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._reports.bind(f"\0{name}")
        self._is_ready = False
        self.process = spawn(
            [sys.executable, "-P", "-m", *self.arguments],
            log=self._output or self.log,
            environment=os.environ | {"NOTIFY_SOCKET": f"@{name}", "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)},
            directory=CHECKOUT,
            pass_fds=(self._fd,),
        )

    def is_ready(self) -> bool:
        if not self._is_ready and self._reports is not None:
            try:
                self._is_ready = self._reports.recv(64).startswith(b"READY=1")
            except BlockingIOError:
                pass
        return self._is_ready and self.is_running()

    def last_lines(self) -> str:
        return " Its log is above." if self._output else super().last_lines()


class ApiProcesses:
    """The API's processes, and their restart in turn. `output`, if given, gets the logs of all of them."""

    def __init__(
        self, count: int, listening: socket.socket, logs: Path, *, metrics: Path, output: IO[bytes] | None = None
    ) -> None:
        self.processes = [ApiProcess(number, listening, logs, metrics=metrics, output=output) for number in range(1, count + 1)]
        self._one_restart = asyncio.Lock()

    async def restart_in_turn(self) -> None:
        """Restarts one process after another. Each finishes what it has accepted, and the next one stops when it is ready
        again; `Supervisor.keep_running` starts it."""
        async with self._one_restart:
            for child in self.processes:
                await self._restart(child)

    async def _restart(self, child: ApiProcess) -> None:
        old = child.process
        child.ask_to_stop()
        await until(lambda: old is None or old.poll() is not None, timeout_seconds=child.stop_seconds)
        if child.process is old:
            child.kill()
        await until(lambda: child.process is not old and child.is_ready())


@contextmanager
def directory_of_metrics(state: Path) -> Iterator[Path]:
    """A new directory for the files of the processes' metrics and places, which is deleted at the end: in the directory that
    systemd gives the service (RUNTIME_DIRECTORY), else in the state directory. Not in /tmp: what is old there may be deleted
    while it is used. Only if the state directory cannot be written to, as in a read-only container, it is there."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    parent = Path(given) if given else state
    with suppress(OSError):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    usable = parent if os.access(parent, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="stint-metrics-", dir=usable) as directory:
        yield Path(directory)


def run(*, host: str, port: int, fd: int | None, count: int, directory: Path) -> int:
    """`./stint api --processes N`: runs that many API processes on one socket until a signal arrives. SIGUSR2 restarts them in
    turn. `directory` is the state directory. Returns the exit code; raises CommandError when they cannot start."""
    if fd is not None:
        try:
            listening = listening_socket(fd)
        except ValueError as error:
            raise CommandError(str(error)) from error
    else:
        listening = bind(host, port)
        listen(listening)
    os.environ["PYTHONPATH"] = str(CHECKOUT)
    with listening, directory_of_metrics(directory) as metrics:
        return asyncio.run(_serve(count, listening, metrics))


async def _serve(count: int, listening: socket.socket, metrics: Path) -> int:
    supervisor = Supervisor(verbose=False, on_change=lambda: None)
    api = ApiProcesses(count, listening, metrics, metrics=metrics, output=sys.stderr.buffer)
    for child in api.processes:
        supervisor.spawn(supervisor.keep_running(child))
    supervisor.spawn(_when_ready(supervisor, api))
    try:
        await supervisor.wait_for_end()
    finally:
        await supervisor.end(api.processes)
    return 0


async def _when_ready(supervisor: Supervisor, api: ApiProcesses) -> None:
    restart_on_signal(supervisor, api)
    await until(lambda: any(child.is_ready() for child in api.processes))
    supervisor.started = True
    report_ready()


def restart_on_signal(supervisor: Supervisor, api: ApiProcesses) -> None:
    """Restarts the API's processes in turn whenever SIGUSR2 arrives."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, lambda: supervisor.spawn(api.restart_in_turn()))

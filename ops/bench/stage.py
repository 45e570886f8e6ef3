"""The environment of the measurements: a private Postgres and RabbitMQ, demo data, and a `./stint up` that uses them."""

import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from ops.errors import CommandError
from ops.progress import progress
from ops.state import CHECKOUT
from ops.up.external_servers import http_status
from ops.up.processes import Child, run, spawn
from ops.up.servers import Servers
from schemas.hours.entry_rules import EntryRules
from schemas.settings import Settings

Row = tuple[Any, ...]


class Module(Child):
    """A long-lived `python -m MODULE …` of this checkout that uses the stage's servers."""

    def __init__(self, name: str, log: Path, *module: str, answers_at: str | None = None) -> None:
        super().__init__(name, log)
        self._module, self._answers_at = module, answers_at

    def launch(self) -> None:
        argv = [sys.executable, "-P", "-m", *self._module]
        self.process = spawn(argv, log=self.log, environment=os.environ, directory=CHECKOUT)

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
        state = str(home / "state")
        self.up = self.child("up", "ops.cli", "up", "--port", port, "--state", state, answers_at=self.url)
        self.admin_email = ""
        self.entries = 0
        self.load_average = os.getloadavg()[0]  # other load on the machine
        self._children = [self.up]
        self._conn: psycopg.Connection[Row] | None = None

    def child(self, name: str, *module: str, answers_at: str | None = None) -> Module:
        """A long-lived module that is not started yet. The caller starts and stops it, or passes it to `keep_running`."""
        return Module(name, self.home / f"{name}.log", *module, answers_at=answers_at)

    def keep_running(self, child: Module) -> Module:
        """Starts a child that runs until the stage is closed."""
        self._children.append(child)
        child.start()
        return child

    def open(self, *, entries: int) -> None:
        """Starts the servers, fills the database, and starts Stint. Raises CommandError when a server is not available here."""
        self.say("starting a private Postgres and RabbitMQ")
        self.servers.start().wait()
        self._set_environment()
        asyncio.run(self._fill(entries))
        # autovacuum would do the first within minutes, and the second writes what the fill has left: neither should be measured
        self.sql("VACUUM (ANALYZE)")
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

    def _set_environment(self) -> None:
        for name in Settings.model_fields:  # use the defaults, so that the figures of two machines can be compared
            os.environ.pop(name.upper(), None)
        os.environ |= {
            "DATABASE_URL": self.servers.database_url,
            "AMQP_URL": self.servers.amqp_url,
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

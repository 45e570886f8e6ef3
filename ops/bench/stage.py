"""What the measurements stand on: a private Postgres and RabbitMQ, a firm full of demo data, and `./stint up` over them."""

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
from ops.given import http_status
from ops.processes import Child, run, spawn
from ops.progress import progress
from ops.servers import Servers
from ops.state import CHECKOUT
from schemas.settings import Settings

Row = tuple[Any, ...]


class Module(Child):
    """A long-lived `python -m MODULE …` of this checkout, on the stage's servers."""

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
    """Everything that one run of the bench starts, below `home`, and ends."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self.home, self.say = home, say
        self.servers = Servers(home, durable=True, say=say)  # as `./stint up` has them
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        state = str(home / "state")
        self.up = self.child("up", "ops.cli", "up", "--port", port, "--state", state, answers_at=self.url)
        self.admin_email = ""
        self.entries = 0
        self.load_average = os.getloadavg()[0]  # what else the machine does
        self._children = [self.up]
        self._conn: psycopg.Connection[Row] | None = None

    def child(self, name: str, *module: str, answers_at: str | None = None) -> Module:
        """A long-lived module of ours, not yet launched; whoever starts it stops it, or `keep`s it."""
        return Module(name, self.home / f"{name}.log", *module, answers_at=answers_at)

    def keep(self, child: Module) -> Module:
        """Starts a child that runs until the stage is closed."""
        self._children.append(child)
        child.start()
        return child

    def open(self, *, entries: int) -> None:
        """Starts the servers, fills the database, and starts Stint. Raises CommandError when one cannot be had here."""
        self.say("starting a Postgres and a RabbitMQ of its own")
        self.servers.start().wait()
        self._set_environment()
        asyncio.run(self._fill(entries))
        # what autovacuum would do within minutes, and the fill's own writing: neither belongs into a measurement
        self.sql("VACUUM (ANALYZE)")
        self.sql("CHECKPOINT")
        self.say("starting Stint as ./stint up does")
        self.up.start()

    def close(self) -> None:
        """Ends what is still there, and removes `home`."""
        try:
            if self._conn is not None:
                self._conn.close()
            for child in reversed(self._children):
                child.stop()
            self.servers.stop()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def sql(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> list[Row]:
        """Runs a statement of the bench's own, committed at once; the rows, if it gives any."""
        cursor = self.conn.execute(query.encode(), parameters)
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
        from ops.users import make_token  # reads the settings, which stand in the environment by now

        return asyncio.run(make_token(role=role, email=email))

    def admin_token(self) -> str:
        return self.token(self.admin_email, role="internal_admin")

    def measure(self, *argv: str | Path) -> str:
        """Runs a program to its end and returns what it printed."""
        return asyncio.run(run(argv, environment=os.environ, directory=CHECKOUT))

    def measure_module(self, *module: str) -> dict[str, Any]:
        """Runs `python -m MODULE …`, whose last line is a JSON object, and returns that."""
        last = self.measure(sys.executable, "-P", "-m", *module).strip().splitlines()[-1]
        return dict(json.loads(last))

    def drain(self, *, timeout_seconds: float = 120) -> None:
        """Returns when nothing is left to do behind the queue: the floor's round must not pay for ours."""
        deadline = time.monotonic() + timeout_seconds
        while left := self.value("SELECT count(*) FROM messages WHERE state IN ('ready', 'sent', 'calling')"):
            if time.monotonic() > deadline:
                raise CommandError(f"{left} messages are still not done after {timeout_seconds:g} s; see {self.up.log}.")
            time.sleep(0.05)

    def _set_environment(self) -> None:
        for name in Settings.model_fields:  # on the defaults: figures of two machines can be compared
            os.environ.pop(name.upper(), None)
        os.environ |= {
            "DATABASE_URL": self.servers.database_url,
            "AMQP_URL": self.servers.amqp_url,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "PUBLIC_URL": self.url,
            "PYTHONPATH": str(CHECKOUT),
        }

    async def _fill(self, entries: int) -> None:
        from ops.demo import fill
        from schemas.database import connect
        from schemas.migrate import migrate
        from schemas.settings import settings

        await migrate(self.servers.database_url)
        started = time.monotonic()
        async with await connect(settings()) as conn:
            await conn.execute("SET statement_timeout = 0")
            with progress(f"filling in {entries:,} time entries", total=entries) as at:
                filled = await fill(conn, entries=entries, zone=settings().stint_timezone, at=at)
        self.admin_email, self.entries = filled.admin_email, filled.entries
        self.say(f"{filled.entries:,} entries on {filled.bills:,} bills, after {time.monotonic() - started:.0f} s")


def free_port() -> int:
    """A port that nobody has, below the range that outgoing connections take theirs from."""
    while True:
        port = random.randrange(10_000, 21_000)  # noqa: S311 - no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port

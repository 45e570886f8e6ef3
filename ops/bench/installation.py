"""One Stint that the bench measures: `./stint up` on a database and a virtual host of its own, filled with demo data."""

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ops.bench.cpu import Processes
from ops.errors import CommandError
from ops.progress import progress
from ops.state import CHECKOUT, State
from ops.up.external_servers import http_status
from ops.up.processes import Child, run, spawn
from ops.up.servers import Servers
from schemas.hours.entry_rules import EntryRules

Row = tuple[Any, ...]

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


class Installation:
    """One Stint. `name` is that of its state directory and log below `home`; the database and the virtual host exist."""

    def __init__(
        self, home: Path, say: Callable[[str], None], servers: Servers, name: str, *, database_url: str, amqp_url: str
    ) -> None:
        self.home, self.say, self.servers, self.database_url = home, say, servers, database_url
        self.url = f"http://127.0.0.1:{free_port()}"
        self._state = home / name
        argv = ("up", "--port", self.url.rpartition(":")[2], "--state", str(self._state))
        own = {"DATABASE_URL": database_url, "AMQP_URL": amqp_url, "PUBLIC_URL": self.url}
        self.up = Module(name, home / f"{name}.log", "ops.cli", *argv, answers_at=self.url, environment=own)
        self.admin_email = ""
        self.entries = 0
        self.tokens: list[str] = []  # of USERS consultants, who have no hours yet
        self._conn: psycopg.Connection[Row] | None = None

    def fill(self, entries: int) -> None:
        """Creates the tables, a firm with that many entries, and the users."""
        asyncio.run(self._fill(entries))
        self.say(f"adding {USERS} users, then VACUUM")
        self.tokens = asyncio.run(self._tokens([f"user{number}@bench.example" for number in range(USERS)], "internal_user"))
        # autovacuum would do the first within minutes, and the second writes what the fill has left: neither should be measured
        self.sql("VACUUM (ANALYZE)")
        self.sql("CHECKPOINT")

    def close(self) -> None:
        """Stops Stint, and ends the connection."""
        if self._conn is not None:
            self._conn.close()
        self.up.stop()

    def sql(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> list[Row]:
        """Runs and commits a statement, and returns its rows, if any."""
        cursor = self.conn.execute(query.encode(), parameters)  # bytes: psycopg's types accept only literal str
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> Any:
        return self.sql(query, parameters)[0][0]

    @property
    def conn(self) -> psycopg.Connection[Row]:
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(self.database_url, autocommit=True)
        return self._conn

    def token(self, email: str, *, role: str = "internal_user") -> str:
        """A token of the local provider; a new address gets a new user."""
        return asyncio.run(self._tokens([email], role))[0]

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
        """Returns when all messages that are due are done, so that they do not slow the baseline's round down."""
        left_over = (
            "SELECT count(*) FROM messages WHERE state IN ('sent', 'calling') OR state = 'ready' AND available_at <= now()"
        )
        deadline = time.monotonic() + timeout_seconds
        while left := self.value(left_over):
            if time.monotonic() > deadline:
                raise CommandError(f"{left} messages are still not done after {timeout_seconds:g} s; see {self.up.log}.")
            time.sleep(0.05)

    def processes(self, *kinds: str) -> Processes:
        """Postgres and Stint's processes of these kinds; without kinds, all of Stint and RabbitMQ. The process that supervises
        the others is not among them: it does nothing for a request."""

        def trees() -> dict[str, list[int]]:
            found = {**self._pids(), "rabbitmq": self.servers.rabbitmq.pids}
            return {kind: found.get(kind, []) for kind in kinds or found}

        return Processes(trees, **self.postgres_of(self.database_url))

    def postgres_of(self, database_url: str) -> dict[str, Any]:
        """The arguments of Processes that count Postgres for one of its databases."""
        [postgres] = self.servers.postgres.pids
        database = str(conninfo_to_dict(database_url)["dbname"])
        return {"postgres": postgres, "database": database, "without_backend": self.conn.info.backend_pid}

    def _pids(self) -> dict[str, list[int]]:
        running = State(self._state).running()
        pids: dict[str, list[int]] = {}
        for name, numbers in (running.pids if running else {}).items():
            pids.setdefault(_KINDS.get(name.partition(" ")[0], name.partition(" ")[0]), []).extend(numbers)
        return pids

    async def _fill(self, entries: int) -> None:
        from ops.demo.run import fill
        from schemas.postgres.connection import connect
        from schemas.postgres.migrate import migrate
        from schemas.settings import settings

        own = settings().model_copy(update={"database_url": self.database_url})
        await migrate(self.database_url)
        started = time.monotonic()
        async with await connect(own) as conn:
            await conn.execute("SET statement_timeout = 0")
            with progress(f"filling in {entries:,} time entries", total=entries) as update:
                filled = await fill(conn, entries=entries, rules=EntryRules.of(own), update=update)
        self.admin_email, self.entries = filled.admin_email, filled.entries
        self.say(f"{filled.entries:,} entries on {filled.bills:,} bills, after {time.monotonic() - started:.0f} s")

    async def _tokens(self, emails: Sequence[str], role: str) -> list[str]:
        from schemas.identity.local_accounts import NewAccount, issue_token
        from schemas.postgres.connection import connect
        from schemas.settings import settings  # read when the stage has set the environment

        own = settings().model_copy(update={"database_url": self.database_url})
        async with await connect(own) as conn, conn.transaction():
            accounts = [NewAccount(email, email.partition("@")[0], role, None) for email in emails]
            return [await issue_token(conn, account, own) for account in accounts]


def free_port() -> int:
    """A free port below the range of outgoing connections."""
    while True:
        port = random.randrange(10_000, 21_000)  # noqa: S311 - no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port

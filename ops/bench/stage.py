"""What the measurements run on: a private Postgres and RabbitMQ, a `./stint up` with demo data that uses them, and the peer."""

import importlib.util
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ops.bench.cpu import Processes
from ops.bench.installation import Installation, Module, free_port
from ops.state import CHECKOUT
from ops.up.servers import Servers
from schemas.settings import Settings
from schemas.starting import BACKLOG

API_PROCESSES = 2  # as `./stint up` starts by default
SMALLER = ("tenth", "hundredth")  # names of two more installations, with a part of the entries


class Stage(Installation):
    """The Stint that is measured, and all else that one run of the bench starts and ends, with its files below `home`."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        servers = Servers(home, durable=True, vhosts=SMALLER, say=say)  # with the settings of `./stint up`
        super().__init__(home, say, servers, "up", database_url=servers.database_url, amqp_url="")
        self.peer: Module | None = None
        self.peer_url = ""
        self.load_average = os.getloadavg()[0]  # other load on the machine
        self._children: list[Module] = []
        self._smaller: list[Installation] = []

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
        """Starts the servers and fills the database; with `peer` also starts the peer, on a copy of the database. Raises
        CommandError when a server is not available here."""
        self.say("starting a private Postgres and RabbitMQ")
        self.servers.start().wait()
        self.up.environment["AMQP_URL"] = self.servers.amqp_url
        self._set_environment()
        self.fill(entries)
        if peer:
            self._start_peer()

    def close(self) -> None:
        """Stops everything that still runs, and removes `home`."""
        try:
            for child in reversed(self._children):
                child.stop()
            for smaller in self._smaller:
                smaller.close()
            super().close()
            self.servers.stop()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def start_smaller(self) -> list[Installation]:
        """Two more Stints beside this one, with a hundredth and a tenth of its entries, on the same servers. The caller closes
        them."""
        for name, part in zip(SMALLER, (10, 100), strict=True):
            self.sql(f'CREATE DATABASE "{name}"')
            url = make_conninfo(self.database_url, dbname=name)
            smaller = Installation(
                self.home, self.say, self.servers, name, database_url=url, amqp_url=self.servers.amqp_url_of(name)
            )
            self._smaller.insert(0, smaller)
            smaller.fill(max(1, self.entries // part))
            smaller.up.start()
        return self._smaller

    def start_bare(self, *, processes: int = API_PROCESSES) -> tuple[str, list[Module]]:
        """Starts a bare ASGI application in as many processes, behind one socket; returns its URL too. The caller stops
        them."""
        listening = socket.create_server(("127.0.0.1", free_port()), backlog=BACKLOG)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        fd = str(listening.fileno())
        with listening:
            return url, [
                self.keep_running(
                    self.child(f"bare{number}", "api.http.bench_baseline", "--fd", fd, answers_at=url, listening=listening)
                )
                for number in range(processes)
            ]

    def api_processes(self, children: Sequence[Module]) -> Processes:
        """The processes of a server over HTTP that does not use Postgres."""
        return Processes(lambda: {"api": [pid for child in children for pid in child.pids]})

    def peer_processes(self) -> Processes:
        assert self.peer is not None
        peer = self.peer
        return Processes(lambda: {"api": peer.pids}, **self.postgres_of(peer.environment["DATABASE_URL"]))

    def _start_peer(self) -> None:
        """Starts the peer with as many processes as Stint's API has, on a copy of the database."""
        if importlib.util.find_spec("fastapi") is None:
            self.say("nothing is compared with the peer, because FastAPI is missing here: pip install 'stint[dev]' installs it")
            return
        self.say("copying the database for the peer, and starting it")
        url = make_conninfo(self.database_url, dbname="peer")
        self._copy_database(url)
        self.peer_url = f"http://127.0.0.1:{free_port()}"
        self.peer = self.child(
            "peer", "uvicorn", "ops.bench.peer.app:app", "--port", self.peer_url.rpartition(":")[2], "--loop", "uvloop",
            "--http", "httptools", "--workers", str(API_PROCESSES), answers_at=self.peer_url, environment={"DATABASE_URL": url},
        )  # fmt: skip
        self.keep_running(self.peer)

    def _copy_database(self, url: str) -> None:
        """Copies the database to another of the same server. Its own connection has to end: a copy waits for all others."""
        source, target = (str(conninfo_to_dict(one)["dbname"]) for one in (self.database_url, url))
        self.conn.close()
        with psycopg.connect(make_conninfo(self.database_url, dbname="template1"), autocommit=True) as conn:
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

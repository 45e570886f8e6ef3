"""A private installation that a drill breaks: servers, stand-ins, Prometheus, and each of Stint's processes."""

import asyncio
import json
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from aiosmtpd.smtp import AuthResult, Envelope, Session

from ops.up.servers import Servers
from schemas.postgres.migrate import migrate
from tests.support.given import Given, Json
from tests.support.installation import SHORT_WAITS, Installation, eventually, with_database
from tests.support.prometheus import Prometheus, prometheus
from tests.support.smtp import MailServer, serving

WORKERS = ("work:timers", "work:bills", "work:xero,slack,mail")
OTHERS = "work:xero,slack,mail"  # the worker that calls other servers
PASSWORD = "the right one"


class Mailbox(MailServer):
    """A mail server that accepts one password."""

    def check(self, _server: Any, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password.decode() == PASSWORD, handled=False)

    def url_with(self, password: str) -> str:
        return f"smtp://stint:{password.replace(' ', '%20')}@{self.host}:{self.port}"


@dataclass
class Site:
    """All of it. `stint` has the default settings of Stint: no wait is shortened."""

    servers: Servers
    mail: Mailbox
    prometheus: Prometheus
    stint: Installation
    given: Given

    def doctor(self) -> list[Json]:
        """The findings of `./stint doctor`."""
        printed = self.stint.command("doctor", "--json")
        try:
            findings: list[Json] = json.loads(printed.stdout)
        except ValueError:
            raise AssertionError(f"doctor: {printed.stdout} {printed.stderr}") from None
        return findings

    def signal(self, name: str, number: signal.Signals) -> None:
        self.stint.processes[name].send_signal(number)

    def restart(self, name: str, **settings: str) -> None:
        """Ends one of Stint's processes as a service does, and starts it with these settings."""
        self.stint.environment |= settings
        self.stint.kill(name, signal.SIGTERM)
        self.stint.start(name)

    def shell(self, command: str, **environment: str) -> str:
        """Runs a command of docs/operations.md or of a finding, and returns what it prints."""
        done = subprocess.run(shlex.split(command), env=os.environ | environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
        return done.stdout

    def command(self, line: str) -> str:
        """Runs `./stint …` against the installation."""
        words = shlex.split(line.removeprefix("./stint "))
        done = self.stint.command(*words)
        assert done.returncode == 0, f"{line}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    def rabbitmqctl(self, line: str) -> str:
        """Runs `rabbitmqctl …` on the private node."""
        broker = self.servers.rabbitmq
        start = "+B -noshell -escript main rabbitmqctl_escript -run escript start -extra"
        program = f"{broker.installation.runtime}/erlexec {start} {broker.installation.server}/escript/rabbitmqctl"
        return self.shell(f"{program} -n stint@localhost {line.removeprefix('rabbitmqctl ')}", **broker._environment())


@contextmanager
def site(home: Path) -> Iterator[Site]:
    """Runs everything below `home`, for as long as the block lasts. Call it from the main thread: servers end with the thread
    that started them."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711)
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # it warns of its own attributes at each login
    with ExitStack() as stack:
        servers = stack.enter_context(Servers(home / "servers", durable=False))
        with psycopg.connect(servers.database_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE firm")
        database_url = with_database(servers.database_url, "firm")
        asyncio.run(migrate(database_url))
        mail = stack.enter_context(serving(Mailbox()))
        stint = Installation(database_url, servers.amqp_url, home)
        for name in SHORT_WAITS:
            del stint.environment[name]
        stint.environment |= {"PUBLIC_URL": stint.url, "SMTP_URL": mail.url_with(PASSWORD)}
        stack.callback(stint.stop)
        stint.start("api", "relay", *WORKERS).wait_until_ready()
        beats = "SELECT count(*) FROM heartbeats"
        eventually(lambda: stint.value(beats) == 5, seconds=60, why="all processes send heartbeats")
        scraping = stack.enter_context(prometheus(home / "prometheus", f"127.0.0.1:{stint.port}"))
        given = stack.enter_context(closing(Given(stint)))
        yield Site(servers, mail, scraping, stint, given)

"""A private installation that a drill breaks: servers, stand-ins, Prometheus, and each of Stint's processes."""

import asyncio
import json
import logging
import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from aiosmtpd.smtp import AuthResult, Envelope, Session

from ops.sandbox.slack.stand_in import environment as slack_environment
from ops.sandbox.xero.stand_in import environment as xero_environment
from ops.up.servers import Servers
from schemas.postgres.migrate import migrate
from tests.faults.drill.disk import small_disk
from tests.faults.proxy import Proxy
from tests.support import rabbitmq_tools
from tests.support.clusters import Cluster
from tests.support.firm_with_xero import Firm
from tests.support.given import Given, Json
from tests.support.installation import SHORT_WAITS, Installation, eventually, with_database
from tests.support.prometheus import Prometheus, prometheus
from tests.support.slack_sandbox import Member, SlackSandbox, running_slack_sandbox
from tests.support.smtp import MailServer, serving
from tests.support.user_pool import UserPool
from tests.support.xero_sandbox import running_xero

WORKERS = ("work:timers", "work:bills", "work:xero,slack,mail")
OTHERS = "work:xero,slack,mail"  # the worker that calls other servers
PASSWORD = "the right one"


class Mailbox(MailServer):
    """A mail server that accepts one password."""

    def check(self, _server: Any, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password.decode() == PASSWORD, handled=False)


@dataclass
class Site:
    """All of it. `stint` has the default settings of Stint: no wait is shortened."""

    servers: Servers
    proxies: dict[str, Proxy]  # in front of xero and smtp
    slack: SlackSandbox
    member: Member  # of Slack, in a channel that is mapped to the firm's customer
    firm: Firm  # its xero, people, customer and project
    disk: Path | None  # the small file system of Postgres's data; None where this process may mount none
    prometheus: Prometheus
    stint: Installation
    old_key: str = ""
    standby: Cluster | None = None
    pool: UserPool | None = None
    newer: Path | None = None  # the checkout of a newer version, while it is the one that runs
    held: ExitStack = field(default_factory=ExitStack)  # what a breakage keeps open until its cure

    @property
    def given(self) -> Given:
        return self.firm.given

    def doctor(self) -> list[Json]:
        """The findings of `./stint doctor`."""
        printed = self.stint.command("doctor", "--json") if self.newer is None else self.newer_command("doctor", "--json")
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

    def restart_all(self, **settings: str) -> None:
        for name in ("api", "relay", *WORKERS):
            self.restart(name, **settings)
        self.stint.wait_until_ready()

    def smtp_url(self, password: str = PASSWORD) -> str:
        return _smtp_url(self.proxies["smtp"], password)

    def send_a_mail(self) -> None:
        """As an invitation does."""
        path = f"/api/customers/{self.firm.customer['id']}/users/invite"
        self.firm.admin.post(path, {"email": f"{secrets.token_hex(5)}@example.com", "name": "Jo"})

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

    def newer_command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs `./stint …` of the newer version against the installation."""
        environment = os.environ | self.stint.environment | {"PYTHONPATH": str(self.newer)}
        return subprocess.run(
            [sys.executable, "-P", "-m", "ops.cli", *words], env=environment, capture_output=True, text=True, timeout=60
        )

    def rabbitmqctl(self, line: str) -> str:
        """Runs `rabbitmqctl …` on the private node."""
        broker = self.servers.rabbitmq
        program = shlex.join(rabbitmq_tools.command(broker.installation, "rabbitmqctl"))
        return self.shell(f"{program} -n stint@localhost {line.removeprefix('rabbitmqctl ')}", **broker._environment())


def _smtp_url(proxy: Proxy, password: str = PASSWORD) -> str:
    return f"smtp://stint:{password.replace(' ', '%20')}@127.0.0.1:{proxy.port}"


@contextmanager
def site(home: Path) -> Iterator[Site]:
    """Runs everything below `home`, for as long as the block lasts. Call it from the main thread: servers end with the thread
    that started them."""
    home.mkdir(parents=True, exist_ok=True)
    for directory in (home, home.parent):
        directory.chmod(0o711)  # Postgres and PgBouncer have another account
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # it warns of its own attributes at each login
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(home / "servers/postgres"))
        servers = stack.enter_context(Servers(home / "servers"))
        with psycopg.connect(servers.database_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE stint")
        database_url = with_database(servers.database_url, "stint")
        asyncio.run(migrate(database_url))
        mail, slack = stack.enter_context(serving(Mailbox())), stack.enter_context(running_slack_sandbox())
        xero = stack.enter_context(running_xero())
        proxies = {name: Proxy(f"127.0.0.1:{port}") for name, port in (("xero", xero.port), ("smtp", mail.port))}
        for proxy in proxies.values():
            proxy.start()
            stack.callback(proxy.stop)
        stint = Installation(database_url, servers.amqp_url, home)
        for name in SHORT_WAITS:
            del stint.environment[name]
        stint.environment |= {
            "PUBLIC_URL": stint.url,
            "SMTP_URL": _smtp_url(proxies["smtp"]),
            **xero_environment(f"http://127.0.0.1:{proxies['xero'].port}"),
            **slack_environment(slack.url),
        }
        stack.callback(stint.stop)
        stint.start("api", "relay", *WORKERS).wait_until_ready()
        eventually(lambda: stint.value("SELECT count(*) FROM heartbeats") == 5, seconds=60, why="all processes send heartbeats")
        scraping = stack.enter_context(prometheus(home / "prometheus", f"127.0.0.1:{stint.port}"))
        given = stack.enter_context(closing(Given(stint)))
        xero.disable_limits()
        firm = Firm.new(stint, xero, given)
        member = Member(slack, stint, slack.user(firm.by.email), slack.channel())
        mapping = {"channelId": member.channel, "channelName": "acme", "customerId": firm.customer["id"]}
        firm.admin.post("/api/slack/channel-mappings", mapping)
        yield Site(servers, proxies, slack, member, firm, disk, scraping, stint)

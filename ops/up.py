"""`./stint up`: all parts of Stint on one machine, watched, and gone when it is gone."""

import asyncio
import os
import shlex
import socket
import time
from urllib.parse import urlsplit

from ops.errors import CommandError
from ops.given import http_status, wait_for_postgres, wait_for_rabbitmq
from ops.mailbox import Mailbox
from ops.postgres import Postgres
from ops.processes import Child, Program, until
from ops.rabbitmq import RabbitMQ
from ops.sandbox.beside import SlackBeside, XeroBeside, check_without
from ops.state import CHECKOUT, DEFAULT, Run, State
from ops.supervisor import Supervisor

_WORKERS = {"work timers": "timers", "work bills": "bills", "work calls": "xero,slack,mail"}
_ADMIN = "admin@example.com"
_FIRM = "firm@example.com"  # whom leads go to where all mail is caught
_SHARED = ("STINT_TIMEZONE", "SMTP_URL", "FIRM_EMAIL", "MAIL_FROM", "APP_URL")  # with the commands beside it
_RABBITMQ_SECONDS = 15  # how long the API's start waits for it


def run(state: State, *, port: int, verbose: bool, sandbox: bool = False) -> int:
    """Runs everything until a signal says stop; raises CommandError when it cannot start. It fills in os.environ what
    is lacking there, for the children and for the functions of `schemas`."""
    with state.hold():
        _check_port(port)
        if sandbox:
            for beside in (1, 2):
                _check_port(port + beside, what="for the sandbox")
        else:
            check_without(state)
        return asyncio.run(_Up(state, port=port, verbose=verbose, sandbox=sandbox).run())


class _Up:
    """One run of `up`: what its parts are, and the order in which they start and stop."""

    def __init__(self, state: State, *, port: int, verbose: bool, sandbox: bool) -> None:
        self.state = state
        self.url = f"http://127.0.0.1:{port}"
        self.started = time.monotonic()
        self.supervisor = Supervisor(verbose=verbose, on_change=self._write_run)
        self.say = self.supervisor.say
        self.postgres = None if os.environ.get("DATABASE_URL") else Postgres(state.directory)
        self.rabbitmq = None if os.environ.get("AMQP_URL") else RabbitMQ(state.directory)
        self.mailbox = None if os.environ.get("SMTP_URL") else Mailbox(state.directory / "mail")
        logs = state.directory / "logs"
        logs.mkdir(exist_ok=True)
        self.programs = [
            Program("api", ["api", "--host", "127.0.0.1", "--port", str(port)], logs),
            *(
                Program(name, ["actors", "work", "--queues", queues, "--threads", "4"], logs)
                for name, queues in _WORKERS.items()
            ),
            Program("relay", ["actors", "relay"], logs),
        ]
        self.xero = XeroBeside(state, logs, port=port + 1) if sandbox else None
        self.slack = SlackBeside(logs, port=port + 2, api_url=self.url) if sandbox else None
        self.programs += [beside for beside in (self.xero, self.slack) if beside]
        self.servers: list[Child] = [self.postgres] if self.postgres else []
        if self.rabbitmq:
            self.servers += [self.rabbitmq, self.rabbitmq.port_mapper]

    async def run(self) -> int:
        """Starts, waits for a signal, and stops; returns the exit code."""
        self.say(f"starting on {self.state.directory}")
        if self.xero:
            self.say("with a sandbox: stand-ins take what would go to Xero and to Slack, and nothing goes there")
        self.supervisor.do(self.supervisor.show_logs([*self.programs, *self.servers]))
        self.supervisor.do(self._start())
        try:
            await self.supervisor.until_over()
        finally:
            self.say("stopping")
            await self.supervisor.end(self.programs)
            if self.mailbox:
                self.mailbox.close()
            await self.supervisor.end(self.servers)
            self.say("stopped")
        return 0

    async def _start(self) -> None:
        await asyncio.gather(self._start_rabbitmq(), self._start_postgres(), self._start_mailbox())
        self._fill_environment()
        await self._migrate()
        if self.xero:
            await self.xero.prepare()
        api, *others = self.programs
        for program in others:
            self.supervisor.do(self.supervisor.keep(program))
        if self.rabbitmq:
            # the API could do without, but who waits for /health/ready wants to see a stop become a bill at once
            announced = self.supervisor.do(self._announce(self.rabbitmq, "RabbitMQ"))
            await asyncio.wait({announced}, timeout=_RABBITMQ_SECONDS)
        self.supervisor.do(self.supervisor.keep(api))
        await self._wait_until_ready()
        token = await self._make_token()
        if self.xero:
            await self.xero.let_in(self.url, token)
        if self.slack:
            await until(self.slack.is_ready)  # its page is named as one to type into
        self.supervisor.settled = True
        self.supervisor.terminal.say(self._status(token))

    async def _start_rabbitmq(self) -> None:
        """Returns when its URL is known: the programs start while it still boots."""
        if self.rabbitmq is None:
            await wait_for_rabbitmq(os.environ["AMQP_URL"], self.say)
            return
        await self.rabbitmq.prepare(lambda text: self.say(f"RabbitMQ: {text}"))
        self.supervisor.do(self.supervisor.keep(self.rabbitmq))
        self.supervisor.do(self.supervisor.keep(self.rabbitmq.port_mapper))

    async def _start_postgres(self) -> None:
        if self.postgres is None:
            await wait_for_postgres(os.environ["DATABASE_URL"], self.say)
            return
        if not self.postgres.data.exists():
            self.say("Postgres: making its data directory")
        await self.postgres.prepare()
        self.supervisor.do(self.supervisor.keep(self.postgres))
        await self._announce(self.postgres, "Postgres")

    async def _start_mailbox(self) -> None:
        if self.mailbox is not None:
            os.environ["SMTP_URL"] = await self.mailbox.open()
            os.environ.setdefault("FIRM_EMAIL", _FIRM)

    async def _announce(self, server: Child, name: str) -> None:
        await until(server.is_ready)
        self.say(f"{name} is ready after {time.monotonic() - self.started:.1f} s")

    def _fill_environment(self) -> None:
        from schemas.settings import settings

        os.environ["PYTHONPATH"] = str(CHECKOUT)
        if self.postgres:
            os.environ["DATABASE_URL"] = self.postgres.database_url
        if self.rabbitmq:
            os.environ["AMQP_URL"] = self.rabbitmq.amqp_url
        os.environ.update(self._sandbox_environment())
        for name, value in (("SECRET_KEY", self.state.make_secret_key), ("PUBLIC_URL", lambda: self.url)):
            if not os.environ.get(name):
                os.environ[name] = value()
        # a command beside it that took another time zone would put hours on other days
        os.environ["STINT_TIMEZONE"] = os.environ.get("STINT_TIMEZONE") or "UTC"
        shared = {name: os.environ[name] for name in _SHARED if os.environ.get(name)}
        self.state.write_settings(shared | self._sandbox_environment())
        settings()  # what is wrong in them is better said once, here

    def _sandbox_environment(self) -> dict[str, str]:
        return {} if self.xero is None or self.slack is None else self.xero.environment() | self.slack.environment()

    async def _migrate(self) -> None:
        import psycopg

        from schemas.migrate import migrate

        try:
            applied = await migrate(os.environ["DATABASE_URL"])
        except psycopg.Error as error:
            raise CommandError(f"The database cannot be brought up to date: {error}") from error
        if applied:
            self.say(f"migrations applied: {', '.join(applied)}")

    async def _wait_until_ready(self) -> None:
        patience = time.monotonic() + 30
        while (answer := await http_status(self.url, "/health/ready")) != 200:
            if time.monotonic() > patience:
                seen = f"{self.url}/health/ready gives {answer or 'no answer'}"
                self.say(f"still waiting: {seen}; the logs are in {self.state.directory / 'logs'}")
                patience += 30
            await asyncio.sleep(0.05)

    async def _make_token(self) -> str:
        from ops.users import make_token

        return await make_token(role="internal_admin", email=_ADMIN)

    def _status(self, token: str) -> str:
        option = "" if self.state.directory == DEFAULT else f" --state {shlex.quote(str(self.state.directory))}"
        return f"""
Stint is ready after {time.monotonic() - self.started:.1f} s

  API       {self.url}
  Docs      {self.url}/docs
  State     {self.state.directory}
  Postgres  {_where(os.environ["DATABASE_URL"], own=self.postgres)}
  RabbitMQ  {_where(os.environ["AMQP_URL"], own=self.rabbitmq)}
  Mail      {f"caught: files in {self.mailbox.directory}" if self.mailbox else _where(os.environ["SMTP_URL"], own=None)}
  Xero      {self._which_xero()}
  Slack     {self._which_slack()}
  Token     {token}
            ({_ADMIN}, internal_admin; another: ./stint token --role internal_admin --email you@example.com{option})

  Try it:   curl -H 'Authorization: Bearer {token}' {self.url}/api/me
  Stop it:  Ctrl-C, or kill {os.getpid()}
"""

    def _which_xero(self) -> str:
        if self.xero:
            return f"a sandbox: nothing goes to Xero, what would have gone shows at {self.xero.url}"
        return (
            "yours, once an admin connects it" if os.environ.get("XERO_CLIENT_ID") else "not set up; --sandbox has a stand-in"
        )

    def _which_slack(self) -> str:
        if self.slack:
            return f"a sandbox: type /task at {self.slack.url}"
        return "yours" if os.environ.get("SLACK_BOT_TOKEN") else "not set up: docs/slack.md; --sandbox has a stand-in"

    def _write_run(self) -> None:
        """Keeps run.json current, and the programs at the right RabbitMQ: should it lose its port at its very first
        start, it takes another, and who knows the old one has to start again."""
        if not os.environ.get("DATABASE_URL") or not os.environ.get("AMQP_URL"):
            return
        if self.rabbitmq and os.environ["AMQP_URL"] != self.rabbitmq.amqp_url:
            os.environ["AMQP_URL"] = self.rabbitmq.amqp_url
            for program in self.programs:
                program.ask_to_stop()
        pids: dict[str, list[int]] = {"api": [], "work": [], "relay": [], "postgres": [], "rabbitmq": []}
        if self.xero:
            pids["sandbox"] = []
        for child in [*self.programs, *self.servers]:
            pids["rabbitmq" if child.name == "epmd" else child.name.split()[0]] += child.pids
        self.state.write_run(Run(self.url, os.environ["DATABASE_URL"], os.environ["AMQP_URL"], pids))


def _check_port(port: int, *, what: str = "") -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = f"Port {port}{what and f', {what},'} cannot be used ({error.strerror})"
            raise CommandError(f"{reason}: choose another with --port.") from error


def _where(url: str, *, own: Child | None) -> str:
    """A server's address without its password."""
    parts = urlsplit(url)
    if own and parts.query:
        return f"private, psql '{url}'"
    place = parts.hostname or "localhost"
    place = f"{place}:{parts.port}" if parts.port else place
    return f"private, {place}" if own else f"yours, {place}{parts.path}"

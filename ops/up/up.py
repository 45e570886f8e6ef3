"""`./stint up`: runs all processes of Stint on one machine, restarts those that die, and ends them together."""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ops.errors import CommandError
from ops.running.answering import answer_on
from ops.running.asking import REPORT, RESTART, TOKEN
from ops.sandbox.processes import SlackProcess, XeroProcess, check_without
from ops.state import CHECKOUT, Run, State
from ops.up.api_processes import api_processes, bind, listen, unusable
from ops.up.external_servers import http_status, wait_for_postgres, wait_for_rabbitmq
from ops.up.mailbox import Mailbox
from ops.up.postgres import Postgres
from ops.up.processes import Child, Program, until
from ops.up.rabbitmq import RabbitMQ
from ops.up.rolling_restart import RollingRestart
from ops.up.summary import ADMIN, Summary
from ops.up.supervisor import Supervisor

_WORKERS = {"work timers": "timers", "work bills": "bills", "work calls": "xero,slack,mail"}
_FIRM = "firm@example.com"  # receives leads when all mail is caught
_RABBITMQ_SECONDS = 15  # the longest time that the API's start waits for RabbitMQ


def run(state: State, *, port: int, verbose: bool, sandbox: bool = False, api: int = 2, work: int = 1) -> int:
    """Runs everything until a signal arrives, with that many API processes, and workers of each kind; SIGUSR2 replaces workers,
    relay and API processes in turn. Raises CommandError when it cannot start. Sets missing settings in os.environ, for
    the child processes and for the functions of `schemas`."""
    with state.lock(), bind("127.0.0.1", port) as bound:
        if sandbox:
            for offset in (1, 2):
                _check_port(port + offset, what="for the sandbox")
        else:
            check_without(state)
        up = _Up(state, bound, verbose=verbose, sandbox=sandbox, api=api, work=work)
        return asyncio.run(up.run())


class _Up:
    """One run of `up`: its processes, and the order in which they start and stop."""

    def __init__(self, state: State, bound: socket.socket, *, verbose: bool, sandbox: bool, api: int, work: int) -> None:
        self.state = state
        self.bound = bound
        self.answering: asyncio.Server | None = None
        port = bound.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.started = time.monotonic()
        self.supervisor = Supervisor(verbose=verbose, on_change=self._write_run)
        self.say = self.supervisor.say
        self.postgres = None if os.environ.get("DATABASE_URL") else Postgres(state.directory)
        self.rabbitmq = None if os.environ.get("AMQP_URL") else RabbitMQ(state.directory)
        self.mailbox = None if os.environ.get("SMTP_URL") else Mailbox(state.directory / "mail")
        logs = state.directory / "logs"
        logs.mkdir(exist_ok=True)
        metrics = state.directory / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        self.api = api_processes(api, bound, logs, metrics=metrics)
        others = [
            Program(f"{name} {number}" if number > 1 else name, ["actors", "work", "--queues", queues, "--threads", "4"], logs)
            for name, queues in _WORKERS.items()
            for number in range(1, work + 1)
        ]
        others.append(Program("relay", ["actors", "relay"], logs))
        self.programs: list[Program] = [*self.api, *others]
        # the API last: what handles messages must know a new kind of them before others enqueue it
        self.rolling_restart = RollingRestart(self.supervisor, [*others, *self.api])
        self.xero = XeroProcess(state, logs, port=port + 1) if sandbox else None
        self.slack = SlackProcess(logs, port=port + 2, api_url=self.url) if sandbox else None
        self.programs += [stand_in for stand_in in (self.xero, self.slack) if stand_in]
        self.servers: list[Child] = [self.postgres] if self.postgres else []
        if self.rabbitmq:
            self.servers += [self.rabbitmq, self.rabbitmq.port_mapper]

    async def run(self) -> int:
        """Starts, waits for a signal, and stops; returns the exit code."""
        self.say(f"starting on {self.state.directory}")
        if self.xero:
            self.say("with a sandbox: stand-ins replace Xero and Slack, and nothing is sent to the real ones")
        self.supervisor.spawn(self.supervisor.show_logs([*self.programs, *self.servers]))
        self.supervisor.spawn(self._start())
        try:
            await self.supervisor.wait_for_end()
        finally:
            self.say("stopping")
            if self.answering:
                self.answering.close()
            await self.supervisor.end(self.programs)
            if self.mailbox:
                self.mailbox.close()
            await self.supervisor.end(self.servers)
            self.say("stopped")
        return 0

    async def _start(self) -> None:
        await asyncio.gather(self._start_rabbitmq(), self._start_postgres(), self._start_mailbox())
        self._fill_environment()
        from ops.users import answer_token

        answers: dict[bytes, Callable[..., Awaitable[dict[str, Any]]]] = {REPORT: self._report, RESTART: self._restart}
        answers[TOKEN] = answer_token
        self.answering = await answer_on(self.state.directory, answers)
        await self._migrate()
        if self.xero:
            await self.xero.prepare()
        for program in self.programs[len(self.api) :]:
            self.supervisor.spawn(self.supervisor.keep_running(program))
        if self.rabbitmq:
            # The API does not need it, but a caller who waits for /health/ready expects that a stop becomes a bill at once.
            announced = self.supervisor.spawn(self._announce(self.rabbitmq, "RabbitMQ"))
            await asyncio.wait({announced}, timeout=_RABBITMQ_SECONDS)
        listen(self.bound)
        for process in self.api:
            self.supervisor.spawn(self.supervisor.keep_running(process))
        self.rolling_restart.on_signal()
        await self._wait_until_ready()
        await self._report_ready()

    async def _report_ready(self) -> None:
        """Creates the first admin, connects the stand-ins, and says how to reach everything. A link that signs in is printed
        only on a terminal: what else standard output is, may be kept and read by others."""
        from ops.users import ensure_first_admin, make_link, make_token

        has_admin = await ensure_first_admin(ADMIN)
        can_sign = await self._check_secrets()
        if self.xero and has_admin and can_sign:
            await self.xero.connect(self.url, await make_token(role="internal_admin", email=ADMIN))
        if self.slack:
            await until(self.slack.is_ready)  # the summary names its page
        link = await make_link(ADMIN, self.url) if has_admin and self.supervisor.terminal.is_terminal else None
        self.supervisor.started = True
        summary = Summary(
            state=self.state.directory,
            url=self.url,
            seconds=time.monotonic() - self.started,
            has_admin=has_admin,
            link=link,
            own_postgres=self.postgres is not None,
            own_rabbitmq=self.rabbitmq is not None,
            mailbox=self.mailbox.directory if self.mailbox else None,
            xero_sandbox=self.xero.url if self.xero else None,
            slack_sandbox=self.slack.url if self.slack else None,
        )
        self.supervisor.terminal.say(summary.text())

    async def _check_secrets(self) -> bool:
        """Whether SECRET_KEY decrypts all secrets in the database. If not, it says so, and everything runs that can."""
        from schemas.diagnosis import secrets
        from schemas.postgres.connection import connect
        from schemas.settings import settings

        async with await connect(settings()) as conn:
            found = await secrets.unreadable(conn, settings())
        if found:
            self.say(
                f"SECRET_KEY does not decrypt {found.named}: docs/operations.md, SECRET_KEY does not decrypt, says what to do"
            )
        return not found

    async def _start_rabbitmq(self) -> None:
        """Returns when its URL is known: the other processes start while it boots."""
        if self.rabbitmq is None:
            await wait_for_rabbitmq(os.environ["AMQP_URL"], self.say)
            return
        await self.rabbitmq.prepare(lambda text: self.say(f"RabbitMQ: {text}"))
        self.supervisor.spawn(self.supervisor.keep_running(self.rabbitmq))
        self.supervisor.spawn(self.supervisor.keep_running(self.rabbitmq.port_mapper))

    async def _start_postgres(self) -> None:
        if self.postgres is None:
            await wait_for_postgres(os.environ["DATABASE_URL"], self.say)
            return
        await self.postgres.prepare(lambda text: self.say(f"Postgres: {text}"))
        self.supervisor.spawn(self.supervisor.keep_running(self.postgres))
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
            os.environ["STINT_QUEUE_TYPE"] = os.environ.get("STINT_QUEUE_TYPE") or "classic"  # it is one node
        os.environ.update(self._sandbox_environment())
        for name, value in (("SECRET_KEY", self.state.get_or_create_secret_key), ("PUBLIC_URL", lambda: self.url)):
            if not os.environ.get(name):
                os.environ[name] = value()
        # a command with another time zone would put hours on other days
        os.environ["STINT_TIMEZONE"] = os.environ.get("STINT_TIMEZONE") or "UTC"
        self.state.write_settings(_own_settings())
        settings()  # reports wrong settings here, once, instead of in every process

    def _sandbox_environment(self) -> dict[str, str]:
        return {} if self.xero is None or self.slack is None else self.xero.environment() | self.slack.environment()

    async def _migrate(self) -> None:
        import psycopg

        from schemas.postgres.migrate import WrongVersion, migrate
        from schemas.settings import long_hours

        try:
            applied = await migrate(os.environ["DATABASE_URL"], long_hours=long_hours())
        except WrongVersion as error:
            raise CommandError(str(error)) from error
        except psycopg.Error as error:
            raise CommandError(f"The database cannot be brought up to date: {error}") from error
        if applied:
            self.say(f"migrations applied: {', '.join(applied)}")

    async def _report(self) -> dict[str, Any]:
        """What is found with the settings and from the place of the processes that run here, for other commands."""
        from schemas.diagnosis.report import api
        from schemas.diagnosis.report.collect import ApiProcesses, report
        from schemas.settings import Settings

        run = self.state.running()
        processes = ApiProcesses(run.pids.get("api", ()), run.api_processes) if run is not None else None
        return await report(Settings(), api_state=api.probe(self.url), api_processes=processes)

    async def _restart(self) -> dict[str, Any]:
        """Replaces workers, relay and API processes, and returns what could not be replaced."""
        failures: list[str] = []
        if self.supervisor.started:
            await asyncio.wait({self.supervisor.spawn(self.rolling_restart.run(failures))})
        else:
            failures.append("it is still starting, so nothing was replaced: try again in a few seconds")
        return {"failures": failures}

    async def _wait_until_ready(self) -> None:
        next_report = time.monotonic() + 30
        while (status := await http_status(self.url, "/health/ready")) != 200:
            if time.monotonic() > next_report:
                seen = f"{self.url}/health/ready answers {status or 'nothing'}"
                self.say(f"still waiting: {seen}; the logs are in {self.state.directory / 'logs'}")
                next_report += 30
            await asyncio.sleep(0.05)

    def _write_run(self) -> None:
        """Updates run.json. If RabbitMQ had to change its port at its first start, it also restarts the processes that know the
        old one."""
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
        self.state.write_run(Run(self.url, os.environ["DATABASE_URL"], os.environ["AMQP_URL"], pids, len(self.api)))


def _own_settings() -> dict[str, str]:
    """All settings that this environment sets, for other commands on the state: `./stint doctor` judges by them, and a worker
    that somebody adds needs them. AWS's variables have the credentials for the user pool, OpenTelemetry's where traces go. The
    URLs of Postgres and RabbitMQ are left out, because run.json keeps them current."""
    from schemas.settings import Settings

    names = {name.upper() for name in Settings.model_fields} - {"DATABASE_URL", "AMQP_URL"}
    return {
        name.upper(): value
        for name, value in os.environ.items()
        if (name.upper() in names and (value or name.upper() == "INTERNAL_CLIENT_IDS"))
        or (name.startswith(("AWS_", "OTEL_")) and value)
    }


def _check_port(port: int, *, what: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise unusable(port, error, what=what) from error

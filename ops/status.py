"""`./stint status`: the state of the installation: servers, queues, processes, dead letters."""

import argparse
import asyncio
import socket
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from ops.state import Run, State
from schemas.identity import leftovers, user_pool
from schemas.masking import Redactor
from schemas.outbox import clocks, dead_letters, heartbeats, metrics
from schemas.outbox.heartbeats import Process
from schemas.outbox.metrics import QueueDepth
from schemas.postgres.connection import Connection, connect
from schemas.postgres.migrate import pending
from schemas.settings import Settings, settings
from schemas.slack.access import loss as slack_loss
from schemas.xero.access import status as xero_status
from schemas.xero.access.status import XeroStatus
from schemas.xero.checks import strays
from schemas.xero.differences import alerts
from schemas.xero.differences.alerts import WaitingBills

CONNECT_SECONDS = 3.0
PORTS = {"amqp": 5672, "amqps": 5671, "smtp": 25, "smtps": 465, "http": 80, "https": 443}


@dataclass
class InstallationStatus:
    """What could be read. Most of it is in Postgres, so it stays empty while Postgres is unreachable."""

    servers: dict[str, str] = field(default_factory=dict)  # "ok", "not set", or what is wrong
    cures: dict[str, str] = field(default_factory=dict)  # of a server with a problem that is known: what to do
    processes: list[Process] = field(default_factory=list)
    queues: list[QueueDepth] = field(default_factory=list)
    dead: int = 0
    groups: int = 0
    unrecognized: int = 0
    lacks_migrations: bool = False
    wrong_clocks: list[str] = field(default_factory=list)  # each with its difference
    stray_entries: list[str] = field(default_factory=list)  # in Xero, each described
    xero_differs: int = 0  # bills whose time entries were changed in Xero by hand
    xero_waiting: list[WaitingBills] = field(default_factory=list)  # bills that wait until a person acts
    timers_without_access: list[str] = field(default_factory=list)  # the addresses of their users

    def alive(self, kind: str, queue: str | None = None) -> list[Process]:
        """The living processes of that kind; with `queue`, only those that serve it."""
        return [each for each in self.processes if each.alive and each.kind == kind and (queue is None or queue in each.queues)]


def run(args: argparse.Namespace) -> int:
    """Prints the status. Always returns 0: `./stint doctor` judges it."""
    state = State(args.state)
    status = asyncio.run(collect(settings(), api_url=state.api_url(), run=state.own_run()))
    if args.json:
        Console().print_json(data=_plain(status))
    else:
        _show(status)
    return 0


async def collect(settings: Settings, *, api_url: str | None, run: Run | None = None) -> InstallationStatus:
    """Probes everything that Stint depends on, each for a few seconds at most. Without `api_url` the API is not probed. `run`:
    the `./stint up` that this machine runs, if the status is about it."""
    status = InstallationStatus()
    probes = {
        "Postgres": _read_database(settings, status),
        "RabbitMQ": _probe(settings.amqp_url),
        "API": _probe_api(api_url),
        "mail": _probe(settings.smtp_url.get_secret_value() if settings.smtp_url else None),
    }
    status.servers = dict(zip(probes, await asyncio.gather(*probes.values()), strict=True)) | status.servers
    if run is not None and status.servers["API"] == status.servers["Postgres"] == "ok":
        status.servers["API"] = _count_api_processes(status, run)
    return status


def _count_api_processes(status: InstallationStatus, run: Run) -> str:
    """Whether as many API processes serve as there should be. The others on the socket answer all requests, so that nobody
    notices a process that ends again and again."""
    own = {f"{socket.gethostname()}:{pid}" for pid in run.pids.get("api", ())}
    alive = sum(process.process in own for process in status.alive("api"))
    return "ok" if alive >= run.api_processes else f"has {alive} of {run.api_processes} processes"


async def _read_database(settings: Settings, status: InstallationStatus) -> str:
    """Fills in what Postgres knows, and returns the state of Postgres itself."""
    try:
        async with asyncio.timeout(10), await connect(settings) as conn:
            if await pending(conn):
                status.lacks_migrations = True
                return "lacks migrations"
            status.queues = await metrics.queue_depths(conn)
            status.processes = await heartbeats.processes(conn)
            own_seconds = await clocks.seconds_ahead(conn)
            status.wrong_clocks = clocks.wrong_clocks(status.processes, host=socket.gethostname(), own_seconds=own_seconds)
            found = await dead_letters.list_groups(conn, Redactor(settings))
            status.dead, status.groups, status.unrecognized = found.dead, len(found.items), found.unrecognized
            status.stray_entries = await strays.stray_entries(conn, settings)
            status.timers_without_access = await leftovers.timers_without_access(conn)
            if settings.uses_external_identity:
                status.servers["user pool"] = await _user_pool(conn, settings)
            status.servers |= {"Xero": await _xero(conn, settings, status), "Slack": await _slack(conn, settings, status)}
    except Exception as error:  # any error means that Postgres cannot be used, and is shown as its state
        return f"does not answer: {type(error).__name__}"
    return "ok"


async def _user_pool(conn: Connection, settings: Settings) -> str:
    reading = await user_pool.last_reading(conn)
    if reading.age_seconds is not None and reading.age_seconds < user_pool.LATE_SECONDS + settings.stint_pool_seconds:
        return "ok"
    when = "was never read" if reading.age_seconds is None else f"was last read {reading.age_seconds:,.0f} s ago"
    return f"{when}: {reading.error}" if reading.error else when


async def _xero(conn: Connection, settings: Settings, status: InstallationStatus) -> str:
    """The state that was last recorded. Xero itself is not called: its rate limits are needed for the bills."""
    if settings.xero_client_id is None:
        return "not set"
    found = XeroStatus.from_json(await xero_status.status(conn, settings))
    status.xero_differs = found.bills.differs
    status.xero_waiting = await alerts.waiting_bills(conn)
    if found.access_lost is not None:
        status.cures["Xero"] = found.access_lost.cure
        return f"gives no access since {found.access_lost.since:%Y-%m-%d %H:%M} UTC: {found.access_lost.text}"
    if not found.connected:
        return "is not connected"
    return f"has refused {found.failed:,} bills" if found.failed else "ok"


async def _slack(conn: Connection, settings: Settings, status: InstallationStatus) -> str:
    if settings.slack_bot_token is None:
        return "not set"
    losses = await slack_loss.losses(conn, settings)
    if not losses:
        return "ok"
    status.cures["Slack"] = " Also: ".join(dict.fromkeys(loss.words.cure for loss in losses))
    problems = "; ".join(dict.fromkeys(loss.words.text for loss in losses))
    return f"refuses calls since {losses[0].lost_at:%Y-%m-%d %H:%M} UTC: {problems}"


async def _probe(url: str | None) -> str:
    """Whether a server accepts connections at the URL."""
    if not url:
        return "not set"
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or PORTS.get(parts.scheme, 80))
            writer.close()
    except (OSError, ValueError) as error:  # a TimeoutError is one
        return f"does not answer at {parts.hostname}: {type(error).__name__}"
    return "ok"


async def _probe_api(url: str | None) -> str:
    """Whether the API is ready, or what it says is wrong: it may be busy, or have lost a server that this command reaches."""
    import httpx2  # importing it takes 0.25 s

    state = await _probe(url)
    if url is None or state != "ok":
        return state
    try:
        async with asyncio.timeout(CONNECT_SECONDS), httpx2.AsyncClient(timeout=CONNECT_SECONDS) as client:
            answer = await client.get(f"{url.rstrip('/')}/health/ready")
        problems = answer.json().get("problems") if answer.status_code == 503 else None
    except (httpx2.HTTPError, TimeoutError, ValueError, AttributeError) as error:  # for example a proxy's page instead of JSON
        return f"is not ready: {type(error).__name__}"
    return f"is not ready: {' '.join(map(str, problems))}".rstrip(".") if isinstance(problems, list) else "ok"


def _show(status: InstallationStatus) -> None:
    for name, state in status.servers.items():
        print(f"{name:<10}{state}")
        if cure := status.cures.get(name):
            print(f"{'':<10}what to do: {cure}")
    console = Console(highlight=False)
    if status.queues:
        table = Table("queue", "ready", "sent", "calling", "oldest due", "dead", "workers", box=None)
        for queue in status.queues:
            table.add_row(
                queue.name, f"{queue.ready:,}", f"{queue.sent:,}", f"{queue.calling:,}", f"{queue.oldest_due_seconds:.0f} s",
                f"{queue.dead:,}", str(len(status.alive("work", queue.name))),
            )  # fmt: skip
        console.print(table)
        if status.xero_differs:
            print(f"bills that differ from their time entries in Xero: {status.xero_differs:,}")
        for waiting in status.xero_waiting:
            print(f"bills that wait: {waiting.count:,}, of {', '.join(waiting.customers)}: {waiting.error}")
        relays = len(status.alive("relay"))
        print(f"relays: {relays}; unrecognized messages: {status.unrecognized:,}. ./stint doctor says what is wrong.")


def _plain(status: InstallationStatus) -> dict[str, Any]:
    return {
        "servers": status.servers,
        "cures": status.cures,
        "queues": [queue.model_dump(mode="json") for queue in status.queues],
        "processes": [process.model_dump(mode="json") for process in status.processes],
        "deadLetters": status.dead,
        "groups": status.groups,
        "unrecognizedMessages": status.unrecognized,
        "xeroDiffers": status.xero_differs,
        "xeroWaiting": [asdict(waiting) for waiting in status.xero_waiting],
    }

"""`./stint status`: how the installation stands. `./stint doctor`: what is wrong with it, why, and what to do."""

import argparse
import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from schemas import dead_letters, heartbeats, queues, slack_posts, xero_connection
from schemas.database import Connection, connect
from schemas.heartbeats import Process
from schemas.messages import QUEUES
from schemas.migrate import pending
from schemas.queues import Queue
from schemas.settings import Settings, settings

CONNECT_SECONDS = 3.0
LATE_SECONDS = 60.0  # a message that could be handled has waited for longer than it should
PORTS = {"amqp": 5672, "amqps": 5671, "smtp": 25, "smtps": 465, "http": 80, "https": 443}


@dataclass
class Standing:
    """What could be found out. Without Postgres that is little."""

    servers: dict[str, str] = field(default_factory=dict)  # "ok", "not set", or what is wrong
    processes: list[Process] = field(default_factory=list)
    queues: list[Queue] = field(default_factory=list)
    dead: int = 0
    groups: int = 0
    foreign: int = 0
    lacks_migrations: bool = False

    def alive(self, kind: str, queue: str | None = None) -> list[Process]:
        """The processes of that kind that are alive, and serve that queue."""
        return [each for each in self.processes if each.alive and each.kind == kind and (queue is None or queue in each.queues)]


@dataclass(frozen=True)
class Finding:
    """Something wrong, and what to do about it."""

    what: str
    why: str
    do: str


def run(args: argparse.Namespace) -> int:
    """Shows how it stands; always 0, since `doctor` judges."""
    standing = asyncio.run(look(settings()))
    if args.json:
        Console().print_json(data=_plain(standing))
    else:
        _show(standing)
    return 0


def run_doctor(args: argparse.Namespace) -> int:
    """Names what is wrong: 0 when nothing is, else 1."""
    findings = examine(asyncio.run(look(settings())))
    if args.json:
        Console().print_json(data=[finding.__dict__ for finding in findings])
    for finding in [] if args.json else findings:
        print(f"{finding.what}\n  why: {finding.why}\n  do:  {finding.do}\n")
    if not args.json:
        print("Nothing is wrong." if not findings else f"That is {len(findings)} in all.")
    return 1 if findings else 0


async def look(given: Settings) -> Standing:
    """Asks everything that Stint depends on, each for a few seconds at most."""
    standing = Standing()
    windows = {
        "RabbitMQ": given.amqp_url,
        "API": os.environ.get("PUBLIC_URL"),
        "mail": given.smtp_url.get_secret_value() if given.smtp_url else None,
    }
    answers = await asyncio.gather(_read(given, standing), *(_reach(url) for url in windows.values()))
    standing.servers = dict(zip(("Postgres", *windows), answers, strict=True)) | standing.servers
    return standing


async def _read(given: Settings, standing: Standing) -> str:
    try:
        async with asyncio.timeout(10), await connect(given) as conn:
            if await pending(conn):
                standing.lacks_migrations = True
                return "lacks migrations"
            standing.queues = await queues.read(conn)
            standing.processes = await heartbeats.processes(conn)
            found = await dead_letters.groups(conn)
            standing.dead, standing.groups, standing.foreign = found.dead, len(found.items), found.foreign
            standing.servers |= {"Xero": await _xero(conn, given), "Slack": await _slack(conn, given)}
    except Exception as error:  # whatever it is, it is what is shown
        return f"does not answer: {type(error).__name__}"
    return "ok"


async def _xero(conn: Connection, given: Settings) -> str:
    """As it was last seen: nothing is asked of Xero itself, whose limits are for the work."""
    if given.xero_client_id is None:
        return "not set"
    status = json.loads(await xero_connection.status(conn))
    if status["needsReconnect"]:
        return "does not let Stint in any more"
    if not status["connected"]:
        return "is not connected"
    return f"has refused {status['failed']:,} bills" if status["failed"] else "ok"


async def _slack(conn: Connection, given: Settings) -> str:
    if given.slack_bot_token is None:
        return "not set"
    return "took our bot token back" if await slack_posts.is_removed(conn, given) else "ok"


async def _reach(url: str | None) -> str:
    """Whether something listens there."""
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


def examine(standing: Standing) -> list[Finding]:
    """What is wrong, the cause before what follows from it."""
    findings = [_of_server(name, state) for name, state in standing.servers.items() if state not in ("ok", "not set")]
    if standing.servers.get("Postgres") != "ok":
        return findings
    if not standing.alive("relay"):
        findings.append(
            Finding(
                "No relay is alive.",
                "nothing is handed to RabbitMQ, swept or replayed",
                "./stint up runs one; or ./stint relay",
            )
        )
    for queue in standing.queues:
        if queue.name not in QUEUES:
            if queue.ready:
                findings.append(
                    Finding(
                        f"{queue.ready:,} messages are for a queue that this version does not know: {queue.name}.",
                        "another version put them, or somebody wrote them into the database",
                        "start that version's relay and workers, which take them up; nothing else does",
                    )
                )
        elif not standing.alive("work", queue.name):
            findings.append(
                Finding(
                    f"No worker is alive for the queue {queue.name}.",
                    f"{queue.ready + queue.sent:,} messages wait for one",
                    f"./stint up runs them; or ./stint work --queues {queue.name}",
                )
            )
        elif queue.oldest_due_seconds > LATE_SECONDS:
            findings.append(
                Finding(
                    f"Messages of {queue.name} wait too long: the oldest for {queue.oldest_due_seconds:,.0f} s.",
                    f"{queue.ready:,} are ready, {queue.sent:,} with RabbitMQ, {queue.calling:,} calling out",
                    "look at the worker's log; start another worker for this queue if they are just many",
                )
            )
    if standing.dead:
        findings.append(
            Finding(
                f"Dead letters: {standing.dead:,}, in {standing.groups} groups.",
                "they failed as often as they may, or no retry could help; nothing more happens to them by itself",
                "./stint dead shows of what; mend the cause, then ./stint dead replay --group G --canary 1 --reason '…'",
            )
        )
    if standing.foreign:
        findings.append(
            Finding(
                f"Foreign letters came through RabbitMQ: {standing.foreign:,}.",
                "somebody publishes into our queues, or an older version's message came back",
                "./stint dead list and show; ./stint dead discard ID --reason '…' once you know whose they are",
            )
        )
    return findings


def _of_server(name: str, state: str) -> Finding:
    if state == "lacks migrations":
        return Finding("The database lacks migrations.", "a newer version of Stint runs on it", "./stint migrate")
    follows = {
        "Postgres": ("the API answers 503 and workers wait; nothing is lost", "start it, or mend DATABASE_URL"),
        "RabbitMQ": ("the API serves as usual; what it promised waits in Postgres", "start it, or mend AMQP_URL"),
        "API": ("nobody is served", "./stint up, or ./stint api; its log says why it ended"),
        "Xero": (
            "approved bills wait; they go there by themselves once it is mended",
            "docs/xero.md says what, by the bill's status",
        ),
        "Slack": ("nothing is posted there; confirmations become dead letters", "install the app again: docs/slack.md"),
        "mail": ("mails are tried again, for about an hour each; then they are dead letters", "start it, or mend SMTP_URL"),
    }
    why, do = follows[name]
    return Finding(f"{name} {state}.", why, do)


def _show(standing: Standing) -> None:
    for name, state in standing.servers.items():
        print(f"{name:<10}{state}")
    console = Console(highlight=False)
    if standing.queues:
        table = Table("queue", "ready", "sent", "calling", "oldest due", "dead", "workers", box=None)
        for queue in standing.queues:
            table.add_row(
                queue.name, f"{queue.ready:,}", f"{queue.sent:,}", f"{queue.calling:,}", f"{queue.oldest_due_seconds:.0f} s",
                f"{queue.dead:,}", str(len(standing.alive("work", queue.name))),
            )  # fmt: skip
        console.print(table)
        print(
            f"relays: {len(standing.alive('relay'))}; foreign letters: {standing.foreign:,}. ./stint doctor says what is wrong."
        )


def _plain(standing: Standing) -> dict[str, Any]:
    return {
        "servers": standing.servers,
        "queues": [queue.model_dump(mode="json") for queue in standing.queues],
        "processes": [process.model_dump(mode="json") for process in standing.processes],
        "deadLetters": standing.dead,
        "groups": standing.groups,
        "foreignLetters": standing.foreign,
    }

"""The state of the installation, as the process that calls this sees it: servers, queues, processes, dead letters."""

import asyncio
import json
import os
import socket
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import psycopg

from ops.state import Run
from schemas.diagnosis import mail, postgres_server, rabbitmq
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus, read
from schemas.postgres.connection import connect
from schemas.postgres.migrate import pending
from schemas.postgres.server import blockers
from schemas.postgres.server.failures import Failure, explain
from schemas.settings import Settings

CONNECT_SECONDS = 3.0
OVERLOAD = 4.0  # processes for each processor
MAX_BODY = 100_000
PORTS = {"http": 80, "https": 443}


async def report(settings: Settings, *, api_url: str | None, run: Run | None = None) -> dict[str, Any]:
    """The status and what is wrong, as JSON of `status` and `findings`. The parameters are those of `collect`."""
    status = await collect(settings, api_url=api_url, run=run)
    return {"status": as_json(status), "findings": [asdict(finding) for finding in diagnose(status)]}


async def collect(settings: Settings, *, api_url: str | None, run: Run | None = None) -> InstallationStatus:
    """Probes everything that Stint depends on, each for a few seconds at most. Without `api_url` the API is not probed. `run`:
    the `./stint up` that this machine runs, if the status is about it."""
    status = InstallationStatus()
    probes = {
        "Postgres": _read_database(settings, status),
        "RabbitMQ": rabbitmq.probe(settings.amqp_url),
        "API": _probe_api(api_url),
        "mail": mail.probe(settings.smtp_url.get_secret_value() if settings.smtp_url else None),
    }
    status.servers = dict(zip(probes, await asyncio.gather(*probes.values()), strict=True)) | status.servers
    if run is not None and status.servers["API"] == status.servers["Postgres"] == "ok":
        status.servers["API"] = _count_api_processes(status, run)
    status.overload = _overload(status)
    return status


def _overload(status: InstallationStatus) -> str:
    """How many processes there are for the processors of this host, if these are too few and a server is too late."""
    late = any("TimeoutError" in state or "does not react" in state for state in status.servers.values())
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load < OVERLOAD * processors or not late:
        return ""
    return f"{load:,.0f} processes run or wait for {processors} {'processor' if processors == 1 else 'processors'}"


def _count_api_processes(status: InstallationStatus, run: Run) -> str:
    """Whether as many API processes serve as there should be. The others on the socket answer all requests, so that nobody
    notices a process that ends again and again."""
    own = {f"{socket.gethostname()}:{pid}" for pid in run.pids.get("api", ())}
    alive = sum(process.process in own for process in status.alive("api"))
    return "ok" if alive >= run.api_processes else f"has {alive} of {run.api_processes} processes"


async def _read_database(settings: Settings, status: InstallationStatus) -> str:
    """Fills in what Postgres knows, and returns the state of Postgres itself."""
    problem: Failure | None = None
    try:
        async with asyncio.timeout(10), await connect(settings) as conn:
            await conn.execute("SELECT set_config('lock_timeout', %s, false)", (f"{blockers.WAITS_FOR_LOCK_SECONDS}s",))
            try:
                if await pending(conn):
                    status.lacks_migrations = True
                    return "lacks migrations"
                problem = await postgres_server.find_problem(conn, settings)  # first: it may be why reading the rest fails
                await read(conn, settings, status)
            except psycopg.errors.LockNotAvailable:
                problem = problem or await blockers.failure(conn)
    except Exception as error:  # any error means that Postgres cannot be used, and is shown as its state
        problem = problem or explain(error, settings.database_url)
    if problem is None:
        return "ok"
    status.cures["Postgres"] = problem.cure
    return problem.state


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
    state = await _probe(url)
    if url is None or state != "ok":
        return state
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            body = await asyncio.to_thread(_refusal, f"{url.rstrip('/')}/health/ready")
        problems = json.loads(body).get("problems") if body is not None else None
    except (OSError, HTTPException, ValueError, AttributeError) as error:  # for example a proxy's page instead of JSON
        return f"is not ready: {type(error).__name__}"
    return f"is not ready: {' '.join(map(str, problems))}".rstrip(".") if isinstance(problems, list) else "ok"


def _refusal(url: str) -> bytes | None:
    """The body of an answer with 503; None for other answers. Not by httpx2: importing that takes longer than all else here."""
    parts = urlsplit(url)
    make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.read(MAX_BODY) if answer.status == 503 else None
    finally:
        connection.close()


def as_json(status: InstallationStatus) -> dict[str, Any]:
    """The part of the status that `./stint status` shows."""
    return {
        "servers": status.servers,
        "cures": status.cures,
        "queues": [queue.model_dump(mode="json") for queue in status.queues],
        "processes": [
            process.model_dump(mode="json") | {"takesMessages": process.takes_messages} for process in status.processes
        ],
        "deadLetters": status.dead,
        "groups": status.groups,
        "unrecognizedMessages": status.unrecognized,
        "xeroDiffers": status.xero_differs,
        "xeroWaiting": [asdict(waiting) for waiting in status.xero_waiting],
    }

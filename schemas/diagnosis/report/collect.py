"""The state of the installation, as the process that calls this sees it: servers, queues, processes, dead letters."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Collection
from dataclasses import asdict
from typing import Any, NamedTuple

import psycopg

from schemas.diagnosis import mail, postgres_server, rabbitmq
from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.report import api
from schemas.diagnosis.servers import with_reports
from schemas.diagnosis.status import InstallationStatus, read
from schemas.postgres.connection import connect
from schemas.postgres.migrate import pending
from schemas.postgres.server import blockers
from schemas.postgres.server.failures import Failure, explain
from schemas.servers.error_words import IN_TIME
from schemas.settings import Settings

POSTGRES_SECONDS = 10.0
MOST_SECONDS = 20.0  # for any server, also if its name is not resolved or it has many hosts
OVERLOAD = 4.0  # processes for each processor


class ApiProcesses(NamedTuple):
    """The API processes that should run on this machine: the pids of those that were started, and how many there should be."""

    pids: Collection[int]
    number: int


async def report(settings: Settings, *, api_state: Awaitable[str], api_processes: ApiProcesses | None = None) -> dict[str, Any]:
    """The status and what is wrong, as JSON of `status` and `findings`. The parameters are those of `collect`."""
    status = await collect(settings, api_state=api_state, api_processes=api_processes)
    return {"status": as_json(status), "findings": [asdict(finding) for finding in diagnose(status)]}


async def collect(
    settings: Settings, *, api_state: Awaitable[str], api_processes: ApiProcesses | None = None
) -> InstallationStatus:
    """Probes everything that Stint depends on, each for a few seconds at most. `api_state` returns the state of the API.
    `api_processes`: those of the `./stint up` that this machine runs, if the status is about it."""
    status = InstallationStatus()
    probes = {
        "Postgres": _read_database(settings, status),
        "RabbitMQ": rabbitmq.probe(settings.amqp_url),
        "API": api_state,
        "mail": mail.probe(settings.smtp_url.get_secret_value() if settings.smtp_url else None),
    }
    found = await asyncio.gather(*map(_in_time, probes.values()))
    status.servers = dict(zip(probes, found, strict=True)) | status.servers
    if not settings.amqp_url:
        status.servers["RabbitMQ"] = _reported_rabbitmq(status)
    if api_processes is not None and status.servers["API"] == status.servers["Postgres"] == "ok":
        status.servers["API"] = _count_api_processes(status, api_processes)
    status.overload = _overload(status)
    return status


async def _in_time(probe: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(MOST_SECONDS):
            return await probe
    except TimeoutError:
        return f"does not answer: {IN_TIME}"


def _reported_rabbitmq(status: InstallationStatus) -> str:
    """The state of RabbitMQ as the processes that use it report it, for a process without AMQP_URL, as an API may be."""
    users = [*status.alive("relay"), *status.alive("work")]
    without = InstallationStatus(processes=status.processes)
    return with_reports(without).get("RabbitMQ", "ok" if users else "not set")


def _overload(status: InstallationStatus) -> str:
    """How many processes there are for the processors of this host, if these are too few and a server is too late."""
    late = any(IN_TIME in state or "does not react" in state for state in status.servers.values())
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load < OVERLOAD * processors or not late:
        return ""
    return f"{load:,.0f} processes run or wait for {processors} {'processor' if processors == 1 else 'processors'}"


def _count_api_processes(status: InstallationStatus, expected: ApiProcesses) -> str:
    """Whether as many API processes serve as there should be."""
    own = {f"{socket.gethostname()}:{pid}" for pid in expected.pids}
    alive = sum(process.process in own for process in status.alive("api"))
    return "ok" if alive >= expected.number else api.too_few(alive, expected.number)


async def _read_database(settings: Settings, status: InstallationStatus) -> str:
    """Fills in what Postgres knows, and returns the state of Postgres itself."""
    problem: Failure | None = None
    try:
        async with asyncio.timeout(POSTGRES_SECONDS), await connect(settings) as conn:
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

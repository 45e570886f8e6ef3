"""Compares the clocks of processes, hosts and Postgres. Hours and tokens have the times of Postgres's clock; the other clocks
decide the times of logs, and which of Slack's signatures are too old."""

import time
from collections import defaultdict
from statistics import median

from schemas.outbox.heartbeats import Process
from schemas.postgres.connection import Connection

LIMIT_SECONDS = 10.0  # a difference up to this does no harm, and may be a slow answer


async def seconds_ahead(conn: Connection) -> float:
    """How far the clock of this process is ahead of Postgres's, in seconds."""
    before = time.time()
    now: float = await conn.value("SELECT extract(epoch FROM clock_timestamp())::float")
    return (before + time.time()) / 2 - now


def wrong_clocks(processes: list[Process], *, host: str, own_seconds: float) -> list[str]:
    """The names of the clocks that are off, each with its difference. `own_seconds`: of a process on this `host`."""
    by_host: dict[str, list[tuple[str, float]]] = defaultdict(list)
    by_host[host].append(("this command", own_seconds))
    for process in processes:
        if process.alive and process.clock_seconds is not None:
            name = f"the {process.kind} process {process.process}"
            by_host[process.process.rpartition(":")[0]].append((name, process.clock_seconds))
    of_host = {name: median(seconds for _, seconds in clocks) for name, clocks in by_host.items()}
    found = [
        f"{name} ({_difference(seconds)})"
        for host_name, clocks in by_host.items()
        for name, seconds in clocks
        if abs(seconds - of_host[host_name]) > LIMIT_SECONDS
    ]
    differences = of_host.values()
    if len(of_host) > 1 and min(map(abs, differences)) > LIMIT_SECONDS and max(differences) - min(differences) <= LIMIT_SECONDS:
        return [f"Postgres ({_difference(-median(differences), 'all hosts')})", *found]
    hosts = [f"the host {name} ({_difference(seconds)})" for name, seconds in of_host.items() if abs(seconds) > LIMIT_SECONDS]
    return [*hosts, *found]


def _difference(seconds: float, other: str = "Postgres") -> str:
    return f"{abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} {other}"

"""The resources of processes: memory, files, threads, sockets, and connections to the servers. A leak makes them grow.

    before = snapshot({"api": [pid], "work": [pid, pid]}, database_url=…, rabbitmq_pid=…)
    …                                                  # load, faults, and then rest: see `after_rest`
    assert compare(before, snapshot(…)) == []

Take the first snapshot after some load, never of processes that have just started: caches, pools, and the memory that Python
keeps for itself fill once.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg


@dataclass(frozen=True)
class Held:
    """The resources of one process. `private_kib` is memory that it shares with no other process, which a leak grows."""

    rss_kib: int
    private_kib: int
    fds: int
    threads: int
    sockets: int


@dataclass(frozen=True)
class Snapshot:
    """A snapshot: processes by name and pid, and the counts of the servers. `postgres` is by application_name."""

    processes: dict[str, dict[int, Held]]
    postgres: dict[str, int] = field(default_factory=dict)
    rabbitmq: dict[str, int] = field(default_factory=dict)  # connections, channels


@dataclass(frozen=True)
class Allowances:
    """The growth that is noise. For memory: that share, but at least the given size."""

    private_share: float = 0.15
    private_kib: int = 8 * 1024
    fds: int = 3
    threads: int = 1
    sockets: int = 3
    postgres: int = 2
    rabbitmq: int = 1


ALLOWANCES = Allowances()


def snapshot(
    pids: Mapping[str, Iterable[int]] | Iterable[int], *, database_url: str | None = None, rabbitmq_pid: int | None = None
) -> Snapshot:
    """What these processes hold now, named or not; one that is no more is left out. With the database's URL, connections to
    it; with RabbitMQ's process id, a node on this machine, its connections and channels."""
    named = pids if isinstance(pids, Mapping) else {"process": pids}
    found = {name: {pid: held for pid in some if (held := _held(pid)) is not None} for name, some in named.items()}
    return Snapshot(
        found,
        _postgres(database_url) if database_url is not None else {},
        _rabbitmq(rabbitmq_pid) if rabbitmq_pid is not None else {},
    )


def compare(before: Snapshot, after: Snapshot, allowances: Allowances = ALLOWANCES) -> list[str]:
    """A sentence for everything that is held more than before, beyond noise. Processes are compared with themselves, and those
    that were started since with the largest of their name: none of them may have outgrown all that there were."""
    said = []
    for name, processes in after.processes.items():
        known = before.processes.get(name, {})
        for pid, held in processes.items():
            reference = known.get(pid) or _largest(known.values())
            if reference is not None:
                said += [f"{name} {pid} {text}" for text in _more(reference, held, allowances)]
    said += _grown("Postgres has {} connections of {}", before.postgres, after.postgres, allowances.postgres)
    said += _grown("RabbitMQ has {} {}", before.rabbitmq, after.rabbitmq, allowances.rabbitmq)
    return said


def after_rest(
    before: Snapshot, look: Callable[[], Snapshot], allowances: Allowances = ALLOWANCES, *, seconds: float = 30
) -> list[str]:
    """What `compare` still says when the processes had that long to come to rest: pools shrink and connections lapse by
    themselves. Returns as soon as it says nothing."""
    end = time.monotonic() + seconds
    while (said := compare(before, look(), allowances)) and time.monotonic() < end:
        time.sleep(1)
    return said


def _more(before: Held, after: Held, allowances: Allowances) -> list[str]:
    said = []
    more_kib = after.private_kib - before.private_kib
    if more_kib > max(allowances.private_kib, before.private_kib * allowances.private_share):
        said.append(f"has {after.private_kib} KiB of its own, {more_kib} more")
    for what in ("fds", "threads", "sockets"):
        count, earlier = getattr(after, what), getattr(before, what)
        if count > earlier + getattr(allowances, what):
            said.append(f"has {count} {'open files' if what == 'fds' else what}, {count - earlier} more")
    return said


def _grown(text: str, before: Mapping[str, int], after: Mapping[str, int], allowed: int) -> list[str]:
    more = {what: count - before.get(what, 0) for what, count in after.items()}
    return [f"{text.format(after[what], what)}, {count} more" for what, count in more.items() if count > allowed]


def _largest(held: Iterable[Held]) -> Held | None:
    largest = None
    for one in held:
        values: dict[str, Any] = (
            {what: max(getattr(one, what), getattr(largest, what)) for what in vars(one)} if largest else {}
        )
        largest = replace(one, **values)
    return largest


def _held(pid: int) -> Held | None:
    process = Path(f"/proc/{pid}")
    try:
        status = _fields(process / "status")
        memory = _fields(process / "smaps_rollup")
        files = [_target(file) for file in (process / "fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return None
    if "VmRSS" not in status:  # ended, and not yet waited for
        return None
    return Held(
        rss_kib=status["VmRSS"],
        private_kib=memory["Private_Clean"] + memory["Private_Dirty"],
        fds=sum(target != "" for target in files),
        threads=status["Threads"],
        sockets=sum(target.startswith("socket:") for target in files),
    )


def _fields(file: Path) -> dict[str, int]:
    """The numbers of a file of `Name:  123 kB` lines."""
    words = [line.split() for line in file.read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) for line in words if len(line) >= 2 and line[1].isdigit()}


def _target(file: Path) -> str:
    try:
        return os.readlink(file)
    except FileNotFoundError:  # closed between listing and looking
        return ""


def _postgres(database_url: str) -> dict[str, int]:
    with psycopg.connect(database_url, autocommit=True, application_name="resources") as conn:
        return dict(
            conn.execute(
                """
                SELECT application_name, count(*)::int FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1
                """
            ).fetchall()
        )


_COUNT = """
    Node = list_to_atom(os:getenv("RABBITMQ_NODENAME")),
    Count = fun(Module, Function) -> length(rpc:call(Node, Module, Function, [])) end,
    io:format("~b ~b", [Count(rabbit_networking, local_connections), Count(rabbit_channel, list_local)]),
    halt().
"""


def _rabbitmq(pid: int) -> dict[str, int]:
    """Asked through Erlang itself, with the node's own environment: ten times as fast as rabbitmqctl."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    environment = dict(variable.split("=", 1) for variable in variables if "=" in variable)
    result = subprocess.run(
        [f"{environment['BINDIR']}/erlexec", "-noinput", "-hidden", "-sname", f"count{os.getpid()}@localhost", "-eval", _COUNT],
        env=environment, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    connections, channels = map(int, result.stdout.split())
    return {"connections": connections, "channels": channels}

"""Heartbeats of API processes, workers and relays, their clocks, and the metrics of handlers."""

import asyncio
import os
import socket
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from pydantic import Field

from schemas.base import Row
from schemas.postgres.connection import Connection, connect
from schemas.settings import Settings

EVERY_SECONDS = 5.0
ALIVE_SECONDS = 16.0  # three heartbeats
GOODBYE_SECONDS = 2.0  # how long a process that ends may take to record its end
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # upper bounds of the buckets, in seconds


@dataclass
class ActorMetrics:
    """Counts and durations of one actor's attempts since the last heartbeat."""

    handled: int = 0  # attempts that succeeded
    failed: int = 0
    seconds: float = 0.0  # of all attempts together
    buckets: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))  # buckets[i]: attempts of at most BOUNDS[i] seconds

    def add(self, seconds: float, *, succeeded: bool) -> None:
        """Counts one attempt."""
        self.handled += succeeded
        self.failed += not succeeded
        self.seconds += seconds
        for index, bound in enumerate(BOUNDS):
            self.buckets[index] += seconds <= bound

    def merge(self, other: "ActorMetrics") -> None:
        """Adds the other's counts."""
        self.handled += other.handled
        self.failed += other.failed
        self.seconds += other.seconds
        self.buckets = [ours + theirs for ours, theirs in zip(self.buckets, other.buckets, strict=True)]


class HandlerMetrics(defaultdict[str, ActorMetrics]):
    """The metrics of one process, by actor.

    Worker threads add to it without a lock. A race may lose a single attempt, which does not matter. `take` removes one actor
    after the other, so that no race loses the counts of a whole interval.
    """

    def __init__(self) -> None:
        super().__init__(ActorMetrics)

    def take(self) -> "HandlerMetrics":
        """Removes and returns all counts, to be added to the totals in Postgres."""
        taken = HandlerMetrics()
        taken.update({actor: self.pop(actor) for actor in list(self)})
        return taken

    def put_back(self, taken: "HandlerMetrics") -> None:
        """Adds counts that were taken but could not be stored."""
        for actor, metrics in taken.items():
            self[actor].merge(metrics)


class LateHandler(Row):
    """A handler that runs for longer than its deadline: its Python code blocks, so it cannot be cancelled."""

    actor: str
    message_id: UUID
    seconds: float  # since it was started


@dataclass(frozen=True)
class Report:
    """What a process has found, and adds to its heartbeat.

    - `other_queues`: a sentence for each queue that a relay would have declared differently.
    - `problems`: by server that the process cannot use, `code: details`. An example of RabbitMQ: `blocked: low on memory`. Of a
      worker whose queues RabbitMQ does not have, `queues`.
    - `late_handlers`: the handlers of a worker that run for longer than their deadlines.
    """

    other_queues: Sequence[str] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    late_handlers: Sequence[LateHandler] = ()


class Process(Row):
    """An API process, worker or relay, as of its last heartbeat. The last three fields are as in `Report`.

    A process is in one of these conditions:

    - `alive`: its last heartbeat is recent, and it has not ended.
    - `frozen`: it has sent no heartbeat for longer, but the connection of its heartbeats is open.
    - `gone`: it is neither alive nor frozen, has not recorded its end, and no other process has replaced it.
    - none of these: it has ended, or another process has replaced it.
    """

    process: str
    kind: str
    queues: list[str]
    started_at: datetime
    seen_at: datetime
    alive: bool
    silent_seconds: float = 0.0  # since its last heartbeat
    frozen: bool = False
    gone: bool = False
    clock_seconds: float | None = None  # how far its clock is ahead of Postgres's
    other_queues: tuple[str, ...] = ()
    problems: dict[str, str] = Field(default_factory=dict)
    late_handlers: tuple[LateHandler, ...] = ()

    @property
    def takes_messages(self) -> bool:
        """Whether a worker can take messages from RabbitMQ, as far as it knows."""
        return not self.problems.keys() & {"RabbitMQ", "queues"}

    @property
    def host(self) -> str:
        """The host that the process runs on."""
        return self.process.rpartition(":")[0]


def process_name() -> str:
    """The name of this process in failed attempts and heartbeats: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def beat(
    conn: Connection, *, process: str, kind: str, queues: list[str], started: float, report: Report | None = None
) -> None:
    """Records a heartbeat of this process. `started`: when the process started, by `time.monotonic()`.

    It also deletes the rows of processes that have sent no heartbeat for a day.
    """
    report = report or Report()
    await conn.execute(
        """
        INSERT INTO heartbeats AS h
            (process, kind, queues, started_at, seen_at, clock_seconds, backend_pid, other_queues, problems, late_handlers,
             ended_at)
        VALUES (%s, %s, %s, clock_timestamp() - make_interval(secs => %s), clock_timestamp(),
                %s - extract(epoch FROM clock_timestamp()), pg_backend_pid(), %s, %s, %s, 'infinity')
        ON CONFLICT (process) DO UPDATE
        SET kind = excluded.kind, queues = excluded.queues, started_at = excluded.started_at, seen_at = excluded.seen_at,
            clock_seconds = excluded.clock_seconds, backend_pid = excluded.backend_pid,
            other_queues = excluded.other_queues, problems = excluded.problems, late_handlers = excluded.late_handlers,
            ended_at = excluded.ended_at
        """,
        (
            process,
            kind,
            queues,
            time.monotonic() - started,
            time.time(),
            list(report.other_queues),
            Jsonb(dict(report.problems)),
            Jsonb([late.model_dump(mode="json", by_alias=False) for late in report.late_handlers]),
        ),
    )
    await conn.execute("DELETE FROM heartbeats WHERE seen_at < clock_timestamp() - interval '1 day'")


async def say_goodbye(settings: Settings) -> None:
    """Records that this process ends as it should.

    If Postgres does not answer within GOODBYE_SECONDS, nothing is recorded. Then the process counts as gone until another one
    replaces it.
    """
    with suppress(psycopg.Error, TimeoutError, OSError):
        async with asyncio.timeout(GOODBYE_SECONDS), await connect(settings) as conn:
            await conn.execute("UPDATE heartbeats SET ended_at = clock_timestamp() WHERE process = %s", (process_name(),))


async def add_totals(conn: Connection, metrics: HandlerMetrics) -> None:
    """Adds the metrics to the totals in Postgres."""
    for actor in sorted(metrics):  # always in the same order, because two workers in different orders could deadlock
        new = metrics[actor]
        await conn.execute(
            """
            INSERT INTO handler_totals AS t (actor, handled, failed, seconds, buckets) VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (actor) DO UPDATE
            SET handled = t.handled + excluded.handled, failed = t.failed + excluded.failed,
                seconds = t.seconds + excluded.seconds,
                buckets = (SELECT array_agg(a + b ORDER BY n)
                           FROM unnest(t.buckets, excluded.buckets) WITH ORDINALITY AS pairs (a, b, n))
            """,
            (actor, new.handled, new.failed, new.seconds, new.buckets),
        )


async def processes(conn: Connection) -> list[Process]:
    """All processes of the last day, those that are alive first."""
    found = await conn.all(
        """
        SELECT process, kind, queues, started_at, seen_at, silent_seconds, alive, clock_seconds, other_queues, problems,
               late_handlers, frozen,
               NOT alive AND NOT frozen AND ended_at IS NOT DISTINCT FROM 'infinity' AS gone
        FROM heartbeats h,
             LATERAL (SELECT extract(epoch FROM clock_timestamp() - seen_at)::float AS silent_seconds,
                             coalesce(ended_at >= seen_at AND ended_at <> 'infinity', false) AS ended) silence,
             LATERAL (SELECT silent_seconds < %s AND NOT ended AS alive) life,
             -- A process that has ended, or whose host is gone, has no connection. A backend with the same pid may be another
             -- one, of a later connection. Or it may be the session of a pooler, which clears it and gives it to others.
             LATERAL (SELECT NOT alive AND NOT ended AND EXISTS (
                   SELECT FROM pg_stat_activity a WHERE a.pid = h.backend_pid AND a.backend_start <= h.seen_at
                   AND a.query <> 'DISCARD ALL' AND a.state_change < h.seen_at + interval '15 seconds') AS frozen) ice
        ORDER BY alive DESC, kind, queues, process
        """,
        (ALIVE_SECONDS,),
        row=Process,
    )
    replaced = _replaced(found)
    return [each.model_copy(update={"gone": False}) if each.process in replaced else each for each in found]


def _replaced(processes: Sequence[Process]) -> set[str]:
    """The names of the gone processes that another process has replaced.

    A replacement is of the same kind, is for the same queues, and was started after the last heartbeat of the gone process. One
    on the same host is preferred. Each process replaces only one. A replacement may be gone itself, and have a replacement.
    """
    free, replaced = list(processes), set()
    # The latest is first. A process that was started after the latest heartbeat can replace any of the others, too.
    gone = sorted((each for each in processes if each.gone), key=lambda each: each.seen_at, reverse=True)
    for only_same_host in (True, False):
        for lost in gone:
            if lost.process not in replaced and (found := _replacement(lost, free, only_same_host)) is not None:
                free.remove(found)
                replaced.add(lost.process)
    return replaced


def _replacement(lost: Process, free: Sequence[Process], only_same_host: bool) -> Process | None:
    for each in free:
        if (each.kind, each.queues) == (lost.kind, lost.queues) and each.started_at > lost.seen_at:
            if each.host == lost.host or not only_same_host:
                return each
    return None

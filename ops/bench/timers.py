"""`start-stop`: timers started and stopped by several users at once, against bare inserts. `stop-bill`: how long a stop takes
to be on its bill, against a bare round trip through RabbitMQ."""

import http.client
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from ops.bench.load import Load, load, request
from ops.bench.pgbench import Pgbench
from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import Stage
from ops.errors import CommandError

TASKS_PER_USER = 4
SAMPLES = 210  # stops in all rounds together
PAUSE_SECONDS = 0.01  # between two, so that each is alone
POLL_SECONDS = 0.0002
TIMEOUT_SECONDS = 20

# One transaction with one row. The table has the columns, defaults, checks and indexes of time_entries, but no foreign keys and
# no trigger, and the statement reads nothing.
INSERT_TABLE = "CREATE TABLE bench_inserted (LIKE time_entries INCLUDING ALL)"
INSERT = """
INSERT INTO bench_inserted
    (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, notes, flags, bill_id, changed_xid)
VALUES (gen_random_uuid(), :task, :user, :customer, :pillar, date_trunc('second', now(), 'UTC'),
    date_trunc('second', now(), 'UTC'), current_date, '', '{}', :bill, pg_current_xact_id());
"""


def measure_start_stop(stage: Stage, plan: Plan) -> list[Line]:
    """Each user starts and stops one task after the other, while relay and workers create the entries."""
    clients = [_starts_and_stops(stage, number) for number in range(plan.clients)]
    stage.sql(INSERT_TABLE)
    names = ("task", "user", "customer", "pillar", "bill")
    row = stage.sql("SELECT task_id, user_id, customer_id, pillar_id, bill_id FROM time_entries LIMIT 1")[0]
    pgbench = Pgbench(stage, "insert", INSERT, dict(zip(names, row, strict=True)))
    loads: list[Load] = []

    def ours() -> float:
        loads.append(load(stage, stage.url, clients, seconds=plan.seconds))
        stage.drain()
        return loads[-1].per_second

    def baseline() -> float:
        return pgbench.per_second(clients=plan.clients, seconds=plan.seconds)

    our_figures, baseline_figures = alternate(stage.say, "start-stop", plan, ours, baseline)
    return [
        Line(
            "start-stop",
            Side("POST …/start and …/stop in turn, each a request", "requests/s", our_figures),
            Side("pgbench, one INSERT into a copy of time_entries per transaction", "requests/s", baseline_figures),
            Target(0.5, at_least=True),
            {
                "users": plan.clients,
                "p99_milliseconds": round(max(one.p99_milliseconds for one in loads), 1),
                "generator_cpu_microseconds_per_request": round(min(one.cpu_microseconds for one in loads), 1),
            },
        )
    ]


def measure_stop_bill(stage: Stage, plan: Plan) -> list[Line]:
    """Measures one stop at a time, from the request until another connection reads the entry, and therefore the bill, which is
    committed with it. The baseline is one publish until its confirm and the acknowledgement of its delivery."""
    stops = Stops(stage)
    count = max(5, round(SAMPLES * plan.share / plan.rounds))
    seen: tuple[list[float], list[float]] = ([], [])
    stops.milliseconds(3)  # the first ones connect and prepare

    def ours() -> float:
        return _median_of(seen[0], stops.milliseconds(count))

    def baseline() -> float:
        measured = stage.measure_module(
            "actors.runtime.bench_baseline", "round-trip", f"--count={count}", f"--pause={PAUSE_SECONDS}"
        )
        return _median_of(seen[1], measured["milliseconds"])

    our_figures, baseline_figures = alternate(stage.say, "stop-bill", plan, ours, baseline)
    stops.close()
    return [
        Line(
            "stop-bill",
            Side("a stop, from sending it until its entry and bill are committed, p50", "ms", our_figures),
            Side("pika: publish, confirm, deliver, acknowledge, p50", "ms", baseline_figures),
            Target(4, at_least=False),
            {
                "samples": len(seen[0]),
                "p50_milliseconds": round(statistics.median(seen[0]), 2),
                "p99_milliseconds": round(_p99(seen[0]), 2),
                "floor_p50_milliseconds": round(statistics.median(seen[1]), 2),
                "floor_p99_milliseconds": round(_p99(seen[1]), 2),
                "seen_by": f"a poll every {POLL_SECONDS * 1000:g} ms",
            },
        )
    ]


class Stops:
    """One user who starts and stops tasks repeatedly over one connection."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._connection = http.client.HTTPConnection(urlsplit(stage.url).netloc, timeout=30)
        self._token = stage.token("stops@bench.example")
        self._tasks = [str(task) for task in _tasks(stage)]

    def milliseconds(self, count: int) -> list[float]:
        return [self._one(self._tasks[number % len(self._tasks)]) for number in range(count)]

    def close(self) -> None:
        self._connection.close()

    def _one(self, task: str) -> float:
        self._send(f"/api/tasks/{task}/start")
        timer = UUID(self._read_answer()["id"])
        time.sleep(PAUSE_SECONDS)
        conn, started = self._stage.conn, time.perf_counter()
        self._send(f"/api/tasks/{task}/stop")
        while conn.execute("SELECT 1 FROM time_entries WHERE id = %s", (timer,), prepare=True).fetchone() is None:
            if time.perf_counter() - started > TIMEOUT_SECONDS:
                raise CommandError(f"the entry of a stop is missing after {TIMEOUT_SECONDS} s; see {self._stage.up.log}.")
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - started
        self._read_answer()
        return seconds * 1000

    def _send(self, path: str) -> None:
        self._connection.request("POST", path, headers={"Authorization": f"Bearer {self._token}"})

    def _read_answer(self) -> dict[str, Any]:
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise CommandError(f"a start or stop was answered with {answer.status}: {text[:300].decode(errors='replace')}")
        return dict(json.loads(text))


def _starts_and_stops(stage: Stage, number: int) -> list[str]:
    token = stage.token(f"timer{number}@bench.example")
    return [
        request("POST", f"/api/tasks/{task}/{verb}", token=token)
        for task in _tasks(stage, skip=number)
        for verb in ("start", "stop")
    ]


def _tasks(stage: Stage, *, skip: int = 0) -> list[UUID]:
    """Some open tasks, of different customers if there are enough."""
    rows = stage.sql(
        """
        SELECT id FROM (SELECT DISTINCT ON (customer_id) id FROM tasks WHERE status <> 'archived' AND deleted_at IS NULL
                        ORDER BY customer_id, id) AS one
        ORDER BY id
        """
    )
    return [rows[(skip + step) % len(rows)][0] for step in range(TASKS_PER_USER)]


def _median_of(all_rounds: list[float], this_round: Sequence[float]) -> float:
    all_rounds += this_round
    return statistics.median(this_round)


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


START_STOP = Comparison("start-stop", "timers started and stopped by several users, against bare inserts", measure_start_stop)
STOP_BILL = Comparison("stop-bill", "from a stop to its bill, against a round trip through RabbitMQ", measure_stop_bill)

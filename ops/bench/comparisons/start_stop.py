"""`start-stop`: timers started and stopped by many users, against the peer. `stop-bill`: how long it takes until a stop is on
its bill, against a bare round trip through RabbitMQ."""

import http.client
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from ops.bench.load import Server, request
from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import API_PROCESSES, USERS, Stage
from ops.errors import CommandError

TASKS_PER_USER = 4
MS_A_PAIR = "ms of CPU a pair"
SAMPLES = 210  # stops in all rounds together
PAUSE_SECONDS = 0.01  # between two, so that each is alone
POLL_SECONDS = 0.0002
TIMEOUT_SECONDS = 20

WHAT = "POST …/start and …/stop in turn by 100 users, each a request, while relay and workers make the entries"
PEER = "the same of the peer, whose stop makes entry and bill in its own transaction"


def measure_start_stop(stage: Stage, plan: Plan) -> list[Line]:
    """The users start and stop one task after the other, over as many connections as there are clients. The CPU time is that of
    a pair, with all that follows from it."""
    clients = starts_and_stops(stage, clients=plan.clients)
    ours = Server(stage, stage.url, clients, stage.processes(), per=2, drain=stage.drain)
    sides: dict[str, Callable[[], float]] = {"Stint": lambda: ours.per_second(plan.seconds)}
    peer = Server(stage, stage.peer_url, clients, stage.peer_processes(), per=2) if stage.peer else None
    if peer:
        sides["the peer"] = lambda: peer.per_second(plan.seconds)
    figures = alternate(stage.say, "start-stop", plan, sides)
    notes = {"users": USERS, "connections": plan.clients, "processes_of_each_api": API_PROCESSES}
    return [
        Line(
            "start-stop",
            ours.rates(WHAT, figures["Stint"]),
            peer.rates(PEER, figures["the peer"]) if peer else None,
            Target(0.95, at_least=True),
            notes | ours.notes(),
        ),
        Line(
            "start-stop, CPU",
            ours.costs("CPU time of all processes for a start and its stop, until entry and bill are committed", MS_A_PAIR),
            peer.costs("the same of the peer", MS_A_PAIR) if peer else None,
            Target(1.3, at_least=False),
        ),
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

    figures = alternate(stage.say, "stop-bill", plan, {"Stint": ours, "RabbitMQ": baseline})
    stops.close()
    return [
        Line(
            "stop-bill",
            Side("a stop, from sending it until its entry and bill are committed, p50", "ms", figures["Stint"]),
            Side("pika: publish, confirm, deliver, acknowledge, p50", "ms", figures["RabbitMQ"]),
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


def starts_and_stops(stage: Stage, *, clients: int) -> list[list[str]]:
    """The requests of each client: each of its users starts and stops a task, then each of them the next task."""
    tasks = [_tasks(stage, skip=number) for number in range(USERS)]
    return [
        [
            request("POST", f"/api/tasks/{tasks[number][step]}/{verb}", token=stage.tokens[number])
            for step in range(TASKS_PER_USER)
            for number in range(client, USERS, clients)
            for verb in ("start", "stop")
        ]
        for client in range(clients)
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


START_STOP = Comparison(
    "start-stop",
    "timers started and stopped by 100 users, against the peer",
    ("start-stop", "start-stop, CPU"),
    measure_start_stop,
    uses_peer=True,
)
STOP_BILL = Comparison(
    "stop-bill", "from a stop to its bill, against a round trip through RabbitMQ", ("stop-bill",), measure_stop_bill
)

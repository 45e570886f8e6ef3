"""`stop-bill`: how long it takes until a stop is on its bill, against a bare round trip through RabbitMQ."""

import http.client
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from ops.bench.comparisons.start_stop import open_tasks
from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import Stage
from ops.errors import CommandError

SAMPLES = 210  # stops in all rounds together
PAUSE_SECONDS = 0.01  # between two, so that each is alone
SETTLED_SECONDS = 0.08  # after a stop, before its message is read: nothing else is asked in the meantime
TIMEOUT_SECONDS = 20


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """Measures one stop at a time, from the request until its entry and bill are committed. `messages.done_at` is Postgres's
    clock in the worker's transaction, after entry and bill and before the COMMIT. The COMMIT is added: the time of one of the
    measurement's own, right afterwards. The baseline is one publish until its confirm and the acknowledgement of its
    delivery."""
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
                "p99_milliseconds": round(_p99(seen[0]), 2),
                "of_it_the_commit": round(statistics.median(stops.commits), 2),
                "baseline_p99_milliseconds": round(_p99(seen[1]), 2),
            },
        )
    ]


class Stops:
    """One user who starts and stops tasks repeatedly over one connection."""

    def __init__(self, stage: Stage) -> None:
        self.commits: list[float] = []  # milliseconds
        self._stage = stage
        self._connection = http.client.HTTPConnection(urlsplit(stage.url).netloc, timeout=30)
        self._token = stage.tokens[0]
        self._tasks = [str(task) for task in open_tasks(stage)]

    def milliseconds(self, count: int) -> list[float]:
        return [self._one(self._tasks[number % len(self._tasks)]) for number in range(count)]

    def close(self) -> None:
        self._connection.close()

    def _one(self, task: str) -> float:
        self._send(f"/api/tasks/{task}/start")
        timer = UUID(self._read_answer()["id"])
        time.sleep(PAUSE_SECONDS)
        sent_at = time.time()  # the clock of Postgres, which runs on this machine
        self._send(f"/api/tasks/{task}/stop")
        self._read_answer()
        done_at = self._done_at(timer)
        self.commits.append(self._commit())
        return (done_at - sent_at) * 1000 + self.commits[-1]

    def _done_at(self, timer: UUID) -> float:
        """When the message of the timer's stop was done, in seconds since 1970."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            time.sleep(SETTLED_SECONDS)
            found = self._stage.sql(
                "SELECT extract(epoch FROM m.done_at)::float FROM stops s JOIN messages m ON m.id = s.message_id"
                " WHERE s.entry_id = %s AND m.state = 'done'",
                (timer,),
            )
            if found:
                return float(found[0][0])
        raise CommandError(f"the entry of a stop is missing after {TIMEOUT_SECONDS} s; see {self._stage.up.log}.")

    def _commit(self) -> float:
        """Milliseconds of a transaction of its own that writes little and is committed durably."""
        conn = self._stage.conn
        conn.execute("BEGIN")
        conn.execute("SELECT pg_logical_emit_message(true, 'bench', '')")
        started = time.perf_counter()
        conn.execute("COMMIT")
        return (time.perf_counter() - started) * 1000

    def _send(self, path: str) -> None:
        self._connection.request("POST", path, headers={"Authorization": f"Bearer {self._token}"})

    def _read_answer(self) -> dict[str, Any]:
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise CommandError(f"a start or stop was answered with {answer.status}: {text[:300].decode(errors='replace')}")
        return dict(json.loads(text))


def _median_of(all_rounds: list[float], this_round: Sequence[float]) -> float:
    all_rounds += this_round
    return statistics.median(this_round)


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


COMPARISON = Comparison("stop-bill", "from a stop to its bill, against a round trip through RabbitMQ", ("stop-bill",), measure)

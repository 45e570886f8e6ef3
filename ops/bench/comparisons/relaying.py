"""`relay`: how fast the relay publishes a backlog to RabbitMQ, against publishing the same number of bare messages."""

import json
import statistics
import time

from ops.bench.cpu import Processes, milliseconds
from ops.bench.installation import Module
from ops.bench.rounds import Comparison, Line, Plan, Side, Target, alternate
from ops.bench.stage import Stage
from ops.errors import CommandError
from schemas.messages import RecomputeBills

MESSAGES = 10_000
QUEUE = RecomputeBills.queue
TIMEOUT_SECONDS = 120


def measure(stage: Stage, plan: Plan) -> list[Line]:
    """Measures a backlog on one queue. No workers run: a sink takes the references and marks their rows done in batches,
    because the relay limits the messages in flight of each queue. Claim, commit, publish and confirm are the relay's own."""
    stage.up.stop()
    relay = stage.keep_running(stage.child("relay", "actors", "relay"))
    count = max(200, round(MESSAGES * plan.share))
    one_by_one: list[float] = []

    processes = Processes(lambda: {"relay": relay.pids, "rabbitmq": stage.servers.rabbitmq.pids})
    cpu: list[dict[str, float]] = []

    def ours() -> float:
        before = processes.read()
        seconds = _seconds_of_relaying(stage, count)
        cpu.append(milliseconds(before, processes.read(), count=count))
        return count / seconds

    def baseline() -> float:
        slow = stage.measure_module("actors.runtime.bench_baseline", "publish", f"--count={count // 10}", "--window=1")
        one_by_one.append(slow["messages"] / slow["seconds"])
        fast = stage.measure_module("actors.runtime.bench_baseline", "publish", f"--count={count}")
        return float(fast["messages"] / fast["seconds"])

    _seconds_of_relaying(stage, 100)  # without measuring: the relay connects and declares its queues
    figures = alternate(stage.say, "relay", plan, {"Stint": ours, "pika": baseline})
    relay.stop()
    what = f"{count:,} messages due on one queue, until the last is delivered to a sink"
    spent = {kind: statistics.median(one[kind] for one in cpu) for kind in cpu[0]}
    side = Side(what, "messages/s", figures["Stint"], spent)
    pipelined = Side("pika: publish, 500 unconfirmed at most, until the last confirm", "messages/s", figures["pika"])
    single = Side("pika: publish, wait for its confirm, publish the next", "messages/s", one_by_one)
    return [
        Line("relay", side, single, Target(5_000, at_least=True, of_ours=True), {"messages": count}),
        Line("relay, pipelined", side, pipelined, Target(0.3, at_least=True), {"messages": count}),
    ]


def _seconds_of_relaying(stage: Stage, count: int) -> float:
    sink = stage.child("sink", "actors.runtime.bench_baseline", "sink", f"--queue={QUEUE}", f"--count={count}")
    sink.log.unlink(missing_ok=True)
    sink.start()
    try:
        _wait_for(sink, "consuming")
        started = _put_backlog(stage, count)
        _wait_for(sink, "last_at")
    finally:
        sink.stop()
    return float(json.loads(sink.log.read_text().splitlines()[-1])["last_at"]) - started


def _put_backlog(stage: Stage, count: int) -> float:
    """Enqueues `count` due messages in one transaction, and wakes the relay. Returns the time just before the commit."""
    bill_id = stage.value("SELECT id FROM time_bills LIMIT 1")
    message = RecomputeBills(bill_ids=(bill_id,))
    with stage.conn.transaction():
        stage.sql(
            """
            INSERT INTO messages (id, actor, queue, body, max_attempts)
            SELECT gen_random_uuid(), %s, %s, %s, %s FROM generate_series(1, %s)
            """,
            (message.actor, message.queue, message.model_dump_json(), message.max_attempts, count),
        )
        stage.sql("SELECT pg_notify('stint_ready', '')")
        started = time.time()
    return started


def _wait_for(sink: Module, word: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while word not in sink.log.read_text():
        if time.monotonic() > deadline or not sink.is_running():
            raise CommandError(f"the relay has not published its backlog: {sink.last_lines()}")
        time.sleep(0.02)


COMPARISON = Comparison(
    "relay",
    "a backlog published to RabbitMQ, against publishing bare messages",
    ("relay", "relay, pipelined"),
    measure,
)

"""Metrics of the outbox: messages by queue and state, processes, handlers, dead letters, replays.

`queue_depths` and `totals` return models, for pages and commands. `metrics` returns the text that Prometheus reads.
"""

from collections import Counter

from schemas.base import Row
from schemas.messages import MODELS, QUEUES
from schemas.outbox import heartbeats
from schemas.outbox.dead_letters import replays
from schemas.outbox.heartbeats import BOUNDS
from schemas.postgres.connection import Connection

# By state: the time from which a message of this state has waited.
_DUE = "greatest(available_at, created_at)"
_SINCE = {"ready": _DUE, "sent": _DUE, "calling": _DUE, "dead": "died_at"}
# By state: a SELECT of queue, state, number of messages, and age of the oldest in seconds. Each state has a SELECT of its own,
# so that it uses the partial index of this state. None reads the messages that are done.
_BY_STATE = {
    state: f"""
    SELECT queue, state, count(*), greatest(extract(epoch FROM clock_timestamp() - min({since})), 0)::float
    FROM messages WHERE state = '{state}' GROUP BY queue, state
    """
    for state, since in _SINCE.items()
}
# The same for `ready`, but it counts at most `most` messages of each queue. The recursive query finds each queue by one look-up
# in the index. The age is that of the oldest of the 100 messages with the earliest `available_at`. One message is not enough:
# with a priority, `available_at` is before `created_at`, so the first message of the index may not be the oldest.
_AT_MOST = f"""
    SELECT q.queue, 'ready', (
               SELECT count(*) FROM (
                   SELECT FROM messages m WHERE m.state = 'ready' AND m.queue = q.queue ORDER BY m.available_at LIMIT %(most)s
               ) counted
           ), (
               SELECT greatest(extract(epoch FROM clock_timestamp() - min({_DUE})), 0)::float FROM (
                   SELECT available_at, created_at FROM messages
                   WHERE state = 'ready' AND queue = q.queue ORDER BY available_at LIMIT 100
               ) earliest
           )
    FROM (
        WITH RECURSIVE queues AS (
            (SELECT queue FROM messages WHERE state = 'ready' ORDER BY queue LIMIT 1)
            UNION ALL
            SELECT (SELECT queue FROM messages WHERE state = 'ready' AND queue > before.queue ORDER BY queue LIMIT 1)
            FROM queues before WHERE before.queue IS NOT NULL
        )
        SELECT queue FROM queues WHERE queue IS NOT NULL
    ) q
"""


class OldestSeconds(Row):
    """The age of the oldest message of a queue in each state, in seconds. 0: there is no such message.

    In `ready`, `sent` and `calling` it is the time since the message was due. In `dead` it is the time since the message failed
    permanently.
    """

    ready: float = 0.0
    sent: float = 0.0
    calling: float = 0.0
    dead: float = 0.0

    @property
    def unfinished(self) -> float:
        """The seconds for which the oldest message has been due that is neither done nor dead."""
        return max(self.ready, self.sent, self.calling)


class QueueDepth(Row):
    """The number of messages of one queue in each state, without those that are done.

    `oldest_due_seconds` is `oldest_seconds.unfinished`.
    """

    name: str
    ready: int = 0
    sent: int = 0
    calling: int = 0
    dead: int = 0
    oldest_due_seconds: float = 0.0
    oldest_seconds: OldestSeconds = OldestSeconds()


class ActorTotals(Row):
    """The attempts of one actor since the installation was created."""

    actor: str
    handled: int
    failed: int
    seconds: float
    buckets: list[int]  # buckets[i]: the attempts that took at most heartbeats.BOUNDS[i] seconds


async def queue_depths(conn: Connection, *, most_ready: int | None = None) -> list[QueueDepth]:
    """The depths of all queues that Stint has, and of any other queue that has messages.

    `most_ready` limits how many `ready` messages of each queue are counted. None: all are counted.
    """
    selects = _BY_STATE if most_ready is None else _BY_STATE | {"ready": _AT_MOST}
    # by queue, then by state
    counts: dict[str, dict[str, int]] = {name: {} for name in QUEUES}
    ages: dict[str, dict[str, float]] = {name: {} for name in QUEUES}
    for name, state, count, seconds in await conn.all(" UNION ALL ".join(selects.values()), {"most": most_ready}):
        counts.setdefault(name, {})[state] = count
        ages.setdefault(name, {})[state] = seconds
    return [_depth(name, counts[name], ages[name]) for name in counts]


def _depth(name: str, counts: dict[str, int], ages: dict[str, float]) -> QueueDepth:
    oldest = OldestSeconds(**ages)
    return QueueDepth(name=name, oldest_due_seconds=oldest.unfinished, oldest_seconds=oldest, **counts)


async def totals(conn: Connection) -> list[ActorTotals]:
    """The totals of each actor that has handled a message."""
    return await conn.all("SELECT actor, handled, failed, seconds, buckets FROM handler_totals ORDER BY actor", row=ActorTotals)


async def metrics(conn: Connection) -> list[str]:
    """All metrics of this module, as lines in Prometheus's text format."""
    parts = [await part(conn) for part in (_queues, _processes, _handlers, _dead_letters, _others)]
    return [line for lines in parts for line in lines]


async def _queues(conn: Connection) -> list[str]:
    depths = await queue_depths(conn)
    each = [(queue, state, f'queue="{queue.name}",state="{state}"') for queue in depths for state in _SINCE]
    return [
        "# TYPE stint_messages gauge",
        *(f"stint_messages{{{labels}}} {getattr(queue, state)}" for queue, state, labels in each),
        "# TYPE stint_oldest_seconds gauge",
        *(f"stint_oldest_seconds{{{labels}}} {getattr(queue.oldest_seconds, state):.3f}" for queue, state, labels in each),
        "# TYPE stint_oldest_due_seconds gauge",
        *(f'stint_oldest_due_seconds{{queue="{queue.name}"}} {queue.oldest_due_seconds:.3f}' for queue in depths),
    ]


async def _processes(conn: Connection) -> list[str]:
    """The numbers of processes that are alive, frozen or gone.

    Those that are alive report two things: servers that they cannot use, and handlers that do not end. Both are counted, too.
    """
    processes = await heartbeats.processes(conn)
    alive = [process for process in processes if process.alive]
    kinds = Counter(process.kind for process in alive)
    frozen = Counter(process.kind for process in processes if process.frozen)
    gone = Counter(process.kind for process in processes if process.gone)
    queues: Counter[str] = Counter()
    waiting: Counter[str] = Counter()  # by queue: workers that cannot use RabbitMQ
    problems: Counter[tuple[str, str]] = Counter()  # by server and code of the problem
    late: Counter[str] = Counter()  # by actor
    for process in alive:
        if process.takes_messages:
            queues.update(process.queues)
        elif "RabbitMQ" in process.problems:
            waiting.update(process.queues)
        late.update(handler.actor for handler in process.late_handlers)
        for server, text in process.problems.items():
            code = text.partition(":")[0]  # without the details after the colon: they may contain a server's answer
            problems[server, code] += 1
    return [
        "# TYPE stint_alive gauge",
        *(f'stint_alive{{kind="{kind}"}} {kinds[kind]}' for kind in ("api", "relay")),
        *(f'stint_alive{{kind="work",queue="{queue}"}} {queues[queue]}' for queue in QUEUES),
        "# TYPE stint_workers_waiting gauge",
        *(f'stint_workers_waiting{{queue="{queue}"}} {waiting[queue]}' for queue in QUEUES),
        "# TYPE stint_frozen gauge",
        *(f'stint_frozen{{kind="{kind}"}} {frozen[kind]}' for kind in ("api", "relay", "work")),
        "# TYPE stint_gone gauge",
        *(f'stint_gone{{kind="{kind}"}} {gone[kind]}' for kind in ("api", "relay", "work")),
        "# TYPE stint_server_problems gauge",
        *(f'stint_server_problems{{server="{name}",problem="{code}"}} {count}' for (name, code), count in problems.items()),
        "# TYPE stint_late_handlers gauge",
        *(f'stint_late_handlers{{actor="{actor}"}} {count}' for actor, count in late.items()),
    ]


async def _handlers(conn: Connection) -> list[str]:
    lines = ["# TYPE stint_handler_seconds histogram", "# TYPE stint_attempts_failed_total counter"]
    found = await totals(conn)
    # An actor that has handled nothing has the value 0: Prometheus does not count an increase before a counter's first value.
    unused = MODELS.keys() - {actor.actor for actor in found}
    lines += [f'stint_attempts_failed_total{{actor="{name}"}} 0' for name in sorted(unused)]
    for actor in found:
        count = actor.handled + actor.failed
        label = f'actor="{actor.actor}"'
        for bound, at_most in zip(BOUNDS, actor.buckets, strict=True):
            lines.append(f'stint_handler_seconds_bucket{{{label},le="{bound}"}} {at_most}')
        lines.append(f'stint_handler_seconds_bucket{{{label},le="+Inf"}} {count}')
        lines.append(f"stint_handler_seconds_count{{{label}}} {count}")
        lines.append(f"stint_handler_seconds_sum{{{label}}} {actor.seconds:.6f}")
        lines.append(f"stint_attempts_failed_total{{{label}}} {actor.failed}")
    return lines


async def _dead_letters(conn: Connection) -> list[str]:
    lines = [
        "# TYPE stint_dead_letters gauge",
        "# TYPE stint_unrecognized_messages gauge",
        "# TYPE stint_replayed_total counter",
    ]
    dead = await conn.all("SELECT actor, count(*) FROM messages WHERE state = 'dead' GROUP BY actor ORDER BY actor")
    lines += [f'stint_dead_letters{{actor="{actor}"}} {count}' for actor, count in dead]
    unrecognized = await conn.value("SELECT count(*) FROM unrecognized_messages WHERE discarded_at IS NULL")
    lines.append(f"stint_unrecognized_messages {unrecognized}")
    outcomes = dict.fromkeys(("succeeded", "failed", "skipped"), 0) | await replays.outcomes(conn)
    lines += [f'stint_replayed_total{{outcome="{outcome}"}} {count}' for outcome, count in outcomes.items()]
    return lines


async def _others(conn: Connection) -> list[str]:
    """Metrics of tables that belong to other packages."""
    age, failing = await conn.one(
        "SELECT extract(epoch FROM clock_timestamp() - read_at)::float, (error IS NOT NULL)::int FROM user_pool_readings"
    )  # schemas/identity/user_pool.py
    return [
        "# TYPE stint_user_pool_failing gauge",
        f"stint_user_pool_failing {failing}",
        "# TYPE stint_user_pool_read_age_seconds gauge",
        *([] if age is None else [f"stint_user_pool_read_age_seconds {age:.1f}"]),
    ]

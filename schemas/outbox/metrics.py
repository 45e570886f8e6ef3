"""Metrics of the outbox, for Prometheus and for people: messages by queue and state, handlers, dead letters, replays."""

from schemas.base import Row
from schemas.messages import QUEUES
from schemas.outbox import heartbeats
from schemas.outbox.dead_letters import replays
from schemas.outbox.heartbeats import BOUNDS
from schemas.postgres.connection import Connection

# One SELECT per state, so that each uses its own partial index and none reads the messages that are done.
_BY_STATE = " UNION ALL ".join(
    f"""
    SELECT queue, state, count(*),
           coalesce(extract(epoch FROM max(clock_timestamp() - greatest(available_at, created_at))), 0)::float
    FROM messages WHERE state = '{state}' GROUP BY queue, state
    """
    for state in ("ready", "sent", "calling", "dead")
)


class QueueDepth(Row):
    """The messages of one queue that are not done."""

    name: str
    ready: int = 0
    sent: int = 0
    calling: int = 0
    dead: int = 0
    oldest_due_seconds: float = 0.0  # how long the oldest message that is due has been waiting


class ActorTotals(Row):
    """The attempts of one actor since the installation was created."""

    actor: str
    handled: int
    failed: int
    seconds: float
    buckets: list[int]  # attempts that took at most that long, by heartbeats.BOUNDS


async def queue_depths(conn: Connection) -> list[QueueDepth]:
    """All queues, and any other queue that has messages."""
    found: dict[str, dict[str, float]] = {name: {} for name in QUEUES}
    for name, state, count, waited_seconds in await conn.all(_BY_STATE):
        queue = found.setdefault(name, {})
        queue[state] = count
        if state == "ready":
            queue["oldest_due_seconds"] = max(0.0, waited_seconds)
    return [QueueDepth.model_validate({"name": name, **counts}) for name, counts in found.items()]


async def totals(conn: Connection) -> list[ActorTotals]:
    """The totals of each actor that has handled a message."""
    return await conn.all("SELECT actor, handled, failed, seconds, buckets FROM handler_totals ORDER BY actor", row=ActorTotals)


async def metrics(conn: Connection) -> list[str]:
    """All metrics of this module, as lines in Prometheus's text format."""
    lines = ["# TYPE stint_messages gauge", "# TYPE stint_oldest_due_seconds gauge"]
    for queue in await queue_depths(conn):
        for state in ("ready", "sent", "calling", "dead"):
            lines.append(f'stint_messages{{queue="{queue.name}",state="{state}"}} {getattr(queue, state)}')
        lines.append(f'stint_oldest_due_seconds{{queue="{queue.name}"}} {queue.oldest_due_seconds:.3f}')
    return lines + await _handlers(conn) + await _dead_letters(conn)


async def _handlers(conn: Connection) -> list[str]:
    lines = ["# TYPE stint_handler_seconds histogram", "# TYPE stint_attempts_failed_total counter"]
    for actor in await totals(conn):
        count, label = actor.handled + actor.failed, f'actor="{actor.actor}"'
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
    outcomes = await replays.outcomes(conn)
    lines += [f'stint_replayed_total{{outcome="{outcome}"}} {count}' for outcome, count in outcomes.items()]
    # SQL may read the tables of any package: schemas/identity/user_pool.py
    lines.append("# TYPE stint_user_pool_read_age_seconds gauge")
    age = await conn.value("SELECT extract(epoch FROM clock_timestamp() - read_at)::float FROM user_pool_readings")
    if age is not None:
        lines.append(f"stint_user_pool_read_age_seconds {age:.1f}")
    # and of schemas/slack/access/loss.py
    lines.append("# TYPE stint_slack_access_lost gauge")
    for problem, needed in await conn.all("SELECT DISTINCT problem, needed FROM slack_access_losses ORDER BY problem, needed"):
        lines.append(f'stint_slack_access_lost{{problem="{problem}",needed="{needed}"}} 1')
    alive = [process.kind for process in await heartbeats.processes(conn) if process.alive]
    lines += ["# TYPE stint_alive gauge", *(f'stint_alive{{kind="{kind}"}} {alive.count(kind)}' for kind in ("relay", "work"))]
    return lines

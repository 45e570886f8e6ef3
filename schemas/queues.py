"""How the ledger stands, for metrics and for people: messages by queue and state, what handlers did, how replays went."""

from schemas import heartbeats, replays
from schemas.base import Row
from schemas.database import Connection
from schemas.heartbeats import BOUNDS
from schemas.messages import QUEUES

# one branch a state, so that each reads its own partial index and none the done ones
_BY_STATE = " UNION ALL ".join(
    f"""
    SELECT queue, state, count(*),
           coalesce(extract(epoch FROM max(clock_timestamp() - greatest(available_at, created_at))), 0)::float
    FROM messages WHERE state = '{state}' GROUP BY queue, state
    """
    for state in ("ready", "sent", "calling", "dead")
)


class Queue(Row):
    """The messages of one queue that are not done."""

    name: str
    ready: int = 0
    sent: int = 0
    calling: int = 0
    dead: int = 0
    oldest_due_seconds: float = 0.0  # how long the oldest one that could be handled has waited


class ActorTotals(Row):
    """What the handler of one actor did, since ever."""

    actor: str
    handled: int
    failed: int
    seconds: float
    buckets: list[int]  # attempts that took at most so long, by heartbeats.BOUNDS


async def read(conn: Connection) -> list[Queue]:
    """Every queue there is, and any other that has messages."""
    cursor = await conn.execute(_BY_STATE.encode())
    found: dict[str, dict[str, float]] = {name: {} for name in QUEUES}
    for name, state, count, waited in await cursor.fetchall():
        queue = found.setdefault(name, {})
        queue[state] = count
        if state == "ready":
            queue["oldest_due_seconds"] = max(0.0, waited)
    return [Queue.model_validate({"name": name, **counts}) for name, counts in found.items()]


async def totals(conn: Connection) -> list[ActorTotals]:
    """What each actor's handler did."""
    cursor = await conn.execute("SELECT actor, handled, failed, seconds, buckets FROM handler_totals ORDER BY actor")
    return [ActorTotals(**dict(zip(ActorTotals.model_fields, row, strict=True))) for row in await cursor.fetchall()]


async def metrics(conn: Connection) -> list[str]:
    """All of it as Prometheus reads it."""
    lines = ["# TYPE stint_messages gauge", "# TYPE stint_oldest_due_seconds gauge"]
    for queue in await read(conn):
        for state in ("ready", "sent", "calling", "dead"):
            lines.append(f'stint_messages{{queue="{queue.name}",state="{state}"}} {getattr(queue, state)}')
        lines.append(f'stint_oldest_due_seconds{{queue="{queue.name}"}} {queue.oldest_due_seconds:.3f}')
    return lines + await _handlers(conn) + await _letters(conn)


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


async def _letters(conn: Connection) -> list[str]:
    lines = ["# TYPE stint_dead_letters gauge", "# TYPE stint_foreign_letters gauge", "# TYPE stint_replayed_total counter"]
    cursor = await conn.execute("SELECT actor, count(*) FROM messages WHERE state = 'dead' GROUP BY actor ORDER BY actor")
    lines += [f'stint_dead_letters{{actor="{actor}"}} {count}' for actor, count in await cursor.fetchall()]
    cursor = await conn.execute("SELECT count(*) FROM foreign_letters WHERE discarded_at IS NULL")
    lines += [f"stint_foreign_letters {count}" for (count,) in await cursor.fetchall()]
    became = await replays.outcomes(conn)
    lines += [f'stint_replayed_total{{outcome="{outcome}"}} {count}' for outcome, count in became.items()]
    alive = [process.kind for process in await heartbeats.processes(conn) if process.alive]
    lines += ["# TYPE stint_alive gauge", *(f'stint_alive{{kind="{kind}"}} {alive.count(kind)}' for kind in ("relay", "work"))]
    return lines

"""Queues as they are now, and samples of them: one each 30 seconds, recorded by whichever relay is first, and kept for a day.

Only indexes of messages that are not done are read, so it takes as long with a million messages that are done as with none.
"""

from collections import defaultdict
from datetime import datetime
from typing import Any

from schemas.base import Row
from schemas.messages import MODELS, QUEUES
from schemas.outbox import metrics
from schemas.outbox.metrics import QueueDepth
from schemas.postgres.connection import Connection

EVERY_SECONDS = 30
# the page counts no further, and shows the number of the last sample if that is higher
MOST_COUNTED = 10_000
# now() and not clock_timestamp(), which cannot be a condition of an index. Each count is in the order of its index: without an
# order, a plan that expects as many messages of each queue reads the whole table for a queue that has none.
_PRESENT = """
    WITH calling AS (
        SELECT queue, count(*) AS count, min(greatest(available_at, created_at)) AS due_at
        FROM messages WHERE state = 'calling' GROUP BY queue
    ), ready AS (  -- read if all are counted: once, and not for each queue
        SELECT queue,
               count(*) FILTER (WHERE available_at <= now()) AS waiting, count(*) FILTER (WHERE available_at > now()) AS later
        FROM messages WHERE state = 'ready' GROUP BY queue
    ), handled AS (
        SELECT a.queue, sum(t.handled)::bigint AS count
        FROM handler_totals t JOIN unnest(%(actors)s::text[], %(queues)s::text[]) AS a (actor, queue) ON a.actor = t.actor
        GROUP BY a.queue
    )
    SELECT now() AS at, q.name AS queue,
           CASE WHEN %(most)s::bigint IS NULL THEN coalesce((SELECT r.waiting FROM ready r WHERE r.queue = q.name), 0) ELSE
           (SELECT count(*) FROM (
               SELECT FROM messages m WHERE m.state = 'ready' AND m.queue = q.name AND m.available_at <= now()
               ORDER BY m.available_at LIMIT %(most)s
           ) due) END AS waiting,
           CASE WHEN %(most)s::bigint IS NULL THEN coalesce((SELECT r.later FROM ready r WHERE r.queue = q.name), 0) ELSE
           (SELECT count(*) FROM (
               SELECT FROM messages m WHERE m.state = 'ready' AND m.queue = q.name AND m.available_at > now()
               ORDER BY m.available_at LIMIT %(most)s
           ) later) END AS later,
           (SELECT count(*) FROM (
               SELECT FROM messages m WHERE m.state = 'sent' AND m.queue = q.name ORDER BY m.sent_at LIMIT %(most)s
           ) sent) + coalesce(c.count, 0) AS running,
           (SELECT count(*) FROM (
               SELECT FROM messages m WHERE m.state = 'dead' AND m.queue = q.name ORDER BY m.died_at LIMIT %(most)s
           ) dead) AS dead,
           coalesce(h.count, 0) AS handled,
           coalesce(greatest(extract(epoch FROM clock_timestamp() - least(c.due_at,
               -- several, since one with priority is due before it is created
               (SELECT min(greatest(m.available_at, m.created_at)) FROM (
                   SELECT available_at, created_at FROM messages
                   WHERE state = 'ready' AND queue = q.name AND available_at <= now() ORDER BY available_at LIMIT 100) m),
               (SELECT min(greatest(m.available_at, m.created_at)) FROM messages m
                WHERE m.state = 'sent' AND m.queue = q.name))), 0), 0)::float AS oldest_seconds
    FROM unnest(%(names)s::text[]) WITH ORDINALITY AS q (name, n)
    LEFT JOIN calling c ON c.queue = q.name LEFT JOIN handled h ON h.queue = q.name
    ORDER BY q.n
"""


class QueueSample(Row):
    """One queue at one time. `waiting`: due, and not sent to RabbitMQ yet. `later`: for a later time. `running`: sent to
    RabbitMQ, with a worker, or calling another server. `handled`: successful attempts since the installation was created.
    `oldest_seconds`: for how long the oldest message has been due that is not done; 0 if none is."""

    at: datetime
    queue: str
    waiting: int
    later: int
    running: int
    dead: int
    handled: int
    oldest_seconds: float


async def record(conn: Connection) -> None:
    """Records a sample of each queue, unless this interval of 30 seconds has one."""
    slot = f"date_bin('{EVERY_SECONDS} seconds', now(), 'epoch')"
    # first alone: relays look every two seconds, and the statement below takes 2 ms also if it inserts nothing
    if await conn.value(f"SELECT EXISTS (SELECT FROM queue_samples WHERE at = {slot})"):
        return
    await conn.execute(
        f"""
        INSERT INTO queue_samples (at, queue, waiting, later, running, dead, handled, oldest_seconds)
        SELECT slot.at, p.queue, p.waiting, p.later, p.running, p.dead, p.handled, p.oldest_seconds
        FROM (SELECT {slot} AS at) slot, ({_PRESENT}) p
        ON CONFLICT (at, queue) DO NOTHING
        """,
        _parameters(most=None),
    )


async def present(conn: Connection) -> list[QueueSample]:
    """All queues now. Counts end at MOST_COUNTED: one that is there is that of the last sample if that is higher."""
    found = await conn.all(_PRESENT, _parameters(most=MOST_COUNTED), row=QueueSample)
    if all(max(sample.waiting, sample.later, sample.running, sample.dead) < MOST_COUNTED for sample in found):
        return found
    last = await _last(conn)
    return [_with_counts_of(sample, last.get(sample.queue)) for sample in found]


async def depths(conn: Connection) -> list[QueueDepth]:
    """What `metrics.queue_depths` reads, for pages: `ready` is counted as `present` counts, so that it takes no longer while
    hundreds of thousands of messages wait."""
    found = await metrics.queue_depths(conn, most_ready=MOST_COUNTED)
    if all(depth.ready < MOST_COUNTED for depth in found):
        return found
    last = {queue: sample.waiting + sample.later for queue, sample in (await _last(conn)).items()}
    return [
        depth.model_copy(update={"ready": max(depth.ready, last.get(depth.name, 0))}) if depth.ready >= MOST_COUNTED else depth
        for depth in found
    ]


async def last_hour(conn: Connection) -> dict[str, list[QueueSample]]:
    """The samples of the last hour by queue, the oldest first."""
    found: dict[str, list[QueueSample]] = defaultdict(list)
    for sample in await conn.all(
        """
        SELECT at, queue, waiting, later, running, dead, handled, oldest_seconds FROM queue_samples
        WHERE at > now() - interval '1 hour' ORDER BY at, queue
        """,
        row=QueueSample,
    ):
        found[sample.queue].append(sample)
    return found


async def _last(conn: Connection) -> dict[str, QueueSample]:
    """The last sample, by queue."""
    found = await conn.all(
        """
        SELECT at, queue, waiting, later, running, dead, handled, oldest_seconds FROM queue_samples
        WHERE at = (SELECT max(at) FROM queue_samples)
        """,
        row=QueueSample,
    )
    return {sample.queue: sample for sample in found}


def _parameters(*, most: int | None) -> dict[str, Any]:
    return {
        "actors": list(MODELS),
        "queues": [model.queue for model in MODELS.values()],
        "names": list(QUEUES),
        "most": most,
    }


def _with_counts_of(sample: QueueSample, last: QueueSample | None) -> QueueSample:
    if last is None:
        return sample
    counts = {
        name: max(getattr(sample, name), getattr(last, name))
        for name in ("waiting", "later", "running", "dead")
        if getattr(sample, name) >= MOST_COUNTED
    }
    return sample.model_copy(update=counts)

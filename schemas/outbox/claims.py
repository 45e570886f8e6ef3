"""Which messages a relay publishes next: it claims them in Postgres before it publishes them to RabbitMQ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from schemas.messages import QUEUES
from schemas.postgres.connection import Connection

IN_FLIGHT = 500  # rows `sent` per queue; a longer backlog waits in Postgres, where a message with priority can overtake it
BATCH = 100  # per queue and claim
POLL_SECONDS = 1.0  # a notification wakes the relay earlier, but may be lost
FULL_SECONDS = 0.04  # while a queue is full: workers that have handled messages wake nobody


@dataclass(frozen=True)
class Claimed:
    """A row that this relay has claimed and must publish."""

    id: UUID
    delivery_number: int
    actor: str
    queue: str
    traceparent: str | None = None  # of the span that has enqueued it


@dataclass(frozen=True)
class Claim:
    """The rows of one claim. `more_due`: a queue gave as many rows as were allowed, so more may be due. `full`: the messages of
    a queue had to wait, because RabbitMQ has IN_FLIGHT of them."""

    rows: list[Claimed]
    more_due: bool
    full: bool

    @property
    def pause_seconds(self) -> float:
        """How long a relay may sleep before its next claim, if no notification wakes it."""
        if self.more_due:
            return 0
        return FULL_SECONDS if self.full else POLL_SECONDS


async def set_up_claims(conn: Connection) -> None:
    """Prepares a session in which one relay makes all its claims."""
    # faster, and safe: a claim that a crash of Postgres undoes is made again
    await conn.execute("SET synchronous_commit = off")
    # A new plan for each claim would not be better. The plan is made while `messages` is almost empty: without this, it would
    # read the whole table for each claim of a later backlog.
    await conn.execute("SET plan_cache_mode = force_generic_plan")
    await conn.execute("SET enable_seqscan = off")


async def claim(conn: Connection, *, relay: int, queues: Sequence[str] = tuple(QUEUES)) -> Claim:
    """Marks messages of these queues that are due as sent, the oldest first, up to IN_FLIGHT per queue. Commit before
    publishing them."""
    rows = await conn.all(
        """
        WITH capacity AS (
            SELECT q.queue, least(%(batch)s, %(in_flight)s - count(m.id)) AS slots
            FROM unnest(%(queues)s::text[]) AS q (queue)
            LEFT JOIN messages m ON m.queue = q.queue AND m.state = 'sent'
            GROUP BY q.queue
        ), claimed AS (
            UPDATE messages m
            SET state = 'sent', delivery_number = delivery_number + 1, sent_at = clock_timestamp(), sent_by = %(relay)s
            -- an array, which the planner assumes to be short; for a join with a long backlog it would read the whole table
            WHERE m.id = ANY(ARRAY(
                SELECT due.id FROM capacity CROSS JOIN LATERAL (
                    SELECT id FROM messages
                    WHERE queue = capacity.queue AND state = 'ready' AND available_at <= statement_timestamp()
                    ORDER BY available_at, id LIMIT greatest(capacity.slots, 0) FOR UPDATE SKIP LOCKED) due))
            RETURNING m.available_at, m.id, m.delivery_number, m.actor, m.queue, m.traceparent
        )
        SELECT available_at, id, delivery_number, actor, queue, traceparent, slots FROM capacity LEFT JOIN claimed USING (queue)
        ORDER BY available_at, id
        """,
        {"batch": BATCH, "in_flight": IN_FLIGHT, "queues": list(queues), "relay": relay},
    )
    claimed = [Claimed(*row) for _, *row, _ in rows if row[0] is not None]
    slots_by_queue = {queue: slots for *_, queue, _, slots in rows}
    claimed_by_queue = Counter(row.queue for row in claimed)
    return Claim(
        claimed,
        more_due=any(count >= slots_by_queue[queue] for queue, count in claimed_by_queue.items()),
        full=min(slots_by_queue.values(), default=1) <= 0,
    )


async def requeue_refused(conn: Connection, rows: list[Claimed]) -> None:
    """Makes ready what RabbitMQ refused or did not confirm, unless a worker has received it and handled it."""
    await conn.execute(
        """
        UPDATE messages SET state = 'ready' WHERE id IN (
            SELECT m.id FROM messages m
            JOIN unnest(%s::uuid[], %s::int[]) AS refused (id, delivery_number) USING (id, delivery_number)
            WHERE m.state = 'sent' FOR UPDATE OF m SKIP LOCKED)
        """,
        ([row.id for row in rows], [row.delivery_number for row in rows]),
    )

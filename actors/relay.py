"""The relay: hands messages that are due to RabbitMQ. Any number of them run; each also sweeps and drains.

It claims and commits first and publishes then: whoever is killed in between leaves a row `sent` that was never published,
which the sweep finds by the advisory lock that its relay no longer holds. Published twice is harmless, since only the latest
publication of a row counts; lost is not.
"""

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import psycopg
from dramatiq.common import xq_name
from pika.exceptions import AMQPError

from actors.amqp import Amqp, Lost
from actors.broker import queue_arguments, reference, xq_arguments
from actors.drain import drain
from actors.heart import beat
from actors.replaying import carry
from actors.sweep import sweep
from schemas.database import Connection, connect
from schemas.ledger import CHANNEL
from schemas.messages import QUEUES
from schemas.settings import Settings

logger = logging.getLogger(__name__)

IN_FLIGHT = 500  # rows `sent` per queue: a backlog waits in Postgres, where fresh work can overtake it
BATCH = 100  # per queue and claim
POLL_SECONDS = 1.0  # the truth; notifications only make it faster
CONFIRM_SECONDS = 15
LISTEN_SECONDS = 10
RECONNECT_SECONDS = 0.5
SAY_AGAIN_SECONDS = 20  # as long as it lasts


@dataclass(frozen=True)
class Claimed:
    """A row that this relay has promised to publish."""

    id: UUID
    publication: int
    actor: str
    queue: str


@dataclass(frozen=True)
class Claim:
    """The rows of one claim; `more` of a queue may be due when it has given all that there were places for."""

    rows: list[Claimed]
    more: bool


class Relay:
    """One relay process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Runs until it is cancelled. A job that fails for another reason than a server's ends the process."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again("publish", self._publish))
            tasks.create_task(self._again("listen", self._listen))
            tasks.create_task(self._again("sweep", lambda: sweep(self._settings)))
            tasks.create_task(self._again("drain", lambda: drain(self._settings)))
            tasks.create_task(self._again("carry", lambda: carry(self._settings)))
            tasks.create_task(beat(self._settings, kind="relay", queues=[]))

    async def _again(self, what: str, job: Callable[[], Awaitable[None]]) -> None:
        """Runs the job anew whenever Postgres or RabbitMQ failed it, and says so while that lasts."""
        said = float("-inf")
        while True:
            try:
                await job()
            except Lost as error:  # our own words
                reason = f"RabbitMQ: {error}"
            except (TimeoutError, OSError, AMQPError) as error:
                reason = f"RabbitMQ: {type(error).__name__}"
            except psycopg.Error as error:  # away, or busy: a row that is locked for long must not end the relay
                reason = f"Postgres: {type(error).__name__} {error.sqlstate or ''}"
            if time.monotonic() - said > SAY_AGAIN_SECONDS:
                logger.warning("%s: waiting for %s", what, reason.strip())
                said = time.monotonic()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        async with await connect(self._settings) as conn:
            await conn.execute(f"LISTEN {CHANNEL}".encode())
            conn.patience_seconds = LISTEN_SECONDS
            self._wake.set()
            while True:
                async for _ in conn.notifies(timeout=LISTEN_SECONDS - 1):
                    self._wake.set()
                await conn.execute("SELECT 1")  # a connection that is quiet may be dead

    async def _publish(self) -> None:
        amqp = await Amqp.open(self._settings.broker_url)
        try:
            async with await connect(self._settings) as conn:
                # names this connection's claims; whoever can take the lock knows that it is gone
                key = random.getrandbits(62)
                await conn.execute("SELECT pg_advisory_lock(%s)", (key,))
                # a claim that a crash of Postgres takes back is claimed again; and one plan is as good as the next
                await conn.execute("SET synchronous_commit = off")
                await conn.execute("SET plan_cache_mode = force_generic_plan")
                await declare(amqp, conn)
                logger.info("relaying")
                while not amqp.lost.done():
                    self._wake.clear()
                    if amqp.blocked or not (await self._publish_due(amqp, conn, key)).more:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(POLL_SECONDS):
                                await self._wake.wait()
                await amqp.lost
        finally:
            amqp.close()

    async def _publish_due(self, amqp: Amqp, conn: Connection, key: int) -> Claim:
        """Claims what is due and there is room for, publishes it, gives back what RabbitMQ did not take."""
        claimed = await claim(conn, relay=key)
        confirms = [
            amqp.publish(
                row.queue,
                reference(message_id=row.id, publication=row.publication, actor=row.actor, queue=row.queue),
                f"{row.id}:{row.publication}",
            )
            for row in claimed.rows
        ]
        if confirms and (await asyncio.wait(confirms, timeout=CONFIRM_SECONDS))[1]:
            amqp.close()  # a queue without a leader never confirms: start over, with what did not arrive
        results = await asyncio.gather(*confirms, return_exceptions=True)
        if refused := [row for row, result in zip(claimed.rows, results, strict=True) if result is not True]:
            await give_back(conn, refused)
            if not amqp.lost.done():  # a queue has gone: declare it anew before the next try
                raise Lost(f"{len(refused)} messages were refused")
        return claimed


async def declare(amqp: Amqp, conn: Connection) -> None:
    """Makes sure of the queues. One that has to be created held nothing: whatever had been sent to it is sent again, so that
    even a RabbitMQ that lost its disk loses no work."""
    quorum = amqp.offers_quorum
    for queue in QUEUES:
        if not await amqp.exists(queue):
            cursor = await conn.execute(
                """
                UPDATE messages SET state = 'ready' WHERE id IN (
                    SELECT id FROM messages WHERE queue = %s AND state = 'sent' FOR UPDATE SKIP LOCKED)
                """,
                (queue,),
            )
            if cursor.rowcount:
                logger.warning("RabbitMQ lost its queue %s; sending %d messages again", queue, cursor.rowcount)
        await amqp.declare(xq_name(queue), xq_arguments(quorum=quorum))
        await amqp.declare(queue, queue_arguments(queue, quorum=quorum))


async def claim(conn: Connection, *, relay: int) -> Claim:
    """Takes what is due, oldest first, up to what may be in flight; committed before anything is published."""
    cursor = await conn.execute(
        """
        WITH room AS (
            SELECT q.queue, least(%(batch)s, %(in_flight)s - count(m.id)) AS places
            FROM unnest(%(queues)s::text[]) AS q (queue)
            LEFT JOIN messages m ON m.queue = q.queue AND m.state = 'sent'
            GROUP BY q.queue
        )
        UPDATE messages m SET state = 'sent', publication = publication + 1, sent_at = clock_timestamp(), sent_by = %(relay)s
        FROM room
        -- an array, which the planner takes for small: it would take a join with a long backlog for a reason to read the table
        WHERE m.queue = room.queue AND m.id = ANY(ARRAY(
            SELECT due.id FROM room CROSS JOIN LATERAL (
                SELECT id FROM messages
                WHERE queue = room.queue AND state = 'ready' AND available_at <= statement_timestamp()
                ORDER BY available_at, id LIMIT greatest(room.places, 0) FOR UPDATE SKIP LOCKED) due))
        RETURNING m.available_at, m.id, m.publication, m.actor, m.queue, room.places
        """,
        {"batch": BATCH, "in_flight": IN_FLIGHT, "queues": list(QUEUES), "relay": relay},
    )
    rows = sorted(await cursor.fetchall())  # the planner chose an order of its own
    given = Counter((queue, places) for *_, queue, places in rows)
    claimed = [Claimed(*row) for _, *row, _ in rows]
    return Claim(claimed, more=any(count >= places for (_, places), count in given.items()))


async def give_back(conn: Connection, rows: list[Claimed]) -> None:
    """What RabbitMQ refused, or never confirmed, is ready again; unless a worker has it after all."""
    await conn.execute(
        """
        UPDATE messages SET state = 'ready' WHERE id IN (
            SELECT m.id FROM messages m JOIN unnest(%s::uuid[], %s::int[]) AS refused (id, publication) USING (id, publication)
            WHERE m.state = 'sent' FOR UPDATE OF m SKIP LOCKED)
        """,
        ([row.id for row in rows], [row.publication for row in rows]),
    )


async def relay(settings: Settings) -> None:
    """Runs a relay until SIGTERM or SIGINT."""
    running = asyncio.ensure_future(Relay(settings).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running

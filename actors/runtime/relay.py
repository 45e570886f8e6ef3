"""The relay: publishes messages that are due to RabbitMQ.

Any number of relays may run. Each also runs the rescuer, the consumer of the dead-letter queues, and the replay runner.

A relay first commits its claim, and then publishes. If it is killed in between, a row is `sent` but was never published. The
rescuer requeues such a row, because the advisory lock of that relay is free. A message may be published twice without harm:
only the latest delivery of a row is handled.
"""

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import psycopg

from actors.runtime.broker import declare_queues, encode_reference
from actors.runtime.dead_letter_queues import drain
from actors.runtime.heartbeat import beat, stay_alive
from actors.runtime.replay_runner import advance_replays
from actors.runtime.rescuer import rescue
from actors.runtime.server_watch import (
    BrokerState,
    CertificateState,
    ClusterState,
    HostState,
    watch_broker,
    watch_certificates,
    watch_cluster,
    watch_hosts,
)
from schemas import tracing
from schemas.diagnosis import outages
from schemas.messages import QUEUES
from schemas.outbox.claims import POLL_SECONDS, Claim, Claimed, claim, requeue_refused, set_up_claims
from schemas.outbox.heartbeats import Report, say_goodbye
from schemas.outbox.outbox import CHANNEL
from schemas.postgres.connection import Connection, connect
from schemas.postgres.readiness import wait_for_database
from schemas.rabbitmq.amqp import Amqp
from schemas.rabbitmq.problems import LOST, ConnectionLost
from schemas.settings import Settings
from schemas.starting import report_ready

logger = logging.getLogger(__name__)

MAX_UNCONFIRMED = 2_000
CONFIRM_SECONDS = 15
UNUSABLE_SECONDS = 10  # between two looks at queues that cannot be used
LISTEN_SECONDS = 10
RECONNECT_SECONDS = 0.5
LOG_INTERVAL_SECONDS = 20  # between two warnings about the same outage


class Relay:
    """One relay process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wake = asyncio.Event()
        self._other_queues: list[str] = []  # the last findings of `declare_queues`
        self._broker, self._certificates, self._hosts = BrokerState(), CertificateState(), HostState()
        self._cluster = ClusterState()
        self._ready = False

    async def run(self) -> None:
        """Runs until it is cancelled. It survives outages of Postgres and RabbitMQ. Any other exception ends the process."""
        await wait_for_database(self._settings)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_running("publish", self._publish))
            tasks.create_task(self._keep_running("listen", self._listen))
            tasks.create_task(self._keep_running("rescue", lambda: rescue(self._settings)))
            tasks.create_task(self._keep_running("drain", lambda: drain(self._settings)))
            tasks.create_task(self._keep_running("replays", lambda: advance_replays(self._settings)))
            tasks.create_task(outages.watch(self._settings))
            tasks.create_task(watch_broker(self._settings.broker_url, self._broker))
            tasks.create_task(watch_certificates(self._settings, self._certificates))
            tasks.create_task(watch_hosts(self._settings, self._hosts))
            tasks.create_task(watch_cluster(self._settings, self._cluster))
            tasks.create_task(stay_alive())
            tasks.create_task(beat(self._settings, kind="relay", queues=[], report=self._report))

    def _report(self) -> Report:
        problem = self._broker.problem
        problems = self._certificates.problems | self._hosts.problems | self._cluster.problems
        problems |= {"RabbitMQ": str(problem)} if problem else {}
        return Report(other_queues=list(self._other_queues), problems=problems)

    async def _keep_running(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        """Runs the job again whenever Postgres or RabbitMQ fails, and logs the outage from time to time."""
        logged_at = float("-inf")
        while True:
            try:
                await job()
            except ConnectionLost as error:
                reason = f"RabbitMQ: {error}"
                if error.problem.code == "unconfirmed":
                    self._broker.unconfirmed = error.problem
            except LOST as error:
                reason = f"RabbitMQ: {type(error).__name__}"
            except psycopg.Error as error:  # unreachable, or a lock timeout: neither may end the relay
                reason = f"Postgres: {type(error).__name__} {error.sqlstate or ''}"
            if time.monotonic() - logged_at > LOG_INTERVAL_SECONDS:
                logger.warning("%s: waiting for %s", name, reason.strip())
                logged_at = time.monotonic()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        async with await connect(self._settings) as conn:
            await conn.execute(f"LISTEN {CHANNEL}")
            conn.answer_timeout_seconds = LISTEN_SECONDS
            self._wake.set()
            while True:
                async for _ in conn.notifies(timeout=LISTEN_SECONDS - 1):
                    self._wake.set()
                await conn.execute("SELECT 1")  # fails if the connection is dead

    async def _publish(self) -> None:
        async with await Amqp.open(self._settings.broker_url) as amqp, await connect(self._settings) as conn:
            # claims carry this key; the rescuer can take the lock only after this connection is closed
            key = random.getrandbits(62)
            await conn.execute("SELECT pg_advisory_lock(%s)", (key,))
            await set_up_claims(conn)
            queues = await self._declare_queues(amqp, conn)
            logger.info("relaying")
            if not self._ready:
                report_ready()
                self._ready = True
            look_at = time.monotonic() + UNUSABLE_SECONDS
            outgoing = Outgoing(amqp, self._wake)
            while not amqp.lost.done():
                self._wake.clear()
                pause_seconds = POLL_SECONDS
                if not (amqp.blocked or outgoing.is_full):
                    pause_seconds = (await self._publish_due(conn, key, outgoing, queues)).pause_seconds
                await self._check_confirms(conn, outgoing)
                if len(queues) < len(QUEUES) and time.monotonic() > look_at:
                    queues = await self._declare_queues(amqp, conn)
                    look_at = time.monotonic() + UNUSABLE_SECONDS
                if pause_seconds:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause_seconds):
                            await self._wake.wait()
            await self._check_confirms(conn, outgoing)
            await amqp.lost

    async def _declare_queues(self, amqp: Amqp, conn: Connection) -> list[str]:
        """Declares the queues, and returns those that can be used. If the findings are new ones, it logs a warning. The next
        heartbeat records them."""
        found = await declare_queues(amqp, conn, self._settings)
        if found.findings and found.findings != self._other_queues:
            logger.warning("%s. See docs/operations.md, A queue differs", "; ".join(found.findings))
        self._other_queues[:] = found.findings
        return found.usable

    async def _publish_due(
        self, conn: Connection, key: int, outgoing: "Outgoing", queues: Sequence[str] = tuple(QUEUES)
    ) -> Claim:
        """Claims messages that are due and publishes them, without waiting until RabbitMQ confirms them."""
        claimed = await claim(conn, relay=key, queues=queues)
        for row in claimed.rows:
            outgoing.publish(row)
        return claimed

    async def _check_confirms(self, conn: Connection, outgoing: "Outgoing") -> int:
        """Requeues messages that RabbitMQ has refused, or has not confirmed in time. Returns the number of messages that it has
        confirmed since the last call.

        Raises ConnectionLost if it has refused messages: a queue was deleted, and a new connection declares it again.
        """
        confirmed, refused = outgoing.take_settled()
        if confirmed:
            self._broker.unconfirmed = None
        if refused:
            await requeue_refused(conn, refused)
            if not outgoing.amqp.lost.done():
                raise ConnectionLost(f"{len(refused)} messages were refused")
        return confirmed


class Outgoing:
    """What was published on a connection and is not confirmed yet.

    RabbitMQ confirms a message only when it is on disk. The relay does not wait for that: it claims further messages meanwhile.
    """

    def __init__(self, amqp: Amqp, wake: asyncio.Event) -> None:
        self.amqp = amqp
        self._wake = wake  # set when something is to be done
        self._waiting: dict[str, set[Claimed]] = {queue: set() for queue in QUEUES}
        # by queue, by time.monotonic(): its last confirm, or when the first of those that wait was published
        self._moved_at: dict[str, float] = {}
        self._confirmed = 0
        self._refused: list[Claimed] = []

    @property
    def is_full(self) -> bool:
        return sum(map(len, self._waiting.values())) >= MAX_UNCONFIRMED

    def publish(self, row: Claimed) -> None:
        body = encode_reference(message_id=row.id, delivery_number=row.delivery_number, actor=row.actor, queue=row.queue)
        if not self._waiting[row.queue]:
            self._moved_at[row.queue] = time.monotonic()
        self._waiting[row.queue].add(row)
        headers = None
        if row.traceparent:
            with tracing.span(f"publish {row.queue}", "producer", parent=row.traceparent):
                headers = {tracing.HEADER: tracing.traceparent() or row.traceparent}
        self.amqp.publish(row.queue, body, f"{row.id}:{row.delivery_number}", partial(self._settle, row), headers=headers)

    def take_settled(self) -> tuple[int, list[Claimed]]:
        """The number of messages that were confirmed since the last call; and those that RabbitMQ has refused, or that were on
        a lost connection.

        A connection without a confirm of a queue for CONFIRM_SECONDS is abandoned, because a quorum queue without a leader
        never confirms. One that confirms slowly is kept: to publish everything again would make it slower.
        """
        overdue = time.monotonic() - CONFIRM_SECONDS
        late = [queue for queue, waiting in self._waiting.items() if waiting and self._moved_at[queue] < overdue]
        if late:
            self.amqp.abandon(f"no confirm of {', '.join(late)} within {CONFIRM_SECONDS} s", "unconfirmed")
        confirmed, self._confirmed = self._confirmed, 0
        refused, self._refused = self._refused, []
        return confirmed, refused

    def _settle(self, row: Claimed, stored: bool) -> None:
        was_full = self.is_full
        self._waiting[row.queue].remove(row)
        if stored:
            self._confirmed += 1
            self._moved_at[row.queue] = time.monotonic()
        else:
            self._refused.append(row)
        if was_full or not stored:
            self._wake.set()


async def relay(settings: Settings) -> None:
    """Runs a relay until SIGTERM or SIGINT."""
    running = asyncio.ensure_future(Relay(settings).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await say_goodbye(settings)

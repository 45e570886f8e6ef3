"""The subscribers to live events in this API process, and the task that reads changes and publishes them to all of them.

However many subscribers there are, one task reads each change once, on one connection, which is open while there are
subscribers. It LISTENs for notifications, so that it reads at once, and also reads every second: a notification can be lost, a
poll finds every change.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from uuid import UUID

import prometheus_client

from api.sync.event_batches import EVERYTHING, Batch, Batches, Events, Interest
from schemas.errors import RateLimited, Unavailable
from schemas.identity.users import User
from schemas.postgres.connection import connect
from schemas.settings import Settings
from schemas.sync import live_events
from schemas.sync.live_events import CHANNEL, Changes

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
ANSWER_TIMEOUT_SECONDS = 10.0  # if Postgres does not answer within that, the task reconnects
RECONNECT_SECONDS = 0.5
LOG_INTERVAL_SECONDS = 20  # between two log lines about the same outage
MAX_STREAMS_PER_USER = 20
MAX_PENDING = 1_000  # events of one subscriber; with more, it gets a reset instead
MAX_EVENTS_PER_WRITE = 200  # about 14 kB
RESET = b"event: reset\ndata: {}\n\n"  # tells the client to read everything again

OPEN = prometheus_client.Gauge("stint_listeners", "Open streams of live events", multiprocess_mode="livesum")
ENDED = prometheus_client.Counter("stint_listeners_ended_total", "Streams of live events that ended", ["why"])
for _why in ("left", "expired", "revoked", "slow", "stopping", "unverified", "error"):
    ENDED.labels(_why)  # from 0 on: Prometheus does not see how much a counter has grown before its first value


class Subscriber:
    """One open stream. `wake` is set when it has something to do: send events, check access again, or end."""

    def __init__(self, user: User, interest: Interest = EVERYTHING) -> None:
        self.user, self.interest = user, interest
        self.wake = asyncio.Event()
        self.must_recheck_access = False
        self.ended: str | None = None  # the reason, once it is to end
        self._pending: Events = {}  # perhaps a batch's, so it is replaced and never changed
        self._text: bytes | None = None  # all that is pending, if that is one batch

    def publish(self, batch: Batch) -> None:
        """Adds events to send; one that is pending already is sent once."""
        if RESET not in self._pending:  # after a reset the client reads everything, these changes included
            self._text = None if self._pending else batch.text
            self._pending = self._pending | batch.events if self._pending else batch.events
            if len(self._pending) > MAX_PENDING:
                self.reset()
        self.wake.set()

    def reset(self) -> None:
        """Replaces the pending events by a reset."""
        self._pending, self._text = {RESET: None}, RESET
        self.wake.set()

    def recheck_access(self) -> None:
        """The user's row changed, and so perhaps their rights: the stream checks them before it sends anything else."""
        self.must_recheck_access = True
        self.wake.set()

    def end(self, why: str) -> None:
        """Ends the stream. The first reason counts."""
        self.ended = self.ended or why
        self.wake.set()

    def take_pending(self) -> bytes:
        """Removes the next events to send and returns them as one text; empty when there are none."""
        if self._text is not None and len(self._pending) <= MAX_EVENTS_PER_WRITE:
            text = self._text
            self._pending, self._text = {}, None
            return text
        taken = list(islice(self._pending, MAX_EVENTS_PER_WRITE))
        self._pending, self._text = dict.fromkeys(islice(self._pending, len(taken), None)), None
        return b"".join(taken)


class Subscribers:
    """All subscribers of one API process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._subscribers: set[Subscriber] = set()
        self._streams_of_user: Counter[UUID] = Counter()
        self._has_subscribers = asyncio.Event()
        self._is_reading = False
        self._reader: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts the task that reads changes; it connects to Postgres when the first subscriber comes."""
        self._reader = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    @contextmanager
    def subscribe(self, user: User, interest: Interest) -> Iterator[Subscriber]:
        """A subscriber that gets every change committed from now on that this user may see and wants. Raises RateLimited when
        the user has too many streams, Unavailable when this process has."""
        if self._streams_of_user[user.id] >= MAX_STREAMS_PER_USER:
            raise RateLimited(f"You have {MAX_STREAMS_PER_USER} open streams of live events; close one first.", seconds=5)
        if len(self._subscribers) >= self._settings.stint_most_listeners:
            raise Unavailable("This server has too many open streams of live events; try again in a moment.")
        subscriber = Subscriber(user, interest)
        self._subscribers.add(subscriber)
        self._streams_of_user[user.id] += 1
        OPEN.inc()
        self._has_subscribers.set()
        if self._is_reading:  # otherwise the reader resets all subscribers when it starts
            subscriber.reset()
        try:
            yield subscriber
        finally:
            OPEN.dec()
            ENDED.labels(subscriber.ended or "error").inc()
            self._subscribers.discard(subscriber)
            self._streams_of_user[user.id] -= 1
            if not self._streams_of_user[user.id]:
                del self._streams_of_user[user.id]
            if not self._subscribers:
                self._has_subscribers.clear()

    async def _run(self) -> None:
        logged_at = float("-inf")
        while True:
            await self._has_subscribers.wait()
            try:
                await self._read_changes()
            except Exception as error:  # whatever failed, subscribers must not be left without a reader
                if time.monotonic() - logged_at > LOG_INTERVAL_SECONDS:
                    logger.warning("live events: waiting for Postgres: %s", type(error).__name__)
                    logged_at = time.monotonic()
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _read_changes(self) -> None:
        """Reads and publishes changes while there are subscribers. Starts with a reset for all: they have missed the changes of
        the time without a reader."""
        async with await connect(self._settings) as conn:
            conn.answer_timeout_seconds = ANSWER_TIMEOUT_SECONDS
            await conn.execute(f"LISTEN {CHANNEL}")
            # the statement has one good plan, and planning it costs more than running it
            await conn.execute("SET plan_cache_mode = force_generic_plan")
            snapshot = await live_events.current_snapshot(conn)
            self._is_reading = True
            try:
                for subscriber in self._subscribers:
                    subscriber.reset()
                while self._subscribers:
                    async for _ in conn.notifies(timeout=POLL_SECONDS, stop_after=1):
                        pass
                    changes = await live_events.changes_since(conn, snapshot)
                    snapshot = changes.snapshot
                    await self._publish(changes)
                    # The first change after a pause is told at once, and the changes of this pause together: those of one row
                    # once, and all of them in one write to each stream, which is what a stream costs most.
                    await asyncio.sleep(self._settings.stint_events_seconds)
            finally:
                self._is_reading = False

    async def _publish(self, changes: Changes) -> None:
        batches = Batches(changes.changes)
        for number, subscriber in enumerate(list(self._subscribers), 1):
            user = subscriber.user
            if changes.users is None or user.id in changes.users:
                subscriber.recheck_access()
            if changes.too_many:
                subscriber.reset()
            elif (batch := batches.of(user, subscriber.interest)).events:
                subscriber.publish(batch)
            if number % 100 == 0:
                await asyncio.sleep(0)  # let this process answer requests in between

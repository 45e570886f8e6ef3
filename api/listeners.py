"""Who listens to live events in this process, and what each of them is yet to be told.

Whatever their number, what changed is read once, on one connection, which LISTENs and is open while anybody listens.
Notifications only wake; a poll is the truth.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import prometheus_client

from schemas import events
from schemas.database import connect
from schemas.errors import TooMany, Unavailable
from schemas.events import CHANNEL, Change, Changes
from schemas.settings import Settings
from schemas.users import User

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 10.0  # with Postgres, until it is asked anew on another connection
PAUSE_SECONDS = 0.05  # between two reads: many commits in a row are read together
RECONNECT_SECONDS = 0.5
SAY_AGAIN_SECONDS = 20
MOST_OF_ONE_USER = 20
MOST_PENDING = 1_000  # of one listener; one that lags behind further reads all anew
MOST_AT_ONCE = 200  # changes in one write, about 14 kB
RESET = b"event: reset\ndata: {}\n\n"

OPEN = prometheus_client.Gauge("stint_listeners", "Open streams of live events")
ENDED = prometheus_client.Counter("stint_listeners_ended_total", "Streams of live events that ended", ["why"])

Told = dict[bytes, None]  # events as they are sent, each once, in order


class Listener:
    """One open stream. `wake` is set whenever there is something to do for it."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.wake = asyncio.Event()
        self.is_doubtful = False  # the user's row changed, and so perhaps what they may hear
        self.ended: str | None = None  # why
        self._pending: Told = {}

    def tell(self, told: Told) -> None:
        """Keeps these to be sent, unless the same are to be sent already."""
        if RESET not in self._pending:  # who is about to read all anew will see these, too
            self._pending |= told
            if len(self._pending) > MOST_PENDING:
                self._pending = {RESET: None}
        self.wake.set()

    def reset(self) -> None:
        self._pending = {RESET: None}
        self.wake.set()

    def doubt(self) -> None:
        self.is_doubtful = True
        self.wake.set()

    def end(self, why: str) -> None:
        """The first reason counts."""
        self.ended = self.ended or why
        self.wake.set()

    def take(self) -> bytes:
        """The next events to send; empty when there are none."""
        if len(self._pending) <= MOST_AT_ONCE:
            taken, self._pending = list(self._pending), {}
        else:
            taken = list(self._pending)[:MOST_AT_ONCE]
            for event in taken:
                del self._pending[event]
        return b"".join(taken)


class Listeners:
    """The listeners of one API process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listeners: set[Listener] = set()
        self._of_user: Counter[UUID] = Counter()
        self._anybody = asyncio.Event()
        self._is_reading = False
        self._running: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts waiting for the first listener."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    @contextmanager
    def joined(self, user: User) -> Iterator[Listener]:
        """A listener for this user, whom every change that is committed from now on is told to. Raises TooMany, or Unavailable
        when this process has all the listeners that it takes."""
        if self._of_user[user.id] >= MOST_OF_ONE_USER:
            raise TooMany(f"You are listening {MOST_OF_ONE_USER} times already; close another stream first.", seconds=5)
        if len(self._listeners) >= self._settings.stint_most_listeners:
            raise Unavailable("Too many are listening to live events here; try again in a moment.")
        listener = Listener(user)
        self._listeners.add(listener)
        self._of_user[user.id] += 1
        OPEN.inc()
        self._anybody.set()
        if self._is_reading:
            listener.reset()
        try:
            yield listener
        finally:
            OPEN.dec()
            ENDED.labels(listener.ended or "error").inc()
            self._listeners.discard(listener)
            self._of_user[user.id] -= 1
            if not self._of_user[user.id]:
                del self._of_user[user.id]
            if not self._listeners:
                self._anybody.clear()

    async def _run(self) -> None:
        said = float("-inf")
        while True:
            await self._anybody.wait()
            try:
                await self._listen()
            except Exception as error:  # whatever it was, those who listen must not wait for ever
                if time.monotonic() - said > SAY_AGAIN_SECONDS:
                    logger.warning("live events: waiting for Postgres: %s", type(error).__name__)
                    said = time.monotonic()
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        """Reads and tells what changes, as long as anybody listens. Who listened before has missed what nobody read."""
        async with await connect(self._settings) as conn:
            conn.patience_seconds = PATIENCE_SECONDS
            await conn.execute(f"LISTEN {CHANNEL}".encode())
            # one plan is as good as the next, and making one costs more than running it
            await conn.execute("SET plan_cache_mode = force_generic_plan")
            snapshot = await events.snapshot(conn)
            self._is_reading = True
            try:
                for listener in self._listeners:
                    listener.reset()
                while self._listeners:
                    async for _ in conn.notifies(timeout=POLL_SECONDS, stop_after=1):
                        pass
                    changes = await events.changed(conn, snapshot)
                    snapshot = changes.snapshot
                    await self._tell(changes)
                    await asyncio.sleep(PAUSE_SECONDS)
            finally:
                self._is_reading = False

    async def _tell(self, changes: Changes) -> None:
        everything = dict.fromkeys(map(_event, changes.changes))
        of_customer: dict[UUID | None, Told] = defaultdict(dict)
        for change in changes.changes:
            if change.customer_id is not None:
                of_customer[change.customer_id][_event(change)] = None
        for number, listener in enumerate(list(self._listeners), 1):
            user = listener.user
            if changes.users is None or user.id in changes.users:
                listener.doubt()
            if changes.too_many:
                listener.reset()
            elif told := everything if user.is_internal else of_customer.get(user.customer_id):
                listener.tell(told)
            if number % 100 == 0:
                await asyncio.sleep(0)  # requests go on meanwhile


def _event(change: Change) -> bytes:
    return f'event: {change.kind}\ndata: {{"id":"{change.id}"}}\n\n'.encode()

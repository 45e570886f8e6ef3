"""From a delivery to a committed effect, or to a failure that is written down; on each worker thread's own event loop and
connection."""

import asyncio
import logging
import os
import socket
import threading
import time
import traceback
from pathlib import Path

import psycopg
import uvloop

from actors.calling import CallOut, LeaseLost, Left
from actors.deliveries import HANDLERS, Delivery, Handler, note_beginning, quarantine, take
from schemas import failures, ledger
from schemas.database import Connection, connect, is_unreachable
from schemas.errors import Permanent, RetryLater
from schemas.failures import Failure
from schemas.heartbeats import Tally
from schemas.ledger import State
from schemas.logs import about
from schemas.settings import Settings

logger = logging.getLogger(__name__)

TALLY = Tally()  # what this process's handlers did; the heartbeat takes it along
ROOT = Path(__file__).resolve().parents[1]
# A handler that loses its connection this often in a row is what brings Postgres down, not its victim.
LOST_CONNECTIONS = 5
STUCK_SECONDS = 60  # what locks and the writing down of a failure may take beside the handler itself
# It lost against another transaction; nothing is wrong with it.
BUSY = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.errors.LockNotAvailable)


def process_name() -> str:
    """Names this process in the ledger and among the heartbeats."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Thread:
    """What one worker thread owns: an event loop, a connection, and the way from a delivery to its end."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._conn: Connection | None = None
        self._lost = 0
        self.stuck_at = float("inf")  # monotonic; past it, a handler sits in blocking Python that no deadline can end

    def work(self, delivery: Delivery) -> bool:
        """Handles the delivery to its end: True when it can be acknowledged, False when the process is stopping before
        that. While Postgres is away it waits, unacknowledged."""
        self._lost = 0
        tries = 0
        deadline_seconds = HANDLERS[delivery.actor].model.deadline_seconds
        while True:
            self.stuck_at = time.monotonic() + 2 * deadline_seconds + STUCK_SECONDS
            try:
                self._runner.run(self._handle(delivery))
                return True
            except Exception as error:
                if not is_unreachable(error):
                    logger.error("a failure could not be written down: %s; trying again", type(error).__name__)
                elif tries == 0:
                    logger.warning("waiting for Postgres: %s", type(error).__name__)
            finally:
                self.stuck_at = float("inf")
            tries += 1
            if self._stopping.wait(min(2.0, 0.1 * 2 ** min(tries, 5))):
                return False

    async def _connection(self) -> Connection:
        if self._conn is None or self._conn.closed:
            self._conn = await connect(self._settings)
        return self._conn

    async def _drop_connection(self) -> None:
        # it saw an error or a timeout: whatever state it is in, nobody inherits it
        if self._conn is not None:
            await self._conn.close()
            self._conn = None

    async def _handle(self, delivery: Delivery) -> None:
        about.set({"message_id": str(delivery.id), "actor": delivery.actor})
        ledger.cause.set(delivery.id)
        handler = HANDLERS[delivery.actor]
        conn = await self._connection()
        call = CallOut(
            delivery,
            connection=self._connection,
            deadline_seconds=handler.model.deadline_seconds,
            margin_seconds=self._settings.stint_lease_margin_seconds,
            worker=process_name(),
            base_seconds=self._settings.stint_retry_base_seconds,
        )
        begun, well = time.perf_counter(), False
        try:
            if handler.calls_out:
                await self._call(handler, call)
            else:
                await self._in_one_transaction(conn, handler, delivery)
            well = True
        except BaseException as error:  # a handler's own SystemExit or CancelledError is a failed attempt, too
            await self._drop_connection()
            if is_unreachable(error):
                self._lost += 1
                if self._lost < LOST_CONNECTIONS:
                    raise  # what was committed is found when the row is looked at again
            await self._record(delivery, call, error)
        finally:
            call.end()
            TALLY[delivery.actor].add(time.perf_counter() - begun, well=well)

    async def _in_one_transaction(self, conn: Connection, handler: Handler, delivery: Delivery) -> None:
        """Effect and `done` commit together, or neither does."""
        if not await self._try_transaction(conn, handler, delivery, noted=False) and await note_beginning(conn, delivery):
            try:
                await self._try_transaction(conn, handler, delivery, noted=True)
            finally:
                quarantine.release()

    async def _try_transaction(self, conn: Connection, handler: Handler, delivery: Delivery, *, noted: bool) -> bool:
        """False, and nothing was done, when the message is under suspicion and its beginning is not noted yet."""
        base_seconds = self._settings.stint_retry_base_seconds
        async with asyncio.timeout(handler.model.deadline_seconds), conn.transaction():
            taken = await take(conn, delivery, worker=process_name(), base_seconds=base_seconds, noted=noted)
            if taken is None:
                return True
            if not taken.may_begin:
                return False
            await handler.function(conn, taken.message)
            await ledger.settle(conn, delivery.id)
            return True

    async def _call(self, handler: Handler, call: CallOut) -> None:
        try:
            await handler.function(call)
        except LeaseLost:
            logger.warning("the lease ran out before the result could be written; the next attempt finds out what happened")
        except Left:
            pass
        else:
            if not call.settled:
                raise Permanent(f"{handler.model.actor} returned without settling: that is a bug in it")

    async def _record(self, delivery: Delivery, call: CallOut, error: BaseException) -> None:
        """Writes the failed attempt down on a fresh connection, unless the message has moved on meanwhile."""
        conn = await self._connection()
        async with conn.transaction():
            record = await ledger.lock(conn, delivery.id)
            if record is None:
                return
            ours = record.is_leased(call.token) if call.token else record.is_delivery(delivery.publication)
            if not ours:
                return
            state = await failures.fail(conn, record, failure_of(error), base_seconds=self._settings.stint_retry_base_seconds)
        if state is State.dead:
            logger.error("dead after %d attempts: %s", record.attempts + 1, type(error).__name__)
        else:
            logger.info("attempt %d failed, will retry: %s", record.attempts + 1, type(error).__name__)


def failure_of(error: BaseException) -> Failure:
    """What the ledger keeps of an exception."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(f"{ROOT}{os.sep}")]
    own = [frame for frame in frames if f"{os.sep}.venv{os.sep}" not in frame.filename]
    where = f"{Path(own[-1].filename).relative_to(ROOT)}:{own[-1].name}" if own else ""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    return Failure(
        error_class=name,
        error=str(error),
        traceback="".join(traceback.format_exception(error)),
        worker=process_name(),
        frame=where,
        free=isinstance(error, (RetryLater, *BUSY)),
        final=isinstance(error, Permanent),
        delay_seconds=error.seconds if isinstance(error, RetryLater) else None,
    )

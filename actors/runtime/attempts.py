"""Runs handlers: from a delivery to a committed effect, or to a recorded failure."""

import asyncio
import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import psycopg
import uvloop

from actors.runtime import server_watch
from actors.runtime.deliveries import Delivery, commit_start, lock_for_delivery, poison_lock
from actors.runtime.external_calls import AlreadySettled, ExternalCall, LeaseExpired
from actors.runtime.failures import record_failure
from actors.runtime.handlers import HANDLERS, Handler
from schemas import tracing
from schemas.encryption import WrongSecretKey
from schemas.errors import NonRetryable, RetryAfter
from schemas.logs import log_context
from schemas.outbox import outbox
from schemas.outbox.failed_attempts import Failure
from schemas.outbox.heartbeats import HandlerMetrics, LateHandler, process_name
from schemas.outbox.outbox import State
from schemas.postgres.connection import STATEMENT_FAILED, Connection, connect, is_unreachable, trace
from schemas.postgres.migrate import UNDEFINED, pending
from schemas.postgres.readiness import LACKS_MIGRATIONS
from schemas.servers.postgres_refusals import refuses_writes
from schemas.settings import Settings

logger = logging.getLogger(__name__)

handler_metrics = HandlerMetrics()  # of this process; the heartbeat adds them to the totals in Postgres
ROOT = Path(__file__).resolve().parents[2]
# A handler whose connection is lost this often in a row probably crashes Postgres itself: then it is a failed attempt.
MAX_LOST_CONNECTIONS = 5
# Of a failed attempt. An exception may quote all of a message, and is shown in lists.
MAX_ERROR_LENGTH, MAX_TRACEBACK_LENGTH = 10_000, 100_000
WRONG_KEY_SECONDS = 30.0  # until the next attempt at a message that needs what SECRET_KEY does not decrypt
LATE_SECONDS = 10.0  # a handler is cancelled at its deadline; one that runs for longer than that is reported
STUCK_SECONDS = 60  # for locks and for recording a failure, in addition to the handler's own timeout
# The transaction lost against a concurrent one. The handler did nothing wrong, so it is retried without counting an attempt.
CONTENTION = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.errors.LockNotAvailable)


class DatabaseLacksMigrations(Exception):
    """The attempt had no effect, because the database lacks what this version needs. It is repeated later."""


class AttemptRunner:
    """Runs attempts on one worker thread, with an event loop and a connection of its own."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._conn: Connection | None = None
        self._lost_connections = 0
        # monotonic; after that, the handler is stuck in blocking Python code, which no timeout can cancel
        self.stuck_at = float("inf")
        self._running: tuple[Delivery, float] | None = None  # with the time of its start, monotonic

    def run(self, delivery: Delivery) -> bool:
        """Handles the delivery. While Postgres is unreachable, it waits and tries again.

        True: the caller acknowledges the delivery. False: the process is stopping, so the delivery is not acknowledged.
        """
        self._lost_connections = tries = 0
        timeout_seconds = HANDLERS[delivery.actor].model.timeout_seconds
        while True:
            # twice: a suspected message has two transactions, each limited by timeout_seconds
            try:
                with self._noting(delivery, 2 * timeout_seconds):
                    self._loop.run(self._traced(delivery))
                return True
            except Exception as error:
                if isinstance(error, DatabaseLacksMigrations):
                    if tries == 0:
                        logger.error("waiting: %s", LACKS_MIGRATIONS)
                elif not is_unreachable(error):
                    logger.error("the attempt could not be finished: %s; trying again", type(error).__name__)
                elif tries == 0:
                    logger.warning("waiting for Postgres: %s", type(error).__name__)
            tries += 1
            if self._stopping.wait(min(2.0, 0.1 * 2 ** min(tries, 5))):
                return False

    def run_together(self, deliveries: Sequence[Delivery]) -> set[UUID]:
        """Tries to handle deliveries of one actor in one transaction, once. Returns the ids of the messages that are handled,
        and committed. Any other may be, too, if the connection was lost: `run` finds that in its row."""
        handler, started_at = HANDLERS[deliveries[0].actor], time.monotonic()
        try:
            with self._noting(deliveries[0], handler.model.timeout_seconds):
                handled = self._loop.run(self._together(handler, deliveries))
        except BaseException as error:  # each gets it again alone, where it is recorded
            logger.info("handling %d messages one by one: %s", len(deliveries), type(error).__name__)
            return set()
        seconds = time.monotonic() - started_at
        for _ in handled:
            handler_metrics[handler.model.actor].add(seconds, succeeded=True)
        return handled

    @contextmanager
    def _noting(self, delivery: Delivery, seconds: float) -> Iterator[None]:
        """Notes what runs, and from when on its thread is stuck, for other threads. `seconds`: what it may take."""
        now = time.monotonic()
        self.stuck_at, self._running = now + seconds + STUCK_SECONDS, (delivery, now)
        try:
            yield
        finally:
            self.stuck_at, self._running = float("inf"), None

    async def _together(self, handler: Handler, deliveries: Sequence[Delivery]) -> set[UUID]:
        assert handler.together is not None
        try:
            conn = await self._connection()
            async with asyncio.timeout(handler.model.timeout_seconds):
                return await handler.together(conn, deliveries)
        except BaseException:
            await self._drop_connection()
            raise

    def late_handler(self) -> LateHandler | None:
        """The handler that runs here, if it should have ended LATE_SECONDS ago. For another thread."""
        if (running := self._running) is None:
            return None
        delivery, started_at = running
        seconds = time.monotonic() - started_at
        if seconds < HANDLERS[delivery.actor].model.timeout_seconds + LATE_SECONDS:
            return None
        return LateHandler(actor=delivery.actor, message_id=delivery.id, seconds=seconds)

    async def _connection(self) -> Connection:
        if self._conn is None or self._conn.closed:
            self._conn = await connect(self._settings)
        await trace(self._conn)
        return self._conn

    async def _drop_connection(self) -> None:
        # after an error or a timeout the state of the connection is unknown, so it is not used again
        if self._conn is not None:
            await self._conn.close()
            self._conn = None

    async def _traced(self, delivery: Delivery) -> None:
        """The attempt as a span of the trace that the message belongs to."""
        header = delivery.headers.get(tracing.HEADER)
        parent = header if isinstance(header, str) else None
        attributes = {"messaging.message.id": str(delivery.id), "messaging.destination.name": delivery.queue}
        with tracing.span(delivery.actor, "consumer", parent=parent, attributes=attributes) as span:
            failed = await self._attempt(delivery)
            if failed is not None:
                tracing.fail(span, failed)

    async def _attempt(self, delivery: Delivery) -> str | None:
        """Returns the class of the error, if the attempt has failed and that is recorded."""
        log_context.set({"message_id": str(delivery.id), "actor": delivery.actor})
        outbox.cause.set(delivery.id)
        handler = HANDLERS[delivery.actor]
        conn = await self._connection()
        call = ExternalCall(
            delivery,
            connection=self._connection,
            timeout_seconds=handler.model.timeout_seconds,
            margin_seconds=self._settings.stint_lease_margin_seconds,
            worker=process_name(),
            base_seconds=self._settings.stint_retry_base_seconds,
        )
        started_at, succeeded = time.perf_counter(), False
        failed: str | None = None
        try:
            if handler.calls_out:
                await self._external_call(handler, call)
            else:
                await self._in_one_transaction(conn, handler, delivery)
            succeeded = True
        except BaseException as error:  # a SystemExit or CancelledError that the handler raises is a failed attempt, too
            await self._drop_connection()
            if refuses_writes(error):
                raise  # `run` retries: the attempt had no effect
            if is_unreachable(error):
                self._lost_connections += 1
                if self._lost_connections < MAX_LOST_CONNECTIONS:
                    raise  # `run` retries, and finds in the row whether the transaction was committed
            server_watch.call_failed(error)
            failure = failure_from(error)
            failed = failure.error_class
            if isinstance(error, UNDEFINED) and await pending(await self._connection()):
                if call.token is None:
                    raise DatabaseLacksMigrations from error
                logger.error("after an external call: %s", LACKS_MIGRATIONS)
                failure = replace(failure, uncounted=True)
            await self._record_failure(delivery, call, failure)
        finally:
            call.close()
            handler_metrics[delivery.actor].add(time.perf_counter() - started_at, succeeded=succeeded)
        return failed

    async def _in_one_transaction(self, conn: Connection, handler: Handler, delivery: Delivery) -> None:
        """The handler's effect and the state `done` commit together."""
        if handler.in_one_call is not None and not delivery.redelivered and await self._one_call(conn, handler, delivery):
            return
        if not await self._try_transaction(conn, handler, delivery, started=False) and await commit_start(conn, delivery):
            try:
                await self._try_transaction(conn, handler, delivery, started=True)
            finally:
                poison_lock.release()

    async def _one_call(self, conn: Connection, handler: Handler, delivery: Delivery) -> bool:
        """Handles the delivery in one statement. False: it had no effect.

        It is False also after an error of the statement, such as a violated constraint. The transaction that follows gets the
        same error from the handler, and records it.
        """
        assert handler.in_one_call is not None
        try:
            async with asyncio.timeout(handler.model.timeout_seconds):
                return await handler.in_one_call(conn, delivery)
        except psycopg.Error as error:
            if is_unreachable(error) or isinstance(error, STATEMENT_FAILED):
                raise
            return False

    async def _try_transaction(self, conn: Connection, handler: Handler, delivery: Delivery, *, started: bool) -> bool:
        """Handles the delivery in a transaction. False: it had no effect, because the message is suspected to be poison and its
        start is not committed yet."""
        base_seconds = self._settings.stint_retry_base_seconds
        async with asyncio.timeout(handler.model.timeout_seconds), conn.transaction():
            locked = await lock_for_delivery(conn, delivery, worker=process_name(), base_seconds=base_seconds, started=started)
            if locked is None:
                return True
            if not locked.can_start:
                return False
            await handler.function(conn, locked.message)
            await outbox.complete(conn, delivery.id)
            return True

    async def _external_call(self, handler: Handler, call: ExternalCall) -> None:
        try:
            await handler.function(call)
        except LeaseExpired:
            logger.warning("the lease expired before the result was written; the next attempt checks what happened")
        except AlreadySettled:
            pass
        else:
            if not call.completed:
                raise NonRetryable(f"the handler {handler.model.actor} returned without call.complete(): fix the handler")

    async def _record_failure(self, delivery: Delivery, call: ExternalCall, failure: Failure) -> None:
        """Records the failed attempt on a new connection, unless the message's state has changed since."""
        conn = await self._connection()
        async with conn.transaction():
            record = await outbox.lock(conn, delivery.id)
            if record is None:
                return
            current = record.is_leased(call.token) if call.token else record.is_delivery(delivery.delivery_number)
            if not current:
                return
            state = await record_failure(conn, record, failure, base_seconds=self._settings.stint_retry_base_seconds)
        if state is State.dead:
            logger.error("dead after %d attempts: %s", record.attempts + 1, failure.error_class)
        else:
            logger.info("attempt %d failed, will retry: %s", record.attempts + 1, failure.error_class)


def failure_from(error: BaseException) -> Failure:
    """What is recorded of an exception. A message that needs another SECRET_KEY is retried until this key is set."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    waits = error.seconds if isinstance(error, RetryAfter) else WRONG_KEY_SECONDS if isinstance(error, WrongSecretKey) else None
    return Failure(
        error_class=name,
        error=str(error)[:MAX_ERROR_LENGTH],
        traceback="".join(traceback.format_exception(error))[-MAX_TRACEBACK_LENGTH:],
        worker=process_name(),
        frame=_frame_of(error),
        uncounted=isinstance(error, (RetryAfter, WrongSecretKey, *CONTENTION)),
        final=isinstance(error, NonRetryable),
        delay_seconds=waits,
    )


def _frame_of(error: BaseException) -> str:
    """The innermost frame of Stint's own code, as file:function, or "".

    Frames of `schemas/postgres` count only if there is no other one. They run the statements of all modules, but a failure
    group has to name the module whose statement has failed.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(f"{ROOT}{os.sep}")]
    own = [frame for frame in frames if f"{os.sep}.venv{os.sep}" not in frame.filename]
    callers = [frame for frame in own if Path(frame.filename).parent != ROOT / "schemas" / "postgres"]
    if not own:
        return ""
    innermost = (callers or own)[-1]
    return f"{Path(innermost.filename).relative_to(ROOT)}:{innermost.name}"

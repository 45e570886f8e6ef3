"""External calls: handlers that call Xero, Slack, SMTP or the identity provider.

A transaction must not stay open during a call to another server. So such a message is handled in two short transactions, with
a lease between them.

    @handles(SyncBill, calls_out=True)
    async def sync_bill(call: ExternalCall) -> None:
        async with call.start() as (conn, message):   # transaction 1: what the call needs, and the lease
            bill = await …
        async with call.timeout():                    # no transaction; cancelled after the message's timeout_seconds
            entry = await xero.…
        async with call.complete() as conn:           # transaction 2: the result, if the lease is still valid
            await …

A handler that finds nothing to do calls `call.skip()` within `start`. In either transaction `call.reschedule(seconds)` runs the
message again later without counting an attempt. If the call fails, the handler stores what it has learned with
`call.record_under_lease()`, and then raises.

While the lease is valid, no other worker handles the message. The lease expires if the worker dies or hangs. Then the message
becomes ready again, and `call.outcome_unknown` is true: the next attempt first has to check whether the last call succeeded.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

from actors.runtime.deliveries import Delivery, commit_start, lock_for_delivery, poison_lock
from schemas.outbox import outbox
from schemas.postgres.connection import Connection


class AlreadySettled(Exception):
    """There is nothing to do for this delivery.

    It is a duplicate, or another worker owns the message, or `start` has rescheduled or completed the message without a call.
    """


class LeaseExpired(AlreadySettled):
    """The lease expired before the result was written. The next attempt checks what happened."""


class ExternalCall:
    """One attempt at a message that needs an external call."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        connection: Callable[[], Awaitable[Connection]],
        timeout_seconds: float,
        margin_seconds: float,
        worker: str,
        base_seconds: float,
    ) -> None:
        self.id = delivery.id  # of the message
        self.token: UUID | None = None  # of the lease; None before `start` has committed it
        self.completed = False
        self.failures = 0  # earlier attempts that failed, with those that did not count against max_attempts
        self._delivery = delivery
        self._connection = connection
        self._timeout_seconds, self._margin_seconds = timeout_seconds, margin_seconds
        self._worker, self._base_seconds = worker, base_seconds
        self._lease_ends = 0.0
        self._reschedule_seconds: float | None = None
        self._skipped = False
        self._cleanup = ExitStack()

    @asynccontextmanager
    async def start(self) -> AsyncIterator[tuple[Connection, Any]]:
        """Transaction 1: yields the connection and the message. What the block writes is committed together with the lease.

        Raises AlreadySettled if there is nothing to do, and after `skip` and `reschedule`.
        """
        conn = await self._connection()
        # A message that is suspected to end its worker needs a second round: its start is committed first, in between.
        for started in (False, True):
            async with conn.transaction():
                locked = await lock_for_delivery(
                    conn, self._delivery, worker=self._worker, base_seconds=self._base_seconds, started=started
                )
                if locked is not None and locked.can_start:
                    self.failures = locked.record.attempts
                    lease_seconds = self._timeout_seconds + self._margin_seconds
                    yield conn, locked.message
                    if await self._skipped_or_rescheduled(conn):
                        break
                    self.token = await outbox.lease(conn, locked.record, seconds=lease_seconds)
                    self._lease_ends = time.monotonic() + lease_seconds
                    return
            if locked is None:
                raise AlreadySettled
            if not await commit_start(conn, self._delivery):
                raise AlreadySettled
            self._cleanup.callback(poison_lock.release)
        raise AlreadySettled

    def skip(self) -> None:
        """Call it within `start` if no call is needed.

        At the end of the block, its transaction marks the message as done. Then AlreadySettled is raised, so the handler does
        not continue.
        """
        self._skipped = True

    def reschedule(self, seconds: float) -> None:
        """Call it within `start` or `complete`: the message runs again `seconds` from now, without counting an attempt.

        At the end of `start`, AlreadySettled is raised as after `skip`.
        """
        self._reschedule_seconds = seconds

    async def _skipped_or_rescheduled(self, conn: Connection) -> bool:
        """Writes what `skip` or `reschedule` asked for. Returns whether one of them was called."""
        if self._reschedule_seconds is not None:
            await outbox.reschedule(conn, self.id, seconds=self._reschedule_seconds)
        elif self._skipped:
            await outbox.complete(conn, self.id)
        return self._reschedule_seconds is not None or self._skipped

    @property
    def outcome_unknown(self) -> bool:
        """Whether an earlier attempt has failed: its call may have succeeded all the same.

        - It is true after any error, also after a clear refusal: the error is not examined.
        - It is true after an attempt that did not count against max_attempts. A deadlock in `complete`, for example, ends an
          attempt after its call.
        - It is false for a message that was only rescheduled.
        """
        return self.failures > 0

    async def connection(self) -> Connection:
        """The connection of this worker, for what has to be committed between the two transactions."""
        return await self._connection()

    def close(self) -> None:
        """Ends the attempt: releases `poison_lock` if this message had it."""
        self._cleanup.close()

    @asynccontextmanager
    async def timeout(self) -> AsyncIterator[None]:
        """The block makes the call. It is cancelled after the message's `timeout_seconds`, and then raises TimeoutError.

        Raises LeaseExpired if the lease would end before that. A blocking client in a thread cannot be cancelled: it needs a
        shorter timeout of its own.
        """
        if self.token is None:
            raise RuntimeError("use call.start() before call.timeout(): the lease must be committed before the call")
        if time.monotonic() + self._timeout_seconds > self._lease_ends:
            raise LeaseExpired
        async with asyncio.timeout(self._timeout_seconds):
            yield

    @asynccontextmanager
    async def complete(self) -> AsyncIterator[Connection]:
        """Transaction 2: commits what the block writes, and marks the message as done. Raises LeaseExpired."""
        async with self.record_under_lease() as conn:
            yield conn
            if not await self._skipped_or_rescheduled(conn):
                await outbox.complete(conn, self.id)
        self.completed = True

    @asynccontextmanager
    async def record_under_lease(self) -> AsyncIterator[Connection]:
        """A transaction for what must be stored although the attempt fails.

        Raises LeaseExpired if the lease has expired. So such an attempt cannot overwrite what a later one has written.
        """
        conn = await self._connection()
        async with conn.transaction():
            record = await outbox.lock(conn, self._delivery.id)
            if self.token is None or record is None or not record.is_leased(self.token):
                raise LeaseExpired
            yield conn

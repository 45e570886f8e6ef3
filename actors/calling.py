"""Call-outs: work that asks something of the outside (Xero, Slack, SMTP) and so cannot be one transaction.

    @handles(SyncBill, calls_out=True)
    async def sync_bill(work: CallOut) -> None:
        async with work.begin() as (conn, message):   # transaction 1: what is intended, and a lease
            bill = await …
        async with work.calling():                    # no transaction; cut off at the message's deadline
            entry = await xero.…
        async with work.settle() as conn:             # transaction 2: the result, if the lease is still ours
            await …

In either transaction the handler may find that nothing is left to do (`work.finish()`, in the first), or that it has to come
back (`work.put_off(seconds)`), at no cost. What a failed call has taught is written down in `work.noting()` before the failure
is raised.

While the lease lasts nobody else works on the message. When it lapses, because the worker died or hung, the message becomes
ready again, and `work.unsure` tells the next attempt to find out first whether the last call went through.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

from actors.deliveries import Delivery, note_beginning, quarantine, take
from schemas import ledger
from schemas.database import Connection


class Left(Exception):
    """The delivery is settled by leaving it: a duplicate, or somebody else's by now."""


class LeaseLost(Left):
    """The lease ran out before the result could be written: the next attempt finds out what happened."""


class CallOut:
    """One attempt at a call-out."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        connection: Callable[[], Awaitable[Connection]],
        deadline_seconds: float,
        margin_seconds: float,
        worker: str,
        base_seconds: float,
    ) -> None:
        self.id = delivery.id  # the message's
        self.token: UUID | None = None
        self.settled = False
        self.unsure = False  # an earlier attempt failed or lapsed: its call may have gone through
        self._delivery = delivery
        self._connection = connection
        self._deadline_seconds, self._margin_seconds = deadline_seconds, margin_seconds
        self._worker, self._base_seconds = worker, base_seconds
        self._lease_ends = 0.0
        self._put_off: float | None = None
        self._finished = False
        self._alone = ExitStack()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[tuple[Connection, Any]]:
        """Transaction 1: yields the connection and the message; commits what the block wrote together with the lease."""
        conn = await self._connection()
        for noted in (False, True):
            async with conn.transaction():
                taken = await take(conn, self._delivery, worker=self._worker, base_seconds=self._base_seconds, noted=noted)
                if taken is not None and taken.may_begin:
                    self.unsure = taken.record.attempts > 0
                    lease_seconds = self._deadline_seconds + self._margin_seconds
                    yield conn, taken.message
                    if await self._ended(conn):
                        break
                    self.token = await ledger.lease(conn, taken.record, seconds=lease_seconds)
                    self._lease_ends = time.monotonic() + lease_seconds
                    return
            if taken is None:
                raise Left
            if not await note_beginning(conn, self._delivery):
                raise Left
            self._alone.callback(quarantine.release)
        raise Left

    def finish(self) -> None:
        """Within `begin`: there is nothing to call for; the message is done with this transaction."""
        self._finished = True

    def put_off(self, seconds: float) -> None:
        """Within `begin` or `settle`: instead of calling, or of being done, the message comes back after so long."""
        self._put_off = seconds

    async def _ended(self, conn: Connection) -> bool:
        if self._put_off is not None:
            await ledger.put_off(conn, self.id, seconds=self._put_off)
        elif self._finished:
            await ledger.settle(conn, self.id)
        return self._put_off is not None or self._finished

    async def connection(self) -> Connection:
        """This worker's connection, between the transactions: for what has to be committed before the call."""
        return await self._connection()

    def end(self) -> None:
        """Lets the next message that is under suspicion begin."""
        self._alone.close()

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """The call itself: cut off at the message's deadline, refused once the lease has run out. A blocking client in a
        thread needs a socket deadline of its own, within this one."""
        if self.token is None:
            raise RuntimeError("a call-out calls after begin(), so that its lease is committed")
        if time.monotonic() + self._deadline_seconds > self._lease_ends:
            raise LeaseLost
        async with asyncio.timeout(self._deadline_seconds):
            yield

    @asynccontextmanager
    async def settle(self) -> AsyncIterator[Connection]:
        """Transaction 2: the block's writes, and the message is done, if the lease is still ours; else LeaseLost."""
        async with self.noting() as conn:
            yield conn
            if not await self._ended(conn):
                await ledger.settle(conn, self.id)
        self.settled = True

    @asynccontextmanager
    async def noting(self) -> AsyncIterator[Connection]:
        """A transaction beside, under the lease: what is known, although the attempt is about to fail. Else LeaseLost."""
        conn = await self._connection()
        async with conn.transaction():
            record = await ledger.lock(conn, self._delivery.id)
            if self.token is None or record is None or not record.is_leased(self.token):
                raise LeaseLost
            yield conn

"""Waits for the outcome of a message (`?wait`) without keeping a connection: one poll serves all waiting requests."""

import asyncio
from collections import defaultdict
from uuid import UUID

from schemas.outbox import outbox
from schemas.outbox.outbox import State
from schemas.postgres.connection import is_unreachable
from schemas.postgres.pool import Database

POLL_SECONDS = 0.015
RETRY_SECONDS = 0.5
ENDED = {State.done, State.dead, State.discarded}


class OutcomeWaiter:
    """The waiting requests of one API process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[UUID, set[asyncio.Future[State]]] = defaultdict(set)
        self._polling: asyncio.Task[None] | None = None

    async def wait_for(self, message_id: UUID, *, seconds: float) -> State | None:
        """The final state of the message, or None if it has none within `seconds`."""
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._waiting[message_id].add(future)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting[message_id].discard(future)
            if not self._waiting[message_id]:
                del self._waiting[message_id]

    async def _poll(self) -> None:
        while self._waiting:
            pause, asked = POLL_SECONDS, list(self._waiting)
            try:
                async with self._database.connection() as conn:
                    # one that is not there any more was done, and pruned since
                    states = dict.fromkeys(asked, State.done) | await outbox.states(conn, asked)
            except Exception as error:
                if not is_unreachable(error):
                    raise
                states, pause = {}, RETRY_SECONDS
            for message_id, state in states.items():
                if state in ENDED:
                    for future in self._waiting.get(message_id, ()):
                        if not future.done():
                            future.set_result(state)
            await asyncio.sleep(pause)

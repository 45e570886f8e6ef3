"""Waiting for what an actor makes of a message (`?wait`), without holding a connection: one poll serves all who wait."""

import asyncio
from collections import defaultdict
from uuid import UUID

from schemas import ledger
from schemas.database import Database, is_unreachable
from schemas.ledger import State

POLL_SECONDS = 0.015
AWAY_SECONDS = 0.5
ENDED = {State.done, State.dead, State.discarded}


class Outcomes:
    """The waiters of one API process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[UUID, set[asyncio.Future[State]]] = defaultdict(set)
        self._polling: asyncio.Task[None] | None = None

    async def of(self, message_id: UUID, *, seconds: float) -> State | None:
        """How the message ended, or None if it has not within that time."""
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
            pause = POLL_SECONDS
            try:
                async with self._database.connection() as conn:
                    states = await ledger.states(conn, list(self._waiting))
            except Exception as error:
                if not is_unreachable(error):
                    raise
                states, pause = {}, AWAY_SECONDS
            for message_id, state in states.items():
                if state in ENDED:
                    for future in self._waiting.get(message_id, ()):
                        if not future.done():
                            future.set_result(state)
            await asyncio.sleep(pause)

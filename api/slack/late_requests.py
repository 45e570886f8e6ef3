"""Requests of Slack's that are acknowledged before their work, because they were read late."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

from api.slack.responder import Responder
from schemas.messages import AnswerSlack
from schemas.outbox import outbox
from schemas.outbox.outbox import State
from schemas.postgres.connection import UNREACHABLE

RECEIPT_SECONDS = 0.5  # that an acknowledgement waits until the outbox has what is sent if the work is lost
LOST_SECONDS = 45.0  # after that long, an answer that was acknowledged and not sent counts as lost


async def run_late(
    responder: Responder, work: Callable[[], Coroutine[Any, Any, None]], response_url: str, *, lost: str
) -> None:
    """Starts the work of a request that is acknowledged after this. Only a few run at the same time, in order, so that the
    acknowledgements of others do not wait for all of it.

    If this process ends before the work is done, the person reads the text `lost`: its message is in the outbox before the
    acknowledgement, if Postgres takes it within RECEIPT_SECONDS, and it is taken back after the work."""
    receipt = responder.run_in_background(_enqueue_lost(responder, response_url, lost))
    await asyncio.wait({receipt}, timeout=RECEIPT_SECONDS)

    async def in_turn() -> None:
        async with responder.late_places:
            await work()
        with suppress(*UNREACHABLE):
            await _take_back(responder, await receipt)

    responder.run_in_background(in_turn())


async def _enqueue_lost(responder: Responder, response_url: str, text: str) -> UUID:
    async with responder.transaction() as conn:
        due = await conn.value("SELECT clock_timestamp() + make_interval(secs => %s)", (LOST_SECONDS,))
        return await outbox.enqueue(conn, AnswerSlack(response_url=response_url, text=text), available_at=due)


async def _take_back(responder: Responder, message_id: UUID) -> None:
    async with responder.transaction() as conn:
        found = await outbox.lock(conn, message_id)
        if found is not None and found.state is State.ready:
            await outbox.complete(conn, message_id)

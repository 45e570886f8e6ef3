"""The drain: empties every dead-letter queue of RabbitMQ's into Postgres, where a person can see it.

What it finds there was refused by a consumer, or dead-lettered by RabbitMQ for reasons of its own. A message of ours that is
still waiting to be handled gets a failed attempt, and so a retry; everything else is kept raw.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from dramatiq.common import xq_name
from pika.spec import Basic, BasicProperties

from actors.amqp import Amqp
from actors.broker import read_reference, xq_arguments
from actors.handling import process_name
from schemas import failures, ledger
from schemas.database import Connection, connect
from schemas.failures import Failure
from schemas.ledger import Record
from schemas.messages import MODELS, QUEUES
from schemas.settings import Settings

logger = logging.getLogger(__name__)

# RabbitMQ's own; anything else was written by a stranger, and is for no log
REASONS = frozenset({"rejected", "expired", "maxlen", "delivery_limit"})


@dataclass(frozen=True)
class Letter:
    """A message out of a dead-letter queue, as it came."""

    queue: str
    body: bytes
    headers: dict[str, Any]
    tag: int


async def drain(settings: Settings) -> None:
    """Drains until the connection to RabbitMQ or Postgres is lost."""
    amqp = await Amqp.open(settings.broker_url)
    try:
        letters: asyncio.Queue[Letter] = asyncio.Queue()
        for queue in QUEUES:
            await amqp.declare(xq_name(queue), xq_arguments(quorum=amqp.offers_quorum))
            await amqp.consume(xq_name(queue), _receiver(queue, letters), prefetch=50)
        async with await connect(settings) as conn:
            while True:
                letter = asyncio.ensure_future(letters.get())
                waiting: set[asyncio.Future[Any]] = {letter, amqp.lost}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not letter.done():
                    letter.cancel()
                    await amqp.lost
                async with conn.transaction():
                    await keep(conn, letter.result(), base_seconds=settings.stint_retry_base_seconds)
                amqp.acknowledge(letter.result().tag)
    finally:
        amqp.close()


def _receiver(queue: str, letters: asyncio.Queue[Letter]) -> Any:
    def receive(method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        letters.put_nowait(Letter(queue, body, dict(properties.headers or {}), method.delivery_tag or 0))

    return receive


async def keep(conn: Connection, letter: Letter, *, base_seconds: float) -> None:
    """Settles a letter in the caller's transaction: a failed attempt of our message, or a foreign letter."""
    reason = f"dead-lettered by RabbitMQ: {_reason(letter.headers)}"
    if (named := read_reference(letter.body)) is not None:
        record = await ledger.lock(conn, named[0])
        if record is not None and record.is_delivery(named[1]):
            await failures.fail(conn, record, _dead_lettered(record, reason), base_seconds=base_seconds)
            return
    await failures.keep_foreign(conn, queue=letter.queue, reason=reason, body=letter.body, headers=letter.headers)
    logger.error("a foreign letter arrived on %s (%s); see it beside the dead letters", letter.queue, reason)


def _reason(headers: dict[str, Any]) -> str:
    deaths = headers.get("x-death")  # RabbitMQ's, or whatever a stranger wrote there
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    reason = latest.get("reason") if isinstance(latest, dict) else None
    return reason if isinstance(reason, str) and reason in REASONS else "unknown"


def _dead_lettered(record: Record, reason: str) -> Failure:
    model = MODELS.get(record.actor)
    if model is None:
        reason = f"there is no actor {record.actor} in this version ({reason})"
    elif model.queue != record.queue:
        reason = f"{record.actor} belongs on the queue {model.queue}, not on {record.queue} ({reason})"
    return Failure(error_class="DeadLettered", error=reason, traceback="", worker=process_name())

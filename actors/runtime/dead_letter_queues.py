"""Consumes RabbitMQ's dead-letter queues and records their messages in Postgres, where people can see them.

A message gets there because a consumer rejected it, or because RabbitMQ dead-lettered it (expired, queue too long, delivered
too often). If it is the current delivery of a row in `messages`, that row gets a failed attempt, and so a retry. Everything
else is recorded as an unrecognized message.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from dramatiq.common import xq_name
from pika.spec import Basic, BasicProperties

from actors.runtime.broker import decode_reference, xq_arguments
from actors.runtime.failures import record_failure
from schemas.messages import MODELS, QUEUES
from schemas.outbox import outbox
from schemas.outbox.dead_letters import unrecognized_messages
from schemas.outbox.failed_attempts import Failure
from schemas.outbox.heartbeats import process_name
from schemas.outbox.outbox import Record
from schemas.postgres.connection import Connection, connect
from schemas.rabbitmq.amqp import Amqp
from schemas.settings import Settings

logger = logging.getLogger(__name__)

# Those of RabbitMQ. Any other text was written by the unknown publisher, and must not get into logs.
REASONS = frozenset({"rejected", "expired", "maxlen", "delivery_limit"})


@dataclass(frozen=True)
class DeadLettered:
    """A raw message from a dead-letter queue."""

    queue: str
    body: bytes
    headers: dict[str, Any]
    tag: int


async def drain(settings: Settings) -> None:
    """Consumes the dead-letter queues until the connection to RabbitMQ or Postgres is lost."""
    async with await Amqp.open(settings.broker_url) as amqp:
        received: asyncio.Queue[DeadLettered] = asyncio.Queue()
        for queue in QUEUES:
            await amqp.declare(xq_name(queue), xq_arguments(settings))
            await amqp.consume(xq_name(queue), _receiver(queue, received), prefetch=50)
        async with await connect(settings) as conn:
            while True:
                next_one = asyncio.ensure_future(received.get())
                waiting: set[asyncio.Future[Any]] = {next_one, amqp.lost}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not next_one.done():
                    next_one.cancel()
                    await amqp.lost
                async with conn.transaction():
                    await record_dead_lettered(conn, next_one.result(), base_seconds=settings.stint_retry_base_seconds)
                amqp.acknowledge(next_one.result().tag)


def _receiver(queue: str, received: asyncio.Queue[DeadLettered]) -> Any:
    def receive(method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        received.put_nowait(DeadLettered(queue, body, dict(properties.headers or {}), method.delivery_tag or 0))

    return receive


async def record_dead_lettered(conn: Connection, message: DeadLettered, *, base_seconds: float) -> None:
    """Records, in the caller's transaction, a failed attempt of the message, or an unrecognized message."""
    reason = f"dead-lettered by RabbitMQ: {_reason(message.headers)}"
    if (reference := decode_reference(message.body)) is not None:
        message_id, delivery_number = reference
        record = await outbox.lock(conn, message_id)
        if record is not None and record.is_delivery(delivery_number):
            await record_failure(conn, record, _failure(record, reason), base_seconds=base_seconds)
            return
    await unrecognized_messages.record_unrecognized(
        conn, queue=message.queue, reason=reason, body=message.body, headers=message.headers
    )
    logger.error("recorded an unrecognized message: queue=%s reason=%r; see ./stint dead list", message.queue, reason)


def _reason(headers: dict[str, Any]) -> str:
    deaths = headers.get("x-death")  # from RabbitMQ, or anything that the publisher wrote there
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    reason = latest.get("reason") if isinstance(latest, dict) else None
    return reason if isinstance(reason, str) and reason in REASONS else "unknown"


def _failure(record: Record, reason: str) -> Failure:
    model = MODELS.get(record.actor)
    if model is None:
        reason = f"there is no actor {record.actor} in this version ({reason})"
    elif model.queue != record.queue:
        reason = f"{record.actor} belongs on the queue {model.queue}, not on {record.queue} ({reason})"
    return Failure(error_class="DeadLettered", error=reason, traceback="", worker=process_name())

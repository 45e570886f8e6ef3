"""Dramatiq's RabbitMQ broker, changed so that no message is lost: other rules for what it consumes, acknowledges and declares.

Only the relay creates queues. A worker whose queue is missing waits for the relay. The relay must notice that the queue was
lost, because it then sends all messages again that were in it.

This module overrides and uses private names of Dramatiq. tests/actors/test_dramatiq.py checks that they exist.
"""

import json
import logging
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import dramatiq
import pika
from dramatiq.broker import MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import xq_name
from dramatiq.errors import ConnectionClosed
from pika.exceptions import AMQPConnectionError

from schemas.messages import QUEUES
from schemas.postgres.connection import Connection
from schemas.rabbitmq.amqp import Amqp, QueueUnusable
from schemas.rabbitmq.hosts import hosts_of
from schemas.rabbitmq.problems import LOST, describe_difference, lost
from schemas.settings import Settings

logger = logging.getLogger(__name__)


def encode_reference(*, message_id: UUID, delivery_number: int, actor: str, queue: str) -> bytes:
    """What is published: a Dramatiq message with the id of a row in `messages` and the number of this delivery."""
    return (_reference_format(actor, queue) % {"id": message_id, "number": delivery_number}).encode()


@lru_cache(maxsize=1000)
def _reference_format(actor: str, queue: str) -> str:
    """A %-format for references to messages of this actor, with `id` and `number`.

    To make a Dramatiq message for each reference would take ten times as long.
    """
    message: dramatiq.Message[Any] = dramatiq.Message(
        queue_name=queue.replace("%", "%%"),
        actor_name=actor.replace("%", "%%"),
        args=(),
        kwargs={"id": "%(id)s", "delivery_number": "%(number)d"},
        options={},
        message_id="%(id)s:%(number)d",
    )
    return message.encode().decode().replace('"%(number)d"', "%(number)d")


def decode_reference(body: bytes) -> tuple[UUID, int] | None:
    """The message id and delivery number in a raw body, or None if it was not made by `encode_reference`."""
    try:
        kwargs = json.loads(body)["kwargs"]
        delivery_number = kwargs["delivery_number"]
        return (UUID(kwargs["id"]), delivery_number) if type(delivery_number) is int and delivery_number < 2**31 else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def is_well_formed(message: MessageProxy, queue: str, actors: Mapping[str, dramatiq.Actor[..., Any]]) -> bool:
    """Whether it is safe to let Dramatiq process the message.

    A wrong queue_name, or options that are not an object, would end a worker thread or restart the consumer in a loop.

    The actor must belong to this queue, also in a worker that consumes several queues. Another worker may consume this queue
    alone, and would not know the actor.
    """
    inner = message._message
    if not isinstance(inner.kwargs, dict) or set(inner.kwargs) != {"id", "delivery_number"}:
        return False
    return (
        inner.queue_name == queue
        and inner.actor_name in actors
        and actors[inner.actor_name].queue_name == queue
        and inner.options == {}
        and len(inner.args) == 0
        and isinstance(inner.message_id, str)
        and isinstance(inner.kwargs["id"], str)
        and decode_reference(json.dumps({"kwargs": inner.kwargs}).encode()) is not None
    )


def _without_traceback(record: logging.LogRecord) -> bool:
    # Dramatiq logs a message that it cannot decode with the whole body in the exception: it may be long and contain secrets
    record.exc_info = None
    return True


class OutboxConsumer(_RabbitmqConsumer):
    """A consumer of one queue that

    - rejects malformed messages, so that they go to the dead-letter queue;
    - acknowledges a message only on the connection that delivered it;
    - always closes its connection.
    """

    def __init__(self, *arguments: Any) -> None:
        self.connection: Any = None  # the base class sets it, and may fail after that
        try:
            super().__init__(*arguments)  # type: ignore[no-untyped-call]
        except LOST as error:  # such as the certificate of a server: Dramatiq expects only some of pika's errors
            self._close_connection()
            raise ConnectionClosed(lost(error)) from error  # type: ignore[no-untyped-call]
        except BaseException:
            self._close_connection()
            raise
        self.broker.remember(self.connection)
        self.logger.addFilter(_without_traceback)
        self._latest: tuple[bytes, dict[str, Any]] = b"", {}
        self.iterator = self._remember_raw(self.iterator)

    def close(self) -> None:
        """Also closes the connection. The base class leaves it open if the channel is closed, such as after a lost queue."""
        try:
            super().close()  # type: ignore[no-untyped-call]
        finally:
            self._close_connection()

    def _close_connection(self) -> None:
        if self.connection is not None and self.connection.is_open:
            with suppress(*LOST):
                self.connection.close()

    def _remember_raw(self, deliveries: Iterator[Any]) -> Generator[Any, None, None]:
        # Dramatiq drops the raw body and headers, and an unrecognized message is recorded with both
        for method, properties, body in deliveries:
            if method is not None:
                self._latest = body, dict(properties.headers or {})
            yield method, properties, body

    def __next__(self) -> Any:
        message: Any = super().__next__()  # type: ignore[no-untyped-call]
        if message is None:
            return None
        message._consumer = self
        message.raw, message.headers = self._latest
        if not self._is_well_formed(message):
            logger.error("dead-lettered a malformed message: queue=%s", self.queue_name)
            self.nack(message)
            return None
        return message

    def _is_well_formed(self, message: MessageProxy) -> bool:
        try:
            return is_well_formed(message, self.queue_name, self.broker.actors)
        except Exception:  # no content of a message may stop the consumer
            return False

    def ack(self, message: Any) -> None:
        # after a reconnect, the old delivery tag would acknowledge another message
        if message._consumer is self and not getattr(message, "unfinished", False):
            # it is delivered again, as a duplicate; Dramatiq would make this thread wait for the new connection
            with suppress(ConnectionClosed):
                super().ack(message)  # type: ignore[no-untyped-call]

    def nack(self, message: Any) -> None:
        if message._consumer is self:
            with suppress(ConnectionClosed):
                super().nack(message)  # type: ignore[no-untyped-call]


class OutboxBroker(RabbitmqBroker):
    """The broker of a worker. It never creates a queue.

    It has no delay queues and none of Dramatiq's middleware, because both can lose messages.
    """

    def __init__(self, amqp_url: str) -> None:
        self._hosts = hosts_of(amqp_url)
        self._order = threading.local()  # `parameters`: what this thread tried last
        super().__init__(middleware=[])

    @property
    def parameters(self) -> list[pika.URLParameters]:
        """The servers of RabbitMQ, for one attempt of this thread to connect. pika tries one after the other."""
        self._order.parameters = self._hosts.in_order()
        return self._order.parameters  # type: ignore[no-any-return]

    @parameters.setter
    def parameters(self, _: Any) -> None:
        """Does nothing. The base class sets this once, and reads it for each connection."""

    @property
    def connection(self) -> Any:
        known = getattr(self.state, "connection", None)
        try:
            opened: Any = super().connection
        except LOST as error:
            raise AMQPConnectionError(str(lost(error))) from error
        if opened is not known:
            self.remember(opened)
        return opened

    @connection.deleter
    def connection(self) -> None:
        RabbitmqBroker.connection.fdel(self)  # type: ignore[attr-defined]

    def remember(self, connection: pika.BlockingConnection) -> None:
        """Records which server this thread's new connection leads to, and that the servers before it could not be used."""
        used = connection._impl.params
        for parameters in self._order.parameters:
            if (parameters.host, parameters.port) == (used.host, used.port):
                return self._hosts.worked(parameters)
            self._hosts.failed(parameters)

    @property
    def consumer_class(self) -> type[OutboxConsumer]:
        return OutboxConsumer

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)  # type: ignore[no-untyped-call]

    def _declare_queue(self, queue_name: str) -> Any:
        return self.channel.queue_declare(queue=queue_name, passive=True)

    def _declare_dq_queue(self, queue_name: str) -> None:
        """Creates none: delayed messages wait in Postgres, not in a worker's memory."""

    def _declare_xq_queue(self, queue_name: str) -> Any:
        return self.channel.queue_declare(queue=xq_name(queue_name), passive=True)


@dataclass(frozen=True)
class Queues:
    """What a relay has found at RabbitMQ."""

    usable: list[str]  # the queues that it can publish to
    findings: list[str]  # of each queue that is not as it would be declared, or cannot be used: a sentence without full stop


async def declare_queues(amqp: Amqp, conn: Connection, settings: Settings) -> Queues:
    """Declares the queues. A queue that exists with another type, or with other arguments, is used as it is.

    If a queue did not exist, its messages are lost. All that were sent to it are sent again. So no message is lost even if
    RabbitMQ loses its disk.
    """
    found = Queues([], [])
    for queue in QUEUES:
        try:
            if not await amqp.exists(queue):
                await _requeue_lost(conn, queue)
            # first the dead-letter queue, so that it is there when a worker rejects a message
            for name, arguments in (
                (xq_name(queue), xq_arguments(settings)),
                (queue, queue_arguments(queue, settings)),
            ):
                if (refusal := await amqp.declare(name, arguments)) is not None:
                    found.findings.append(describe_difference(name, refusal))
            found.usable.append(queue)
        except QueueUnusable as error:
            found.findings.append(str(error))
    return found


async def _requeue_lost(conn: Connection, queue: str) -> None:
    cursor = await conn.execute(
        """
        UPDATE messages SET state = 'ready' WHERE id IN (
            SELECT id FROM messages WHERE queue = %s AND state = 'sent' FOR UPDATE SKIP LOCKED)
        """,
        (queue,),
    )
    if cursor.rowcount:
        logger.warning("RabbitMQ lost a queue, requeued its messages: queue=%s count=%d", queue, cursor.rowcount)


def queue_arguments(queue: str, settings: Settings) -> dict[str, Any]:
    """The arguments of a work queue for its declaration. Rejected messages go to its dead-letter queue `<queue>.XQ`."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": xq_name(queue), **xq_arguments(settings)}


def xq_arguments(settings: Settings) -> dict[str, Any]:
    """The arguments of a dead-letter queue for its declaration. It has no time to live, so no message expires unnoticed."""
    return {"x-queue-type": settings.stint_queue_type}  # named also if classic: a virtual host may have another default

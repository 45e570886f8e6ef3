"""Dramatiq's RabbitMQ broker, made to lose nothing: what it may consume, acknowledge and declare.

Only the relay creates queues. A worker that finds its queue missing waits for the relay, because the relay must notice that
the queue was gone: whatever had been sent to it is then sent again.
"""

import json
import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import xq_name
from dramatiq.errors import ConnectionClosed

from actors.amqp import HEARTBEAT_SECONDS

logger = logging.getLogger(__name__)


def reference(*, message_id: UUID, publication: int, actor: str, queue: str) -> bytes:
    """What travels: a Dramatiq message that names the row and says which of its publications this is."""
    message: dramatiq.Message[Any] = dramatiq.Message(
        queue_name=queue,
        actor_name=actor,
        args=(),
        kwargs={"id": str(message_id), "publication": publication},
        options={},
        message_id=f"{message_id}:{publication}",
    )
    return message.encode()


def read_reference(body: bytes) -> tuple[UUID, int] | None:
    """The row and publication that a raw body names, or None for what is no reference of ours."""
    try:
        kwargs = json.loads(body)["kwargs"]
        publication = kwargs["publication"]
        return (UUID(kwargs["id"]), publication) if type(publication) is int and publication < 2**31 else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def is_well_formed(message: MessageProxy, queue: str, actors: Mapping[str, dramatiq.Actor[..., Any]]) -> bool:
    """Whether Dramatiq can be let near the message. One whose queue_name differs, or whose options are no object, would
    kill a worker thread or crash-loop the consumer. The actor has to be one of that queue: a worker of all queues must refuse
    what one of this queue alone would not know."""
    inner = message._message
    if not isinstance(inner.kwargs, dict) or set(inner.kwargs) != {"id", "publication"}:
        return False
    return (
        inner.queue_name == queue
        and inner.actor_name in actors
        and actors[inner.actor_name].queue_name == queue
        and inner.options == {}
        and len(inner.args) == 0
        and isinstance(inner.message_id, str)
        and isinstance(inner.kwargs["id"], str)
        and read_reference(json.dumps({"kwargs": inner.kwargs}).encode()) is not None
    )


def _without_traceback(record: logging.LogRecord) -> bool:
    # Dramatiq logs what it can't decode with the whole body in the exception: secrets, and as long as a stranger likes
    record.exc_info = None
    return True


class LedgerConsumer(_RabbitmqConsumer):
    """Dead-letters what is malformed; acknowledges only what this very connection delivered."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]
        self.logger.addFilter(_without_traceback)
        self._latest: tuple[bytes, dict[str, Any]] = b"", {}
        self.iterator = self._remembering(self.iterator)

    def _remembering(self, deliveries: Iterator[Any]) -> Generator[Any, None, None]:
        # Dramatiq keeps of a delivery what it could decode; what turns out to be a stranger's is kept as it came
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
            logger.error("a malformed message on %s was dead-lettered", self.queue_name)
            self.nack(message)
            return None
        return message

    def _is_well_formed(self, message: MessageProxy) -> bool:
        try:
            return is_well_formed(message, self.queue_name, self.broker.actors)
        except Exception:  # whatever a stranger thought of: it must not stop the consumer
            return False

    def ack(self, message: Any) -> None:
        # after a reconnect the old delivery tag would acknowledge some other message
        if message._consumer is self and not getattr(message, "left", False):
            with suppress(ConnectionClosed):  # it comes again, and is known; Dramatiq would have the thread wait for that
                super().ack(message)  # type: ignore[no-untyped-call]

    def nack(self, message: Any) -> None:
        if message._consumer is self:
            with suppress(ConnectionClosed):
                super().nack(message)  # type: ignore[no-untyped-call]


class LedgerBroker(RabbitmqBroker):
    """No delay queues, no middleware of Dramatiq's (each of them loses something), and queues that only the relay creates."""

    def __init__(self, amqp_url: str) -> None:
        super().__init__(url=amqp_url, middleware=[])
        # RabbitMQ would propose a minute, and a connection that died silently be found out after two
        parameters: Any = self.parameters
        parameters.heartbeat = parameters.heartbeat or HEARTBEAT_SECONDS

    @property
    def consumer_class(self) -> type[LedgerConsumer]:
        return LedgerConsumer

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
        """None: what is timed waits in Postgres, not in a worker's memory."""

    def _declare_xq_queue(self, queue_name: str) -> Any:
        return self.channel.queue_declare(queue=xq_name(queue_name), passive=True)


def queue_arguments(queue: str, *, quorum: bool) -> dict[str, Any]:
    """How the relay declares a work queue. What a worker refuses goes to its `.XQ`, which the drain empties."""
    arguments: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": xq_name(queue)}
    if quorum:
        arguments["x-queue-type"] = "quorum"
    return arguments


def xq_arguments(*, quorum: bool) -> dict[str, Any]:
    """How the relay declares a dead-letter queue: without a time to live, so nothing expires unseen."""
    return {"x-queue-type": "quorum"} if quorum else {}

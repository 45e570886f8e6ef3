"""One AMQP connection with one channel on asyncio, on pika: publishing with pipelined confirms, consuming, declaring."""

import asyncio
from collections.abc import Callable
from typing import Any

import pika
import pika.exceptions
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

OPEN_SECONDS = 10
HEARTBEAT_SECONDS = 15  # unless the URL says another; who is silent for longer than this and a little is dead


class Lost(Exception):
    """The connection is gone, or never came about; what was not confirmed may or may not have arrived."""


class Amqp:
    """A connection that is used until it is lost, then thrown away."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.blocked = False  # a memory or disk alarm: RabbitMQ takes nothing until it is over
        self._connection: AsyncioConnection
        self._channel: Channel
        self._tag = 0
        self._unconfirmed: dict[int, tuple[str, asyncio.Future[bool]]] = {}
        self._returned: set[str] = set()

    @classmethod
    async def open(cls, url: str) -> "Amqp":
        """A connection with a channel in confirm mode. Raises Lost when RabbitMQ can't be reached."""
        self = cls()
        self.lost.add_done_callback(lambda future: future.exception())  # seen, whoever waits for it or not
        parameters = pika.URLParameters(url)
        parameters.heartbeat = parameters.heartbeat or HEARTBEAT_SECONDS
        parameters.socket_timeout = parameters.stack_timeout = 5
        parameters.blocked_connection_timeout = 60
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_open(connection: Any) -> None:
            if self.lost.done():  # too late: nobody waits for it any more
                connection.close()
            elif not opened.done():
                opened.set_result(None)

        def failed(_: Any, reason: BaseException) -> None:
            if not opened.done():
                opened.set_exception(Lost(str(reason) or type(reason).__name__))

        self._connection = AsyncioConnection(
            parameters,
            on_open_callback=on_open,
            on_open_error_callback=failed,
            on_close_callback=lambda _, reason: self._on_lost(reason),
            custom_ioloop=asyncio.get_running_loop(),
        )
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await opened
                self._connection.add_on_connection_blocked_callback(lambda *_: setattr(self, "blocked", True))
                self._connection.add_on_connection_unblocked_callback(lambda *_: setattr(self, "blocked", False))
                self._channel = await self._open_channel()
                self._channel.add_on_close_callback(lambda _, reason: self._on_lost(reason))
                self._channel.add_on_return_callback(self._on_return)
                # somebody deleted a queue that is consumed here
                self._channel.add_on_cancel_callback(lambda _: self._on_lost(Lost("RabbitMQ cancelled a consumer")))
                await self._ask(lambda done: self._channel.confirm_delivery(self._on_confirm, callback=done))
        except TimeoutError:
            self.close()
            raise Lost(f"no answer within {OPEN_SECONDS} s") from None
        return self

    @property
    def offers_quorum(self) -> bool:
        """Quorum queues came with RabbitMQ 3.8; what they need at their fullest, with 3.10."""
        version = (self._connection.server_properties or {}).get("version", "0.0")
        text = version.decode() if isinstance(version, bytes) else str(version)
        return tuple(int(part) for part in text.split("-")[0].split(".")[:2] if part.isdigit()) >= (3, 10)

    async def exists(self, queue: str) -> bool:
        """Whether the queue is there."""
        channel = await self._open_channel()  # one to throw away: asking for a queue that is not there closes it
        gone: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answer(found: bool) -> None:
            if not gone.done():
                gone.set_result(found)

        channel.add_on_close_callback(lambda *_: answer(False))
        channel.queue_declare(queue, passive=True, callback=lambda _: answer(True))
        found: bool = await self._or_lost(gone)
        if found:
            channel.close()
        return found

    async def declare(self, queue: str, arguments: dict[str, Any]) -> None:
        """Creates the durable queue unless it is there. Raises Lost when one with other arguments is."""
        await self._ask(lambda done: self._channel.queue_declare(queue, durable=True, arguments=arguments, callback=done))

    def publish(self, queue: str, body: bytes, message_id: str) -> asyncio.Future[bool]:
        """Sends a persistent message; the future tells whether RabbitMQ has it in the queue, or fails with Lost."""
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.lost.done():
            confirmed.set_exception(Lost("the connection was lost"))
            return confirmed
        self._tag += 1
        self._unconfirmed[self._tag] = (message_id, confirmed)
        properties = BasicProperties(  # type: ignore[no-untyped-call]
            delivery_mode=2, message_id=message_id, content_type="application/json"
        )
        try:
            self._channel.basic_publish("", queue, body, properties, mandatory=True)
        except pika.exceptions.AMQPError as error:
            self._on_lost(error)
        return confirmed

    async def consume(
        self, queue: str, on_message: Callable[[Basic.Deliver, BasicProperties, bytes], None], *, prefetch: int
    ) -> None:
        """Hands over what arrives until the connection is lost; the receiver acknowledges."""
        await self._ask(lambda done: self._channel.basic_qos(prefetch_count=prefetch, callback=done))
        await self._ask(
            lambda done: self._channel.basic_consume(
                queue, lambda _, method, properties, body: on_message(method, properties, body), callback=done
            )
        )

    def acknowledge(self, delivery_tag: int) -> None:
        if not self.lost.done():
            self._channel.basic_ack(delivery_tag)

    def close(self) -> None:
        """Hangs up; whoever still waits for something gets Lost."""
        if self._connection.is_open:
            self._connection.close()
        self._on_lost(Lost("closed"))

    async def _open_channel(self) -> Channel:
        self._check()
        opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        self._connection.channel(on_open_callback=lambda channel: None if opened.done() else opened.set_result(channel))
        channel: Channel = await self._or_lost(opened)
        return channel

    def _check(self) -> None:
        if self.lost.done():
            raise Lost("the connection was lost")

    async def _ask(self, question: Callable[[Callable[[Any], None]], Any]) -> None:
        self._check()
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        question(lambda _: None if answered.done() else answered.set_result(None))
        await self._or_lost(answered)

    async def _or_lost(self, future: asyncio.Future[Any]) -> Any:
        async with asyncio.timeout(OPEN_SECONDS):
            await asyncio.wait({future, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise Lost(str(self.lost.exception() or "the connection was lost"))

    def _on_lost(self, reason: Any) -> None:
        if self.lost.done():
            return
        lost = reason if isinstance(reason, Lost) else Lost(str(reason) or type(reason).__name__)
        self.lost.set_exception(lost)
        for _, confirmed in self._unconfirmed.values():
            if not confirmed.done():
                confirmed.set_exception(Lost("the connection was lost before RabbitMQ confirmed"))
        self._unconfirmed.clear()
        if self._connection.is_open:
            self._connection.close()

    def _on_return(self, _: Channel, __: Basic.Return, properties: BasicProperties, ___: bytes) -> None:
        # a message that no queue takes is returned, and then confirmed all the same
        self._returned.add(str(properties.message_id))

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple, acked = frame.method.delivery_tag, frame.method.multiple, isinstance(frame.method, Basic.Ack)
        tags = [earlier for earlier in self._unconfirmed if earlier <= tag] if multiple else [tag]
        for settled in tags:
            message_id, confirmed = self._unconfirmed.pop(settled, ("", None))
            if confirmed is not None and not confirmed.done():
                confirmed.set_result(acked and message_id not in self._returned)
            self._returned.discard(message_id)

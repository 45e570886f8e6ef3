"""An AMQP connection with one channel, for asyncio (pika): publishes with confirms, consumes, declares queues."""

import asyncio
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pika
import pika.exceptions
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from schemas.rabbitmq.hosts import hosts_of
from schemas.rabbitmq.problems import LOST, ConnectionLost, Problem, lost
from schemas.servers.error_words import address

OPEN_SECONDS = 10
CLOSE_SECONDS = 1  # RabbitMQ does not answer while it is blocked by an alarm
NOT_FOUND = 404
PRECONDITION_FAILED = 406  # AMQP's code for: it exists with other arguments
CONFIRM_SECONDS = 3  # how long `problem` waits for RabbitMQ's confirm
NO_QUEUE = "stint.no-queue"


class QueueUnusable(Exception):
    """RabbitMQ lets nobody use the queue now, because its node is down for example. Other queues may be usable."""

    def __init__(self, queue: str, refusal: str) -> None:
        super().__init__(f"The queue {queue} cannot be used: {refusal}")


def _at(parameters: pika.URLParameters, error: ConnectionLost) -> ConnectionLost:
    """The same error with its address in the text."""
    return ConnectionLost(f"{error} at {address(parameters.host, parameters.port)}", error.problem.code)


class Amqp:
    """A connection that is used until it is lost, or until its `async with` ends. There is no reconnect: open a new one."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # its socket is closed
        # RabbitMQ accepts no messages until its alarm is over; its reason, such as "low on memory", or ""
        self.blocked = ""
        self._blocked = asyncio.Event()
        self._connection: AsyncioConnection
        self._channel: Channel
        self._tag = 0
        self._unconfirmed: dict[int, tuple[str, Callable[[bool], None]]] = {}  # by tag, so in the order of publishing
        self._returned: set[str] = set()

    @classmethod
    async def open(cls, amqp_url: str) -> "Amqp":
        """A connection with a channel in confirm mode, to one of the servers of AMQP_URL. Raises ConnectionLost if none can be
        reached."""
        hosts = hosts_of(amqp_url)
        failures: list[ConnectionLost] = []
        for parameters in await asyncio.to_thread(hosts.in_order):
            try:
                opened = await cls.open_at(parameters)
            except ConnectionLost as error:
                hosts.failed(parameters)
                failures.append(_at(parameters, error))
            else:
                hosts.worked(parameters)
                return opened
        raise ConnectionLost("; ".join(map(str, failures)), failures[-1].problem.code)

    @classmethod
    async def open_at(cls, parameters: pika.URLParameters) -> "Amqp":
        """The same at one address: that of `parameters`."""
        self = cls()
        self.lost.add_done_callback(lambda future: future.exception())  # asyncio would log an exception that nobody retrieves
        parameters.blocked_connection_timeout = 60
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def failed(_: Any, reason: BaseException) -> None:
            self._ended.set_result(None)
            if not opened.done():
                opened.set_exception(lost(reason))

        def closed(_: Any, reason: BaseException) -> None:
            self._ended.set_result(None)
            self._on_lost(reason)

        self._connection = AsyncioConnection(
            parameters,
            on_open_callback=lambda _: None if opened.done() else opened.set_result(None),
            on_open_error_callback=failed,
            on_close_callback=closed,
            custom_ioloop=asyncio.get_running_loop(),
        )
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await opened
                self._connection.add_on_connection_blocked_callback(lambda _, frame: self._set_blocked(frame.method.reason))
                self._connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(""))
                self._channel = await self._open_channel()
                self._channel.add_on_close_callback(lambda _, reason: self._on_lost(reason))
                self._channel.add_on_return_callback(self._on_return)
                # RabbitMQ cancels a consumer whose queue was deleted
                self._channel.add_on_cancel_callback(lambda _: self._on_lost(ConnectionLost("RabbitMQ cancelled a consumer")))
                await self._wait_for(lambda done: self._channel.confirm_delivery(self._on_confirm, callback=done))
        except TimeoutError:
            await self.close()
            raise ConnectionLost(f"no answer within {OPEN_SECONDS} s") from None
        except BaseException:
            await self.close()
            raise
        return self

    async def __aenter__(self) -> "Amqp":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def exists(self, queue: str) -> bool:
        """Whether the queue exists. Raises QueueUnusable if RabbitMQ refuses to look."""
        refusal = await self._declare(queue, passive=True)
        # the same code is that of a queue that exists, and whose node is down
        if refusal is not None and not (refusal.reply_code == NOT_FOUND and "no queue" in refusal.reply_text):
            raise QueueUnusable(queue, refusal.reply_text)
        return refusal is None

    async def declare(self, queue: str, arguments: dict[str, Any]) -> str | None:
        """Creates the durable queue if it does not exist. Returns None if it now is as declared, and RabbitMQ's words on the
        difference if it existed with other arguments. Raises QueueUnusable if RabbitMQ refuses for another reason."""
        refusal = await self._declare(queue, durable=True, arguments=arguments)
        if refusal is None:
            return None
        if refusal.reply_code != PRECONDITION_FAILED:
            raise QueueUnusable(queue, refusal.reply_text)
        return str(refusal.reply_text)

    async def _declare(self, queue: str, **options: Any) -> pika.exceptions.ChannelClosedByBroker | None:
        """Sends the declaration, and returns RabbitMQ's refusal, if any."""
        # a channel only for this: RabbitMQ closes it if it refuses
        channel = await self._open_channel()
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def finish(refusal: Any) -> None:
            if not answered.done():
                answered.set_result(refusal)

        channel.add_on_close_callback(lambda _, reason: finish(reason))
        channel.queue_declare(queue, callback=lambda _: finish(None), **options)
        refusal = await self._or_lost(answered)
        if refusal is None:
            channel.close()
        elif not isinstance(refusal, pika.exceptions.ChannelClosedByBroker):
            raise ConnectionLost(str(refusal))
        else:
            return refusal
        return None

    def publish(
        self,
        queue: str,
        body: bytes,
        message_id: str,
        on_confirm: Callable[[bool], None],
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Publishes a persistent message. Calls `on_confirm` once: with True when RabbitMQ has stored it, or with False when
        RabbitMQ has refused it or the connection is lost. A message on a lost connection may have been stored."""
        if self.lost.done():
            on_confirm(False)
            return
        self._tag += 1
        self._unconfirmed[self._tag] = (message_id, on_confirm)
        properties = BasicProperties(  # type: ignore[no-untyped-call]
            delivery_mode=2, message_id=message_id, content_type="application/json", headers=headers
        )
        try:
            self._channel.basic_publish("", queue, body, properties, mandatory=True)
        except LOST as error:
            self._on_lost(error)

    async def problem(self) -> Problem | None:
        """Why RabbitMQ accepts no messages now; None: it does. An empty one is published to no queue, and RabbitMQ drops it: it
        tells of its alarms only those who publish."""
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.publish(NO_QUEUE, b"", "", lambda stored: None if confirmed.done() else confirmed.set_result(stored))
        blocked = asyncio.ensure_future(self._blocked.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {confirmed, blocked, self.lost}
            await asyncio.wait(waiting, timeout=CONFIRM_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            blocked.cancel()
        if self.blocked:
            return Problem("blocked", self.blocked)
        if self.lost.done():
            error = self.lost.exception()
            return error.problem if isinstance(error, ConnectionLost) else None
        return None if confirmed.done() else Problem("unconfirmed", f"no confirm within {CONFIRM_SECONDS} s")

    async def consume(
        self, queue: str, on_message: Callable[[Basic.Deliver, BasicProperties, bytes], None], *, prefetch: int
    ) -> None:
        """Calls `on_message` with each delivery until the connection is lost. The caller acknowledges them."""
        await self._wait_for(lambda done: self._channel.basic_qos(prefetch_count=prefetch, callback=done))
        await self._wait_for(
            lambda done: self._channel.basic_consume(
                queue, lambda _, method, properties, body: on_message(method, properties, body), callback=done
            )
        )

    def acknowledge(self, delivery_tag: int) -> None:
        """Acknowledges a delivery. On a lost connection it does nothing: RabbitMQ delivers the message again."""
        if not self.lost.done():
            self._channel.basic_ack(delivery_tag)

    def abandon(self, reason: str, code: str = "unreachable") -> None:
        """Starts to close the connection. Everything that still waits on it gets ConnectionLost, with that code."""
        self._on_lost(ConnectionLost(reason, code))

    async def close(self) -> None:
        """Closes the connection, and waits until it is closed: at most CLOSE_SECONDS. After that only its socket is closed."""
        self.abandon("closed")
        await asyncio.wait({self._ended}, timeout=CLOSE_SECONDS)
        transport: Any = getattr(self._connection, "_transport", None)
        if transport is not None and not self._ended.done():
            transport.abort()

    async def _open_channel(self) -> Channel:
        self._check()
        opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        self._connection.channel(on_open_callback=lambda channel: None if opened.done() else opened.set_result(channel))
        channel: Channel = await self._or_lost(opened)
        return channel

    def _check(self) -> None:
        if self.lost.done():
            raise ConnectionLost("the connection was lost")

    async def _wait_for(self, request: Callable[[Callable[[Any], None]], Any]) -> None:
        self._check()
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request(lambda _: None if answered.done() else answered.set_result(None))
        await self._or_lost(answered)

    async def _or_lost(self, future: asyncio.Future[Any]) -> Any:
        async with asyncio.timeout(OPEN_SECONDS):
            await asyncio.wait({future, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise ConnectionLost(str(self.lost.exception() or "the connection was lost"))

    def _set_blocked(self, reason: Any) -> None:
        self.blocked = str(reason)
        if self.blocked:
            self._blocked.set()
        else:
            self._blocked.clear()

    def _on_lost(self, reason: Any) -> None:
        if self.lost.done():
            return
        self.lost.set_exception(lost(reason))
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for _, on_confirm in unconfirmed.values():
            on_confirm(False)
        if not (self._connection.is_closing or self._connection.is_closed):
            self._connection.close()

    def _on_return(self, _: Channel, __: Basic.Return, properties: BasicProperties, ___: bytes) -> None:
        # RabbitMQ returns a message that cannot be routed, and confirms it all the same
        self._returned.add(str(properties.message_id))

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple, acked = frame.method.delivery_tag, frame.method.multiple, isinstance(frame.method, Basic.Ack)
        tags = list(takewhile(lambda earlier: earlier <= tag, self._unconfirmed)) if multiple else [tag]
        for each in tags:
            message_id, on_confirm = self._unconfirmed.pop(each, ("", None))
            if on_confirm is not None:
                on_confirm(acked and message_id not in self._returned)
            self._returned.discard(message_id)

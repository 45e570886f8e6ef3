"""`python -m actors.floor KIND …`: RabbitMQ with nothing of ours around it, for `./stint bench`; each prints one JSON object.

    publish     persistent messages with confirms, at most `--window` of them unconfirmed: how long until the last confirm
    round-trip  one at a time: from publishing it until it is confirmed, delivered, and acknowledged
    sink        takes a work queue's references as a worker does, but only marks their rows done, a hundred at a time: what
                the relay could hand over if the work cost nothing. Says `consuming` first, then when the last one came

The first two use a queue of their own, of the same kind as the work queues.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pika
import psycopg
from pika.channel import Channel

from actors.amqp import Amqp
from actors.broker import queue_arguments, read_reference
from schemas.settings import Settings, settings

QUEUE = "floor"
BODY = b"x" * 250  # as long as a reference of ours
PERSISTENT = pika.BasicProperties(delivery_mode=2, content_type="application/json")  # type: ignore[no-untyped-call]
SETTLED_AT_ONCE = 100
SETTLE_SECONDS = 0.02


class Link:
    """pika's own event loop over one connection with one channel, run by `run` until somebody calls `finish`."""

    def __init__(self, url: str, begin: Callable[[Channel], None]) -> None:
        self._begin = begin
        self.connection = pika.SelectConnection(
            pika.URLParameters(url),
            on_open_callback=self._open,
            on_open_error_callback=self._failed,
            on_close_callback=self._failed,
        )
        self._finished = False

    def run(self) -> None:
        self.connection.ioloop.start()

    def finish(self) -> None:
        self._finished = True
        self.connection.close()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        self.connection.ioloop.call_later(seconds, what)

    def _open(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._begin)

    def _failed(self, _: Any, reason: BaseException) -> None:
        self.connection.ioloop.stop()
        if not self._finished:
            raise reason


class Publishing:
    """`count` messages, as many at once as the window allows."""

    def __init__(self, url: str, *, count: int, window: int) -> None:
        self._count, self._window = count, window
        self._published = self._confirmed = 0
        self._started = self.seconds = 0.0
        self._link = Link(url, self._begin)

    def run(self) -> dict[str, float]:
        self._link.run()
        return {"messages": self._count, "seconds": self.seconds}

    def _begin(self, channel: Channel) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._start())

    def _start(self) -> None:
        self._started = time.perf_counter()
        self._fill_window()

    def _fill_window(self) -> None:
        while self._published < self._count and self._published - self._confirmed < self._window:
            self._published += 1
            self._channel.basic_publish("", QUEUE, BODY, PERSISTENT, mandatory=True)

    def _on_confirm(self, frame: Any) -> None:
        assert isinstance(frame.method, pika.spec.Basic.Ack), "RabbitMQ refused a message of the floor"
        self._confirmed = frame.method.delivery_tag if frame.method.multiple else self._confirmed + 1
        if self._confirmed >= self._count:
            self.seconds = time.perf_counter() - self._started
            self._link.finish()
        else:
            self._fill_window()


class RoundTrips:
    """`count` messages, each published when the one before it is through and `pause` has passed."""

    def __init__(self, url: str, *, count: int, pause: float) -> None:
        self._count, self._pause = count, pause
        self._seconds: list[float] = []
        self._started = 0.0
        self._open = 0  # of the present one: its confirm and its delivery
        self._link = Link(url, self._begin)

    def run(self) -> dict[str, list[float]]:
        self._link.run()
        return {"milliseconds": [seconds * 1000 for seconds in self._seconds]}

    def _begin(self, channel: Channel) -> None:
        self._channel = channel
        channel.basic_consume(QUEUE, self._on_message)
        channel.confirm_delivery(lambda _: self._one_done(), callback=lambda _: self._link.later(0.2, self._publish))

    def _publish(self) -> None:
        self._started, self._open = time.perf_counter(), 2
        self._channel.basic_publish("", QUEUE, BODY, PERSISTENT, mandatory=True)

    def _on_message(self, channel: Channel, method: pika.spec.Basic.Deliver, _: Any, __: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        self._one_done()

    def _one_done(self) -> None:
        self._open -= 1
        if self._open:
            return
        self._seconds.append(time.perf_counter() - self._started)
        if len(self._seconds) < self._count:
            self._link.later(self._pause, self._publish)
        else:
            self._link.finish()


class Sink:
    """Takes `count` references off a work queue and marks their rows done."""

    def __init__(self, given: Settings, *, queue: str, count: int) -> None:
        self._queue, self._left = queue, count
        self._conn = psycopg.connect(given.database_url, autocommit=True, prepare_threshold=0)
        self._taken: list[Any] = []
        self._last_tag = 0
        self._last_at = 0.0
        self._waiting = False
        self._link = Link(given.broker_url, self._begin)

    def run(self) -> dict[str, float]:
        self._link.run()
        return {"last_at": self._last_at}

    def _begin(self, channel: Channel) -> None:
        self._channel = channel
        channel.basic_qos(prefetch_count=5 * SETTLED_AT_ONCE)
        channel.basic_consume(self._queue, self._on_message, callback=lambda _: print("consuming", flush=True))

    def _on_message(self, _: Channel, method: pika.spec.Basic.Deliver, __: Any, body: bytes) -> None:
        reference = read_reference(body)
        assert reference is not None, "a stranger's message on a work queue"
        self._taken.append(reference[0])
        self._last_tag, self._last_at = method.delivery_tag, time.time()
        if len(self._taken) >= SETTLED_AT_ONCE:
            self._settle()
        elif not self._waiting:
            self._waiting = True
            self._link.later(SETTLE_SECONDS, self._settle)

    def _settle(self) -> None:
        self._waiting = False
        if not self._taken:
            return
        self._conn.execute("UPDATE messages SET state = 'done', done_at = clock_timestamp() WHERE id = ANY(%s)", (self._taken,))
        self._channel.basic_ack(self._last_tag, multiple=True)
        self._left -= len(self._taken)
        self._taken = []
        if self._left <= 0:
            self._link.finish()


async def declare(url: str) -> None:
    """Makes the floor's queue, empty, with the arguments that a work queue has."""
    amqp = await Amqp.open(url)
    await amqp.declare(QUEUE, queue_arguments(QUEUE, quorum=amqp.offers_quorum))
    amqp.close()


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(prog="actors.floor", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["publish", "round-trip", "sink"])
    parser.add_argument("--count", type=int, default=1000, help="messages")
    parser.add_argument("--window", type=int, default=500, help="publish: unconfirmed ones at most")
    parser.add_argument("--pause", type=float, default=0.01, help="round-trip: seconds between two")
    parser.add_argument("--queue", default=QUEUE, help="sink: which one")
    arguments = parser.parse_args()
    given = settings()
    result: dict[str, Any]
    if arguments.kind == "sink":
        result = Sink(given, queue=arguments.queue, count=arguments.count).run()
    else:
        asyncio.run(declare(given.broker_url))
        if arguments.kind == "publish":
            result = Publishing(given.broker_url, count=arguments.count, window=arguments.window).run()
        else:
            result = RoundTrips(given.broker_url, count=arguments.count, pause=arguments.pause).run()
    print(json.dumps(result))


if __name__ == "__main__":
    main()

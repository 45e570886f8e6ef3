"""`python -m actors.runtime.bench_baseline KIND …`: RabbitMQ without Stint, for `./stint bench`. Prints a JSON object.

    publish     persistent messages with confirms, at most `--window` of them unconfirmed: the seconds until the last confirm
    round-trip  one message at a time: the time from publishing it until it is confirmed, delivered and acknowledged
    sink        consumes a work queue like a worker, but only marks the messages done, a hundred at a time: how fast the relay
                is when the work costs nothing. Prints `consuming` first, then the time of the last message

The first two use their own queue, of the same type as the work queues.
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

from actors.runtime.broker import decode_reference, queue_arguments
from schemas.rabbitmq.amqp import Amqp
from schemas.settings import Settings, settings

QUEUE = "baseline"
BODY = b"x" * 250  # as long as a reference to a message
PERSISTENT = pika.BasicProperties(delivery_mode=2, content_type="application/json")  # type: ignore[no-untyped-call]
BATCH = 100
BATCH_SECONDS = 0.02


class Link:
    """One connection with one channel in pika's own event loop, which `run` runs until `finish` is called."""

    def __init__(self, url: str, on_channel: Callable[[Channel], None]) -> None:
        self._on_channel = on_channel
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
        connection.channel(on_open_callback=self._on_channel)

    def _failed(self, _: Any, reason: BaseException) -> None:
        self.connection.ioloop.stop()
        if not self._finished:
            raise reason


class Publishing:
    """Publishes `count` messages, at most `window` of them unconfirmed."""

    def __init__(self, url: str, *, count: int, window: int) -> None:
        self._count, self._window = count, window
        self._published = self._confirmed = 0
        self._started = self.seconds = 0.0
        self._link = Link(url, self._on_channel)

    def run(self) -> dict[str, float]:
        self._link.run()
        return {"messages": self._count, "seconds": self.seconds}

    def _on_channel(self, channel: Channel) -> None:
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
        assert isinstance(frame.method, pika.spec.Basic.Ack), "RabbitMQ refused a message of the baseline"
        self._confirmed = frame.method.delivery_tag if frame.method.multiple else self._confirmed + 1
        if self._confirmed >= self._count:
            self.seconds = time.perf_counter() - self._started
            self._link.finish()
        else:
            self._fill_window()


class RoundTrips:
    """Publishes `count` messages, each `pause` seconds after the previous one was acknowledged."""

    def __init__(self, url: str, *, count: int, pause: float) -> None:
        self._count, self._pause = count, pause
        self._seconds: list[float] = []
        self._started = 0.0
        self._open = 0  # what the present message still waits for: its confirm, its delivery
        self._link = Link(url, self._on_channel)

    def run(self) -> dict[str, list[float]]:
        self._link.run()
        return {"milliseconds": [seconds * 1000 for seconds in self._seconds]}

    def _on_channel(self, channel: Channel) -> None:
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
    """Consumes `count` references from a work queue and marks their messages done."""

    def __init__(self, settings: Settings, *, queue: str, count: int) -> None:
        self._queue, self._left = queue, count
        self._conn = psycopg.connect(
            settings.database_url,
            autocommit=True,
            prepare_threshold=0,
            options="-c enable_seqscan=off",  # the table was analyzed before it had the backlog
        )
        self._taken: list[Any] = []
        self._last_tag = 0
        self._last_at = 0.0
        self._waiting = False
        self._link = Link(settings.broker_url, self._on_channel)

    def run(self) -> dict[str, float]:
        self._link.run()
        return {"last_at": self._last_at}

    def _on_channel(self, channel: Channel) -> None:
        self._channel = channel
        channel.basic_qos(prefetch_count=5 * BATCH)
        channel.basic_consume(self._queue, self._on_message, callback=lambda _: print("consuming", flush=True))

    def _on_message(self, _: Channel, method: pika.spec.Basic.Deliver, __: Any, body: bytes) -> None:
        reference = decode_reference(body)
        assert reference is not None, "an unrecognized message on a work queue"
        self._taken.append(reference[0])
        self._last_tag, self._last_at = method.delivery_tag, time.time()
        if len(self._taken) >= BATCH:
            self._complete()
        elif not self._waiting:
            self._waiting = True
            self._link.later(BATCH_SECONDS, self._complete)

    def _complete(self) -> None:
        self._waiting = False
        if not self._taken:
            return
        self._conn.execute("UPDATE messages SET state = 'done', done_at = clock_timestamp() WHERE id = ANY(%s)", (self._taken,))
        self._channel.basic_ack(self._last_tag, multiple=True)
        self._left -= len(self._taken)
        self._taken = []
        if self._left <= 0:
            self._link.finish()


async def declare(settings: Settings) -> None:
    """Declares the baseline's queue with the arguments of a work queue."""
    async with await Amqp.open(settings.broker_url) as amqp:
        await amqp.declare(QUEUE, queue_arguments(QUEUE, settings))


def main() -> None:
    """Runs the measurement that the command line names."""
    parser = argparse.ArgumentParser(
        prog="actors.runtime.bench_baseline", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=["publish", "round-trip", "sink"])
    parser.add_argument("--count", type=int, default=1000, help="messages")
    parser.add_argument("--window", type=int, default=500, help="publish: most unconfirmed messages")
    parser.add_argument("--pause", type=float, default=0.01, help="round-trip: seconds between two messages")
    parser.add_argument("--queue", default=QUEUE, help="sink: the queue to consume")
    arguments = parser.parse_args()
    current = settings()
    result: dict[str, Any]
    if arguments.kind == "sink":
        result = Sink(current, queue=arguments.queue, count=arguments.count).run()
    else:
        asyncio.run(declare(current))
        if arguments.kind == "publish":
            result = Publishing(current.broker_url, count=arguments.count, window=arguments.window).run()
        else:
            result = RoundTrips(current.broker_url, count=arguments.count, pause=arguments.pause).run()
    print(json.dumps(result))


if __name__ == "__main__":
    main()

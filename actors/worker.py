"""A worker process: Dramatiq's consumers and threads, with a `Thread` of ours behind each."""

import asyncio
import logging
import signal
import sys
import threading
import time
from typing import Any
from uuid import UUID

import dramatiq
import pika
import pika.exceptions
from dramatiq.broker import Broker, MessageProxy
from dramatiq.common import xq_name

from actors.broker import LedgerBroker
from actors.deliveries import HANDLERS, Delivery
from actors.handling import Thread
from actors.heart import beat
from schemas.settings import Settings

logger = logging.getLogger(__name__)

STOP_SECONDS = 8  # a handler's transaction is short; what is cut off is rolled back and comes again


class _Current(dramatiq.Middleware):
    """Shows an actor the delivery it runs for: Dramatiq passes on only the arguments."""

    def __init__(self) -> None:
        self._local = threading.local()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        self._local.message = message

    @property
    def message(self) -> Any:
        return self._local.message


class WorkerProcess:
    """Consumes some of the queues until it is told to stop, or until one of its threads is no more."""

    def __init__(self, settings: Settings, *, queues: set[str], threads: int) -> None:
        self._settings, self._queues = settings, queues
        self.stopping = threading.Event()
        self._local = threading.local()
        self._threads: list[Thread] = []
        self._current = _Current()
        self._broker = LedgerBroker(settings.broker_url)
        self._broker.add_middleware(self._current)
        for name, handler in HANDLERS.items():
            if handler.model.queue in queues:
                dramatiq.actor(actor_name=name, queue_name=handler.model.queue, broker=self._broker)(self._run)
        for queue in queues:  # also one whose actors come with a later version: what a stranger sends must not pile up
            self._broker.declare_queue(queue)
        self._worker = dramatiq.Worker(self._broker, queues=queues, worker_threads=threads, worker_timeout=500)

    def _run(self, id: str, publication: int) -> None:
        proxy = self._current.message
        delivery = Delivery(
            id=UUID(id),
            publication=publication,
            actor=proxy.actor_name,
            queue=proxy.queue_name,
            redelivered=bool(proxy.redelivered),
            body=proxy.raw,
            headers=proxy.headers,
        )
        thread: Thread | None = getattr(self._local, "thread", None)
        if thread is None:
            thread = self._local.thread = Thread(self._settings, self.stopping)
            self._threads.append(thread)
        proxy.left = True  # not acknowledged, unless it comes to its end: RabbitMQ hands it to another worker
        proxy.left = not thread.work(delivery)

    def serve(self) -> int:
        """Runs until SIGTERM or SIGINT (0), or until a thread dies or sticks (1: whoever supervises starts it anew)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        if not self._wait_for_queues():
            return 0
        self._worker.start()
        beating = beat(self._settings, kind="work", queues=sorted(self._queues))
        threading.Thread(target=asyncio.run, args=(beating,), daemon=True).start()
        logger.info("working on %s", ", ".join(sorted(self._queues)))
        healthy = True
        while healthy and not self.stopping.wait(1):
            threads = [*self._worker.workers, *self._worker.consumers.values()]
            stuck = any(thread.stuck_at < time.monotonic() for thread in self._threads)
            healthy = not stuck and all(thread.is_alive() for thread in threads)
        if not healthy:
            logger.error("a thread of this worker is dead or stuck; ending the process")
        self.stopping.set()
        self._worker.stop(timeout=STOP_SECONDS * 1000)
        self._broker.close()
        return 0 if healthy else 1

    def _wait_for_queues(self) -> bool:
        """True once the relay has declared the queues; False when told to stop before that."""
        said = False
        while not self.stopping.is_set():
            try:
                with pika.BlockingConnection(pika.URLParameters(self._settings.broker_url)) as connection:
                    channel = connection.channel()
                    for queue in self._queues:
                        channel.queue_declare(queue, passive=True)
                        channel.queue_declare(xq_name(queue), passive=True)
                return True
            except (pika.exceptions.AMQPError, OSError) as error:
                if not said:
                    logger.info("waiting for RabbitMQ and for the relay to declare the queues: %s", type(error).__name__)
                    said = True
                time.sleep(0.2)
        return False


def work(settings: Settings, *, queues: set[str], threads: int) -> None:
    """Runs a worker process to its end and exits with its code."""
    sys.exit(WorkerProcess(settings, queues=queues, threads=threads).serve())

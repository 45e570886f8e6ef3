"""A worker process: Dramatiq's consumers and threads, each thread with an AttemptRunner."""

import asyncio
import logging
import signal
import sys
import threading
import time
from concurrent.futures import Future
from queue import Empty
from typing import Any
from uuid import UUID

import dramatiq
import pika
from dramatiq.broker import Broker, MessageProxy
from dramatiq.common import xq_name
from pika.exceptions import ChannelClosedByBroker

from actors.runtime import server_watch
from actors.runtime.attempts import AttemptRunner
from actors.runtime.broker import OutboxBroker
from actors.runtime.deliveries import Delivery
from actors.runtime.handlers import HANDLERS
from actors.runtime.heartbeat import beat, stay_alive
from schemas import tracing
from schemas.messages import MODELS
from schemas.outbox.heartbeats import GOODBYE_SECONDS, Report, say_goodbye
from schemas.postgres.readiness import wait_for_database
from schemas.rabbitmq.hosts import hosts_of
from schemas.rabbitmq.problems import LOST, lost
from schemas.settings import Settings
from schemas.starting import report_ready

logger = logging.getLogger(__name__)

STOP_SECONDS = 8  # a handler's transaction is short; an interrupted one is rolled back and its message delivered again
MOST_TOGETHER = 8  # messages in one transaction, which keeps the locks of all until it commits
WAITING_SECONDS = 3  # at a usual start the queues are there sooner


class _CurrentMessage(dramatiq.Middleware):
    """Gives an actor the message that it runs for: Dramatiq passes only its arguments."""

    def __init__(self) -> None:
        self._local = threading.local()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        self._local.message = message

    @property
    def message(self) -> Any:
        return self._local.message


def _delivery_of(proxy: Any) -> Delivery:
    return Delivery(
        id=UUID(proxy.kwargs["id"]),
        delivery_number=proxy.kwargs["delivery_number"],
        actor=proxy.actor_name,
        queue=proxy.queue_name,
        redelivered=bool(proxy.redelivered),
        body=proxy.raw,
        headers=proxy.headers,
    )


def _may_be_together(proxy: Any, *, like: Any = None) -> bool:
    """Whether the message may be handled in one transaction with others, or with `like`."""
    if like is not None and proxy.actor_name != like.actor_name:
        return False
    return (
        HANDLERS[proxy.actor_name].together is not None
        and not proxy.redelivered  # it may be the one that has ended its worker
        and not getattr(proxy, "alone", False)
        and not tracing.is_on()  # each message has a span of its own
    )


class WorkerProcess:
    """Consumes some of the queues until it is stopped, or until one of its threads dies."""

    def __init__(self, settings: Settings, *, queues: set[str], threads: int) -> None:
        self._settings, self._queues = settings, queues
        self.stopping = threading.Event()
        self._ended: Future[None] = Future()
        self._beating = threading.Thread(target=lambda: asyncio.run(self._beat()), daemon=True)
        self._rabbitmq = server_watch.BrokerState()
        self._waits_for: dict[str, str] = {}  # why it consumes nothing yet, as in `Report.problems`
        self._local = threading.local()
        self._runners: list[AttemptRunner] = []
        self._current = _CurrentMessage()
        self._broker = OutboxBroker(settings.broker_url)
        self._broker.add_middleware(self._current)
        for name, handler in HANDLERS.items():
            if handler.model.queue in queues:
                dramatiq.actor(actor_name=name, queue_name=handler.model.queue, broker=self._broker)(self._run)
        for queue in queues:  # also one without actors in this version: unrecognized messages must not pile up in it
            self._broker.declare_queue(queue)
        self._worker = dramatiq.Worker(self._broker, queues=queues, worker_threads=threads, worker_timeout=500)

    def _run(self, id: str, delivery_number: int) -> None:
        """Handles the message that Dramatiq gives to this thread, together with others of its actor if there is a backlog."""
        proxy = self._current.message
        runner: AttemptRunner | None = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = AttemptRunner(self._settings, self.stopping)
            self._runners.append(runner)
        proxy.unfinished = True  # an exception here leaves it unacknowledged: RabbitMQ delivers it to another worker
        delivery = _delivery_of(proxy)
        if self._run_together(runner, proxy, delivery):
            proxy.unfinished = False
        else:
            proxy.unfinished = not runner.run(delivery)

    def _run_together(self, runner: AttemptRunner, proxy: Any, delivery: Delivery) -> bool:
        """Handles the delivery in one transaction with those of its actor that no thread has begun, if there are some. Returns
        whether it is handled. Of the others, what is not handled is left to any thread, which handles it alone."""
        if not _may_be_together(proxy) or not (others := self._take_others(proxy)):
            return False
        handled = runner.run_together([delivery, *(_delivery_of(item.message) for item in others)])
        for item in others:
            message = item.message
            if UUID(message.kwargs["id"]) in handled:
                self._worker.consumers[message.queue_name].post_process_message(message)  # which acknowledges it
            else:
                message.alone = True
                self._worker.work_queue.put(item)  # it keeps its place in the order
            self._worker.work_queue.task_done()
        return delivery.id in handled

    def _take_others(self, like: Any) -> list[Any]:
        """Takes what Dramatiq's threads would begin next, as long as it may be handled together with a message."""
        queue = self._worker.work_queue
        taken: list[Any] = []
        while len(taken) < MOST_TOGETHER - 1:
            try:
                item = queue.get_nowait()
            except Empty:
                break
            if not _may_be_together(item.message, like=like):
                queue.put(item)
                queue.task_done()
                break
            taken.append(item)
        return taken

    def serve(self) -> int:
        """Runs until SIGTERM or SIGINT (returns 0), or until a thread is dead or stuck (returns 1: restart the process)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        if not asyncio.run(wait_for_database(self._settings, self.stopping.is_set)):
            return 0
        if not self._wait_for_queues():
            self._say_goodbye()
            return 0
        self._worker.start()
        self._start_beating()
        report_ready()
        logger.info("working on %s", ", ".join(sorted(self._queues)))
        healthy = True
        while healthy and not self.stopping.wait(1):
            threads = [*self._worker.workers, *self._worker.consumers.values()]
            stuck = any(runner.stuck_at < time.monotonic() for runner in self._runners)
            healthy = not stuck and all(thread.is_alive() for thread in threads)
        if not healthy:
            logger.error("a thread of this worker is dead or stuck; exiting with code 1")
        self.stopping.set()
        self._worker.stop(timeout=STOP_SECONDS * 1000)
        self._broker.close()
        if not healthy:
            return 1
        self._say_goodbye()
        return 0

    def _start_beating(self) -> None:
        if self._beating.ident is None:
            self._beating.start()

    def _say_goodbye(self) -> None:
        self._ended.set_result(None)
        if self._beating.ident is not None:
            self._beating.join(GOODBYE_SECONDS + 1)

    async def _beat(self) -> None:
        """Sends heartbeats, and watches the servers that this worker calls. Records its end when the worker has ended."""
        beats = asyncio.create_task(self._beat_and_watch())
        await asyncio.wait({beats, asyncio.wrap_future(self._ended)}, return_when=asyncio.FIRST_COMPLETED)
        if beats.done():
            beats.result()
        beats.cancel()
        await asyncio.wait({beats})
        await say_goodbye(self._settings)

    async def _beat_and_watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stay_alive())
            tasks.create_task(beat(self._settings, kind="work", queues=sorted(self._queues), report=self._report))
            tasks.create_task(server_watch.watch_broker(self._settings.broker_url, self._rabbitmq))
            tasks.create_task(server_watch.watch_calls(self._settings))
            if "mail" in self._queues and (url := self._settings.smtp_url) is not None:
                tasks.create_task(server_watch.watch_mail(url.get_secret_value(), server_watch.mail_state))

    def _report(self) -> Report:
        late = [handler for runner in list(self._runners) if (handler := runner.late_handler()) is not None]
        problems = server_watch.calls | self._waits_for
        if mail := server_watch.mail_state.problem:
            problems["mail"] = mail
        rabbitmq = self._rabbitmq.problem
        if rabbitmq is not None and rabbitmq.code != "blocked":  # an alarm stops those who publish; relays report it
            problems["RabbitMQ"] = str(rabbitmq)
        return Report(late_handlers=late, problems=problems)

    def _wait_for_queues(self) -> bool:
        """True once the relay has declared the queues; False if the process is stopped before that. A worker that waits
        for longer than WAITING_SECONDS sends heartbeats that say why."""
        logged, started = False, time.monotonic()
        while not self.stopping.is_set():
            try:
                with pika.BlockingConnection(hosts_of(self._settings.broker_url).in_order()) as connection:
                    channel = connection.channel()
                    for queue in self._queues:
                        channel.queue_declare(queue, passive=True)
                        channel.queue_declare(xq_name(queue), passive=True)
                self._waits_for = {}
                return True
            except LOST as error:
                if isinstance(error, ChannelClosedByBroker):
                    self._waits_for = {"queues": f"missing: {error.reply_text}"}
                else:
                    self._waits_for = {"RabbitMQ": str(lost(error).problem)}
                if time.monotonic() - started > WAITING_SECONDS:
                    self._start_beating()
                if not logged:
                    logger.info("waiting for RabbitMQ and for the relay to declare the queues: %s", type(error).__name__)
                    logged = True
                time.sleep(0.2)
        return False


def work(settings: Settings, *, queues: set[str], threads: int) -> None:
    """Runs a worker process, and exits with its code.

    Raises RuntimeError if a message has no handler, because the handler's module was not imported. Such a worker would reject
    every message of this kind.
    """
    if unhandled := sorted(MODELS.keys() - HANDLERS.keys()):
        raise RuntimeError(f"no handler for {', '.join(unhandled)}: import its module in actors/__main__.py")
    sys.exit(WorkerProcess(settings, queues=queues, threads=threads).serve())

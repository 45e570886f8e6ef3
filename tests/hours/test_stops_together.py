"""Several stops that wait in one worker are handled in one transaction: each has its own outcome, and a bad or locked one
neither fails nor delays the others."""

import asyncio
import importlib
import random
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import dramatiq
import psycopg
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.worker import _WorkQueueItem
from psycopg.pq import TransactionStatus

from actors.runtime.attempts import AttemptRunner
from actors.runtime.broker import encode_reference
from actors.runtime.handlers import HANDLERS
from actors.runtime.worker import MOST_TOGETHER, WorkerProcess
from schemas import tracing
from schemas.hours import time_entries
from schemas.messages import StopTimer
from schemas.postgres.connection import Connection
from schemas.settings import settings
from tests.hours.test_one_call import QUEUE, ZONE, sent
from tests.outbox.rows import connected, delivery, over, states
from tests.support import firm_rows
from tests.support.cancellation import WAYS, Way, cancel_at_every_point
from tests.support.firm_rows import FirmRows
from tests.support.installation import SECRET_KEY, new_database

USER_LOCK = "SELECT FROM users WHERE id = ANY(%s) FOR NO KEY UPDATE"


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


async def stops(conn: Connection, count: int) -> dict[UUID, FirmRows]:
    """The messages of that many stops, each of another user, with a worker for the first time."""
    firms = [await firm_rows.firm(conn) for _ in range(count)]
    return {await sent(conn, rows): rows for rows in firms}


async def spoil(conn: Connection, message_id: UUID) -> None:
    """Makes it a stop whose entry the database refuses."""
    of_before = '{"end_time": "2000-01-01T00:00:00Z"}'
    await conn.execute("UPDATE messages SET body = body || %s WHERE id = %s", (of_before, message_id))


async def handle(conn: Connection, *messages: UUID) -> set[UUID]:
    return await time_entries.handle_stops(conn, dict.fromkeys(messages, 1), queue=QUEUE, zone=ZONE)


async def entries(conn: Connection, rows: FirmRows) -> int:
    return int(await conn.value("SELECT count(*) FROM time_entries WHERE user_id = %s", (rows.user,)))


def test_a_stop_that_the_database_refuses_fails_alone(url: str) -> None:
    async def check(conn: Connection) -> None:
        first, bad, last = await stops(conn, 3)
        await spoil(conn, bad)
        assert await handle(conn, first, bad, last) == {first, last}
        assert await states(conn, first, bad, last) == ["done", "sent", "done"]

    over(url, check)


def test_stops_of_locked_users_delay_the_others_only_once(url: str) -> None:
    """However many there are: forty waits of a tenth of a second each would be four seconds."""

    async def check(conn: Connection) -> None:
        of = await stops(conn, 42)
        messages = list(of)
        async with connected(url) as other, other.transaction():
            await other.execute(USER_LOCK, ([of[message].user for message in messages[1:-1]],))
            started_at = time.monotonic()
            assert await handle(conn, *messages) == {messages[0], messages[-1]}
            assert time.monotonic() - started_at < 3
        assert [await entries(conn, of[message]) for message in messages[:2]] == [1, 0]
        assert await conn.value("SHOW lock_timeout") == "300ms"  # what the session had
        assert await handle(conn, *messages) == set(messages[1:-1])

    over(url, check)


def test_users_are_locked_in_the_order_of_their_ids(url: str) -> None:
    """So two calls about the same users do not wait for each other."""

    async def check(conn: Connection) -> None:
        of = await stops(conn, 10)
        shuffled = random.Random(3).sample(list(of), len(of))
        assert await handle(conn, *shuffled) == set(of)
        in_order = await conn.values("SELECT id FROM messages WHERE id = ANY(%s) ORDER BY done_at", (shuffled,))
        assert in_order == sorted(of, key=lambda message: str(of[message].user))

    over(url, check)


def test_workers_with_stops_of_the_same_users_all_finish(url: str) -> None:
    async def check(conn: Connection) -> None:
        firms = [await firm_rows.firm(conn) for _ in range(4)]
        messages = [await sent(conn, rows) for _ in range(12) for rows in firms]
        chance = random.Random(7)
        chance.shuffle(messages)
        left = set(messages)

        async def work(mine: list[UUID]) -> None:
            async with connected(url) as own:
                while mine := [message for message in mine if message in left]:
                    left.difference_update(await handle(own, *mine[:MOST_TOGETHER]))
                    mine = mine[MOST_TOGETHER:] + mine[:MOST_TOGETHER]

        async with asyncio.timeout(60):
            await asyncio.gather(*(work(messages[start::3]) for start in range(3)))
        sums = """
            SELECT b.seconds = (SELECT sum(duration) FROM time_entries WHERE bill_id = b.id) FROM time_bills b
            WHERE user_id = ANY(%s)
        """
        assert await conn.values(sums, ([rows.user for rows in firms],)) == [True] * 4
        assert [await entries(conn, rows) for rows in firms] == [12] * 4

    over(url, check)


class Worker:
    """A WorkerProcess without RabbitMQ. `wait_for` puts messages where Dramatiq puts what it has received; `begin` does what a
    thread of Dramatiq does next."""

    def __init__(self) -> None:
        self.process = WorkerProcess(settings(), queues={QUEUE}, threads=1)
        self.acknowledged: list[UUID] = []
        self._queue = self.process._worker.work_queue
        self.process._worker.consumers[QUEUE] = SimpleNamespace(post_process_message=self._post_process)  # type: ignore[assignment]

    def receive(self, *messages: UUID, **more: Any) -> None:
        for message in messages:
            raw = encode_reference(message_id=message, delivery_number=1, actor=StopTimer.actor, queue=QUEUE)
            proxy: Any = MessageProxy(dramatiq.Message.decode(raw))
            proxy.redelivered, proxy.raw, proxy.headers = False, raw, {}
            vars(proxy).update(more)
            self._queue.put(_WorkQueueItem(0, proxy))

    def begin(self) -> None:
        proxy: Any = self._queue.get_nowait().message
        self.process._current._local.message = proxy
        self.process._run(**proxy.kwargs)
        self._post_process(proxy)
        self._queue.task_done()

    @property
    def waiting(self) -> int:
        assert self._queue.unfinished_tasks == self._queue.qsize()
        return self._queue.qsize()

    def _post_process(self, proxy: Any) -> None:
        if not getattr(proxy, "unfinished", False):
            self.acknowledged.append(UUID(proxy.kwargs["id"]))

    def close(self) -> None:
        for runner in self.process._runners:
            runner._loop.run(runner._drop_connection())
            runner._loop.close()


@pytest.fixture
def worker(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    importlib.import_module("actors.timers")  # registers the handler
    for name, value in {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY, "AMQP_URL": "amqp://nowhere.invalid/"}.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    worker = Worker()
    yield worker
    worker.close()
    settings.cache_clear()


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One item for each round trip to Postgres."""
    found: list[None] = []
    wait = Connection.wait

    async def counted(*arguments: Any, **named: Any) -> Any:
        found.append(None)
        return await wait(*arguments, **named)

    monkeypatch.setattr(Connection, "wait", counted)
    return found


def test_a_backlog_is_handled_in_one_statement_for_eight_stops(url: str, worker: Worker, trips: list[None]) -> None:
    messages = list(over(url, lambda conn: stops(conn, 2 * MOST_TOGETHER + 1)))
    worker.receive(*messages)
    worker.begin()  # connects and prepares
    trips.clear()
    worker.begin()
    assert len(trips) == 1
    assert sorted(worker.acknowledged) == sorted(messages[:-1]) and worker.waiting == 1
    worker.begin()
    assert len(trips) <= 2, "one is handled as always"
    assert over(url, lambda conn: states(conn, *messages)) == ["done"] * len(messages)


def test_what_is_not_handled_together_is_handled_alone_and_recorded(url: str, worker: Worker) -> None:
    async def prepare(conn: Connection) -> list[UUID]:
        messages = list(await stops(conn, 4))
        await spoil(conn, messages[0])
        await spoil(conn, messages[2])
        return messages

    worker.receive(*(messages := over(url, prepare)))
    worker.begin()
    assert sorted(worker.acknowledged) == sorted([messages[0], messages[1], messages[3]]) and worker.waiting == 1
    worker.receive(extra := next(iter(over(url, lambda conn: stops(conn, 1)))))
    worker.begin()
    assert worker.acknowledged[-1] == messages[2] and worker.waiting == 1, "it takes no other with it"
    worker.begin()
    assert over(url, lambda conn: states(conn, *messages, extra)) == ["ready", "done", "ready", "done", "done"]
    attempts = "SELECT message_id FROM message_attempts WHERE message_id = ANY(%s)"
    assert sorted(over(url, lambda conn: conn.values(attempts, (messages,)))) == sorted([messages[0], messages[2]])


def test_a_message_that_may_have_ended_its_worker_is_never_handled_together(
    url: str, worker: Worker, trips: list[None]
) -> None:
    suspected, first, second = over(url, lambda conn: stops(conn, 3))
    worker.receive(suspected, redelivered=True)
    worker.receive(first)
    worker.begin()
    assert worker.acknowledged == [suspected] and worker.waiting == 1
    worker.receive(second, redelivered=True)
    worker.begin()
    assert worker.acknowledged == [suspected, first] and worker.waiting == 1


def test_with_traces_each_stop_is_an_attempt_of_its_own(url: str, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.receive(*over(url, lambda conn: stops(conn, 2)))
    monkeypatch.setattr(tracing, "is_on", lambda: True)
    worker.begin()
    assert len(worker.acknowledged) == 1 and worker.waiting == 1


@pytest.mark.parametrize("error", [psycopg.OperationalError(), TimeoutError(), asyncio.CancelledError(), SystemExit()])
@pytest.mark.parametrize("committed", [False, True])
def test_a_call_that_fails_leaves_each_stop_to_an_attempt_of_its_own(
    error: BaseException, committed: bool, url: str, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its transaction was committed, and only the answer was lost."""
    original = time_entries.handle_stops

    async def fail(*arguments: Any, **named: Any) -> set[UUID]:
        if committed:
            await original(*arguments, **named)
        raise error

    of = over(url, lambda conn: stops(conn, 3))
    monkeypatch.setattr(time_entries, "handle_stops", fail)
    worker.receive(*of)
    for left in (2, 1, 0):
        worker.begin()
        assert worker.waiting == left
    assert sorted(worker.acknowledged) == sorted(of)

    async def check(conn: Connection) -> None:
        assert await states(conn, *of) == ["done"] * 3
        assert [await entries(conn, rows) for rows in of.values()] == [1] * 3
        assert await conn.value("SELECT count(*) FROM message_attempts WHERE message_id = ANY(%s)", (list(of),)) == 0

    over(url, check)


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_is_cancelled_at_any_point_loses_and_doubles_nothing(way: Way, url: str, worker: Worker) -> None:
    runner = AttemptRunner(settings(), threading.Event())

    async def main() -> None:
        async with connected(url) as conn:
            of = await stops(conn, 100)
            unused, now = list(of), list[UUID]()

            def attempt() -> Any:
                now[:] = [unused.pop(), unused.pop()]
                return runner._together(
                    HANDLERS[StopTimer.actor], [delivery(one, actor=StopTimer.actor, queue=QUEUE) for one in now]
                )

            async def each_is_handled_once() -> None:
                assert runner._conn is None or runner._conn.pgconn.transaction_status == TransactionStatus.IDLE
                for message in now:
                    await runner._attempt(delivery(message, actor=StopTimer.actor, queue=QUEUE))
                    assert await entries(conn, of[message]) == 1
                assert await states(conn, *now) == ["done", "done"]
                await runner._drop_connection()  # so that the next call connects, too

            assert await cancel_at_every_point(attempt, way, each_is_handled_once) >= 3

    try:
        asyncio.run(main())
    finally:
        runner._loop.close()

"""Starts, stops and their deliveries as one call of a SQL function each, beside the transactions that do the same in several
statements: on the same histories both write the same rows and give the same answers."""

import asyncio
import importlib
import threading
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, seed
from hypothesis import given as examples
from hypothesis import settings as how
from hypothesis import strategies as st

from actors.runtime.attempts import AttemptRunner
from actors.runtime.deliveries import lock_for_delivery
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.hours import time_entries, timer_stops, timers
from schemas.hours.timers import TimerChange
from schemas.identity.users import Role, User
from schemas.messages import StopTimer
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import settings
from schemas.sync import offline_timers
from schemas.sync.offline_timers import OfflineStart
from tests.outbox.rows import connected, delivery, over
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import SECRET_KEY, new_database

T = TypeVar("T")
QUEUE, ZONE = "timers", "Asia/Tokyo"
PEOPLE, TASKS = 2, 3


@dataclass
class World:
    """Users and tasks. The two worlds of a history have different ids: `names` has what an id is called in both."""

    in_one_call: bool
    users: list[UUID] = field(default_factory=list)
    tasks: list[UUID] = field(default_factory=list)
    customers: list[UUID] = field(default_factory=list)
    messages: list[UUID] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def name(self, kind: str, of: UUID) -> UUID:
        self.names.setdefault(str(of), f"{kind} {sum(name.startswith(kind) for name in self.names.values())}")
        return of

    async def fill(self, conn: Connection) -> None:
        for _ in range(PEOPLE):
            self.users.append(self.name("user", (await firm_rows.user(conn)).id))
        for _ in range(TASKS):
            rows = await firm_rows.firm(conn, by=self.users[0])
            self.name("pillar", rows.pillar)
            self.tasks.append(self.name("task", rows.task))
            self.customers.append(self.name("customer", rows.customer))

    async def start(self, conn: Connection, user: int, task: int) -> object:
        """The answer to a start, or what it was refused with."""
        user_id, task_id = self.users[user], self.tasks[task]
        try:
            if self.in_one_call:
                timer, started = await timers.start(conn, task_id, user_id=user_id, notes="a")
            else:
                running = await timer_stops.get_running(conn, user_id)
                notes = None if running is not None and running.task_id == task_id else "a"
                by = await firm_rows.user(conn)
                change = TimerChange.model_validate({"taskId": task_id, "notes": notes})
                timer, started = await timers.start_or_change(conn, user_id, change, by=by)
        except Conflict as refused:
            return refused.detail
        except (Invalid, NotFound):
            return "no task"
        self.name("timer", timer.id)
        if timer.stopped is not None:
            await self._know_messages(conn)
        return self.named(timer.model_dump(mode="json")), started

    async def stop(self, conn: Connection, user: int, task: int) -> object:
        """The answer to a stop, or what it was refused with."""
        user_id, task_id = self.users[user], self.tasks[task]
        receipt = None
        try:
            if self.in_one_call:
                receipt = await timer_stops.stop_now(conn, task_id, user_id=user_id)
            if receipt is None:
                receipt = await timer_stops.stop(conn, task_id, user_id=user_id)
        except (Conflict, NotFound) as refused:
            return refused.detail
        await self._know_messages(conn)
        return self.named(receipt.stop.model_dump(mode="json")), self.names[str(receipt.message_id)]

    async def deliver(self, conn: Connection, number: int, *, delivery_number: int, queue: str) -> object:
        """Handles a delivery, unless it is one that the function leaves to the transaction. Whether it was handled."""
        if not self.messages:
            return None
        message_id = self.messages[number % len(self.messages)]
        if self.in_one_call:
            return await time_entries.handle_stop(conn, message_id, delivery_number, queue=queue, zone=ZONE)
        return await self._deliver_in_statements(conn, message_id, delivery_number, queue)

    async def deliver_together(self, conn: Connection, numbers: set[int], *, delivery_number: int) -> object:
        """Handles deliveries of several messages in one transaction. Which of them were handled."""
        chosen = {self.messages[number % len(self.messages)] for number in numbers} if self.messages else set()
        if self.in_one_call:
            references = dict.fromkeys(chosen, delivery_number)
            handled = await time_entries.handle_stops(conn, references, queue=QUEUE, zone=ZONE)
        else:
            handled = {of for of in chosen if await self._deliver_in_statements(conn, of, delivery_number, QUEUE)}
        return sorted(self.names[str(of)] for of in handled)

    async def _deliver_in_statements(self, conn: Connection, message_id: UUID, delivery_number: int, queue: str) -> bool:
        record = await outbox.lock(conn, message_id)
        if record is None or record.queue != queue or record.started_delivery is not None or "color" in record.body:
            return False
        of = delivery(message_id, delivery_number, actor=StopTimer.actor, queue=QUEUE)
        locked = await lock_for_delivery(conn, of, worker="w", base_seconds=1)
        if locked is None:
            return False
        assert isinstance(locked.message, StopTimer)
        await time_entries.create_from_stop(conn, locked.message, zone=ZONE)
        await outbox.complete(conn, message_id)
        return True

    async def change(self, conn: Connection, statement: str, number: int) -> object:
        values = {
            "user": self.users[number % PEOPLE], "task": self.tasks[number % TASKS], "users": self.users,
            "customer": self.customers[number % TASKS], "other": self.customers[(number + 1) % TASKS],
        }  # fmt: skip
        return (await conn.execute(statement, values)).rowcount

    async def _know_messages(self, conn: Connection) -> None:
        """Names the new message, and publishes it."""
        new = await conn.values(
            "SELECT id FROM messages WHERE body->>'user_id' = ANY(%s) AND NOT id = ANY(%s)",
            ([str(user) for user in self.users], self.messages),
        )
        assert len(new) <= 1
        self.messages += [self.name("message", message_id) for message_id in new]
        await conn.execute(
            "UPDATE messages SET state = 'sent', delivery_number = 1, sent_at = now() WHERE id = ANY(%s)", (new,)
        )

    def named(self, value: Any) -> Any:
        """The value with names instead of ids; ids of bills, which nothing names, are left out."""
        if isinstance(value, dict):
            return {key: self.named(item) for key, item in value.items() if key != "bill_id"}
        if isinstance(value, list):
            return [self.named(item) for item in value]
        return self.names.get(str(value), value)

    async def rows(self, conn: Connection) -> list[Any]:
        """All that the history has written, in an order that does not depend on ids."""
        found: list[Any] = []
        for table, owner in {
            "timers": "t.user_id",
            "stops": "t.user_id",
            "messages": "(t.body->>'user_id')::uuid",
            "time_entries": "t.user_id",
        }.items():
            rows = await conn.values(f"SELECT to_jsonb(t) FROM {table} t WHERE {owner} = ANY(%s)", (self.users,))
            for row in rows:
                row["done_at"] = "done_at" in row and row["done_at"] is not None  # the clock's time, not the transaction's
            found.append(sorted((self.named(row) for row in rows), key=repr))
        bills = await conn.all(
            """
            SELECT to_jsonb(b) - 'id', array(SELECT e.id FROM time_entries e WHERE e.bill_id = b.id)
            FROM time_bills b WHERE user_id = ANY(%s)
            """,
            (self.users,),
        )
        found.append(
            sorted(([self.named(bill), sorted(self.names[str(e)] for e in entries)] for bill, entries in bills), key=repr)
        )
        return found


CHANGES = {
    "archive": "UPDATE tasks SET status = 'archived' WHERE id = %(task)s",
    "open": "UPDATE tasks SET status = 'open' WHERE id = %(task)s",
    "delete": "UPDATE tasks SET deleted_at = now() WHERE id = %(task)s AND NOT EXISTS (SELECT FROM timers WHERE task_id = id)",
    "activate": "UPDATE customers SET active = NOT active WHERE id = %(customer)s",
    "move": """
        UPDATE tasks t SET customer_id = p.customer_id, pillar_id = p.id
        FROM pillars p WHERE t.id = %(task)s AND p.customer_id = %(other)s
    """,
    "backdate": "UPDATE timers SET start_time = start_time - interval '13 hours' WHERE user_id = %(user)s",
    "discard": "DELETE FROM timers WHERE user_id = %(user)s",
    "approve": """
        UPDATE time_bills SET status = 'approved', approved_by = user_id, approved_at = now(), approved_seconds = seconds
        WHERE user_id = %(user)s AND status <> 'approved' AND NOT stale AND deleted_at IS NULL AND rejection_note IS NULL
    """,
    "reject": """
        UPDATE time_bills SET status = 'rejected', rejection_note = 'no' WHERE user_id = %(user)s AND status = 'pending'
    """,
    "stale": "UPDATE time_bills SET stale = true, seconds = 7 WHERE user_id = %(user)s AND status = 'pending'",
    "unpublish": "UPDATE messages SET state = 'ready' WHERE body->>'user_id' = %(user)s::text AND state = 'sent'",
    "republish": """
        UPDATE messages SET state = 'sent', delivery_number = 1 WHERE body->>'user_id' = %(user)s::text AND state = 'ready'
    """,
    "add a field": """UPDATE messages SET body = body || '{"color": "red"}' WHERE body->>'user_id' = %(user)s::text""",
    "suspect": """
        UPDATE messages SET started_delivery = 0 WHERE body->>'user_id' = %(user)s::text AND state = 'sent'
    """,
}
people, tasks, numbers = (st.integers(0, most - 1) for most in (PEOPLE, TASKS, 12))
steps: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("start"), people, tasks),
    st.tuples(st.just("stop"), people, tasks),
    st.tuples(st.just("deliver"), numbers, st.sampled_from([1, 1, 1, 1, 2]), st.sampled_from([QUEUE, QUEUE, QUEUE, "bills"])),
    st.tuples(st.just("deliver together"), st.sets(numbers, min_size=2, max_size=6), st.sampled_from([1, 1, 1, 2])),
    st.tuples(st.sampled_from(sorted(CHANGES)), numbers),
)


async def take(world: World, conn: Connection, step: tuple[Any, ...]) -> object:
    kind, *values = step
    async with conn.transaction():  # within the history's: a refusal writes nothing
        if kind == "start":
            return await world.start(conn, *values)
        if kind == "stop":
            return await world.stop(conn, *values)
        if kind == "deliver":
            return await world.deliver(conn, values[0], delivery_number=values[1], queue=values[2])
        if kind == "deliver together":
            return await world.deliver_together(conn, values[0], delivery_number=values[1])
        return await world.change(conn, CHANGES[kind], *values)


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def test_both_ways_write_the_same_rows_and_give_the_same_answers(url: str) -> None:
    seen: set[str] = set()

    async def check(conn: Connection, history: list[tuple[Any, ...]]) -> None:
        worlds = World(in_one_call=True), World(in_one_call=False)
        async with conn.transaction(force_rollback=True):  # one transaction, so that both have the same now()
            for world in worlds:
                await world.fill(conn)
            for step in history:
                one, several = [await take(world, conn, step) for world in worlds]
                assert one == several, step
                seen.add(" ".join(f"{step[0]} {one if isinstance(one, (str, bool)) else 'done'}".split()[:4]))
            one_rows, several_rows = [await world.rows(conn) for world in worlds]
            assert one_rows == several_rows

    @seed(20)
    @how(
        max_examples=15, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @examples(st.lists(steps, min_size=20, max_size=40))
    def histories(history: list[tuple[Any, ...]]) -> None:
        over(url, lambda conn: check(conn, history))

    histories()
    refusals = {"start no task", "start This task is", "start The customer of", "stop You have no"}
    assert refusals | {"start done", "stop done", "deliver True", "deliver False"} <= seen, seen


async def sent(conn: Connection, rows: FirmRows) -> UUID:
    """The message of a stop, with a worker for the first time."""
    await timers.start(conn, rows.task, user_id=rows.user)
    receipt = await timer_stops.stop_now(conn, rows.task, user_id=rows.user)
    assert receipt is not None
    publish = "UPDATE messages SET state = 'sent', delivery_number = 1, sent_at = now() WHERE id = %s"
    await conn.execute(publish, (receipt.message_id,))
    return receipt.message_id


async def while_locked(url: str, conn: Connection, lock: str, of: UUID, call: Awaitable[T], change: str = "") -> T:
    """The result of a call that waits for a lock of another transaction, which changes something before it commits."""
    async with connected(url) as other:
        await conn.execute("SET lock_timeout = '20s'")
        async with other.transaction():
            await other.execute(lock, (of,))
            waiting = asyncio.ensure_future(call)
            await asyncio.sleep(0)
            while not await other.value(
                "SELECT %s = ANY (pg_blocking_pids(%s))", (other.info.backend_pid, conn.info.backend_pid)
            ):
                assert not waiting.done(), "it has not waited for the lock"
                await asyncio.sleep(0.01)
            if change:
                await other.execute(change, (of,))
        return await waiting


def test_a_call_looks_only_after_it_has_the_lock(url: str) -> None:
    """One snapshot for the whole call, as of a single statement, would be from before the wait."""
    user_lock = "SELECT FROM users WHERE id = %s FOR NO KEY UPDATE"

    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        start = timers.start(conn, rows.task, user_id=rows.user)
        started_meanwhile = f"""
            INSERT INTO timers (user_id, id, task_id, start_time)
            VALUES (%s, gen_random_uuid(), '{rows.task}', date_trunc('second', now(), 'UTC'))
        """
        assert (await while_locked(url, conn, user_lock, rows.user, start, started_meanwhile))[1] is False

        stop = timer_stops.stop_now(conn, rows.task, user_id=rows.user)
        assert await while_locked(url, conn, user_lock, rows.user, stop, "DELETE FROM timers WHERE user_id = %s") is None

        archive = "UPDATE tasks SET status = 'archived' WHERE id = %s"
        other_task = await firm_rows.firm(conn, by=rows.user)
        with pytest.raises(Conflict, match="archived"):
            await while_locked(
                url, conn, "SELECT FROM tasks WHERE id = %s FOR NO KEY UPDATE", other_task.task,
                timers.start(conn, other_task.task, user_id=rows.user), archive,
            )  # fmt: skip

        message = await sent(conn, rows)
        handle = time_entries.handle_stop(conn, message, 1, queue=QUEUE, zone=ZONE)
        lock, done = (
            "SELECT FROM messages WHERE id = %s FOR UPDATE",
            "UPDATE messages SET state = 'done', done_at = now() WHERE id = %s",
        )
        assert await while_locked(url, conn, lock, message, handle, done) is False
        assert await conn.value("SELECT count(*) FROM time_entries WHERE user_id = %s", (rows.user,)) == 0

    over(url, check)


def test_no_timer_starts_after_its_owner_was_removed(url: str) -> None:
    """Whatever a process has read of them: the removal says which timer runs on. An admin may start one for them."""
    lock, remove = "SELECT FROM users WHERE id = %s FOR NO KEY UPDATE", "UPDATE users SET revoked_at = now() WHERE id = %s"

    async def check(conn: Connection) -> None:
        admin = await firm_rows.user(conn)
        for start in ("now", "as a change", "offline"):
            rows = await firm_rows.firm(conn)
            by = User(id=rows.user, email="jo@example.com", name="Jo", role=Role.internal, customer_id=None)
            change = TimerChange(taskId=rows.task)
            offline = OfflineStart(id=uuid4(), taskId=rows.task, startTime=datetime.now(UTC).replace(microsecond=0))
            starts: dict[str, Awaitable[object]] = {
                "now": timers.start(conn, rows.task, user_id=rows.user),
                "as a change": timers.start_or_change(conn, rows.user, change, by=by),
                "offline": offline_timers.start(conn, offline, user_id=rows.user),
            }
            with pytest.raises(Forbidden):
                await while_locked(url, conn, lock, rows.user, starts.pop(start), remove)
            for other in starts.values():
                with pytest.raises(Forbidden):
                    await other
            assert await conn.value("SELECT count(*) FROM timers WHERE user_id = %s", (rows.user,)) == 0
            assert (await timers.start_or_change(conn, rows.user, change, by=admin))[1]

    over(url, check)


def test_an_entry_goes_to_the_customer_to_which_its_task_moves_meanwhile_and_not_to_a_bill_that_is_approved_meanwhile(
    url: str,
) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        first, second, third = [await sent(conn, rows) for _ in range(3)]
        handled = [time_entries.handle_stop(conn, message, 1, queue=QUEUE, zone=ZONE) for message in (first, second, third)]
        assert await handled[0]
        bill = await conn.value("SELECT id FROM time_bills WHERE user_id = %s", (rows.user,))
        approve = """
            UPDATE time_bills SET status = 'approved', approved_by = user_id, approved_at = now(), approved_seconds = seconds
            WHERE id = %s
        """
        assert await while_locked(
            url, conn, "SELECT FROM time_bills WHERE id = %s FOR NO KEY UPDATE", bill, handled[1], approve
        )
        other = await firm_rows.firm(conn)
        move = f"UPDATE tasks SET customer_id = '{other.customer}', pillar_id = '{other.pillar}' WHERE id = %s"
        lock = "SELECT FROM tasks WHERE id = %s FOR NO KEY UPDATE"
        assert await while_locked(url, conn, lock, rows.task, handled[2], move)
        found = await conn.all(
            """
            SELECT b.id = %s, b.customer_id, b.status, count(e.id) FROM time_bills b JOIN time_entries e ON e.bill_id = b.id
            WHERE b.user_id = %s GROUP BY b.id ORDER BY b.created_at
            """,
            (bill, rows.user),
        )
        assert found == [
            (True, rows.customer, "approved", 1), (False, rows.customer, "pending", 1), (False, other.customer, "pending", 1),
        ]  # fmt: skip

    over(url, check)


@pytest.fixture
def runner(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AttemptRunner]:
    """A worker's thread over that database."""
    for name, value in {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY}.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    runner = AttemptRunner(settings(), threading.Event())
    yield runner
    runner._loop.run(runner._drop_connection())  # a worker never closes it
    runner._loop.close()
    settings.cache_clear()


def test_a_worker_handles_a_stop_in_one_round_trip_and_what_the_call_refuses_in_the_transaction(
    url: str, runner: AttemptRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("actors.timers")  # registers the handler
    trips = 0
    wait = Connection.wait

    async def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal trips
        trips += 1
        return await wait(*arguments, **named)

    monkeypatch.setattr(Connection, "wait", counted)

    def run(message: UUID, **more: Any) -> tuple[str, list[tuple[str, str]], int]:
        """The message's state after the delivery, its failed attempts, and how many round trips it took."""
        nonlocal trips
        trips = 0
        assert runner.run(delivery(message, actor=StopTimer.actor, queue=QUEUE, **more))
        taken = trips

        async def read(conn: Connection) -> tuple[str, list[tuple[str, str]]]:
            state = await conn.value("SELECT state FROM messages WHERE id = %s", (message,))
            failed = "SELECT error_class, frame FROM message_attempts WHERE message_id = %s"
            return state, await conn.all(failed, (message,))

        return *over(url, read), taken

    async def prepare(conn: Connection) -> list[UUID]:
        return [await sent(conn, await firm_rows.firm(conn)) for _ in range(5)]

    *messages, redelivered, wrong = over(url, prepare)
    taken = [run(message) for message in messages]
    assert [outcome[:2] for outcome in taken] == [("done", [])] * 3
    assert taken[-1][2] == 1, "the connection is open, and the statement prepared"
    assert run(messages[0])[0] == "done"  # a duplicate
    assert run(redelivered, redelivered=True)[0] == "done"

    async def spoil(conn: Connection) -> None:
        await conn.execute(
            "UPDATE messages SET body = body || %s WHERE id = %s", ('{"end_time": "2000-01-01T00:00:00Z"}', wrong)
        )

    over(url, spoil)
    state, failed, _ = run(wrong)
    assert (state, failed) == ("ready", [("psycopg.errors.CheckViolation", "schemas/hours/time_entries.py:create_from_stop")])

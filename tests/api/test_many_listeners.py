"""Streams in numbers, streams that nobody reads, and streams whose server stops: each on an API of its own."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.database import APART_SIZE, POOL_SIZE
from tests.api.streams import Stream, asked, listening, metric, request
from tests.api.wire import Wire
from tests.given import Given, Person
from tests.installation import Installation, eventually

LISTENERS = 1_000


def resident_bytes(stint: Installation) -> int:
    status = Path(f"/proc/{stint.processes['api'].pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def made_tasks(stint: Installation, by: Person, count: int) -> None:
    """In one transaction, past the API."""
    stint.rows(
        """
        INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
        SELECT gen_random_uuid(), 'imported', customer_id, pillar_id, '', %s
        FROM (SELECT customer_id, pillar_id FROM tasks LIMIT 1) one, generate_series(1, %s) RETURNING id
        """,
        by.id,
        count,
    )


@pytest.fixture
def given_own(own: Installation) -> Iterator[Given]:
    made = Given(own)
    yield made
    made.close()


@pytest.fixture
def begun(own: Installation) -> Installation:
    own.environment |= {"STINT_HEARTBEAT_SECONDS": "5", "STINT_SLOW_SECONDS": "1.5"}
    return own.start("api").wait_until_ready()


async def all_hear(port: int, tokens: list[str], change: "asyncio.Future[str]", ready: "asyncio.Event") -> list[float]:
    """A thousand clients, each with a socket: how long after the change each of them heard of it."""
    few = asyncio.Semaphore(30)
    begun = 0

    async def one(token: str) -> float:
        nonlocal begun
        async with few:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(token))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            await reader.readuntil(b"event: reset\ndata: {}\n\n")
        begun += 1
        if begun == len(tokens):
            ready.set()
        heard = b""
        row_id = (await change).encode()
        since = time.monotonic()
        while row_id not in heard:
            heard += await reader.read(65536)
        writer.close()
        return time.monotonic() - since

    return await asyncio.gather(*(one(token) for token in tokens))


def test_a_thousand_listeners_cost_one_connection_and_little_memory(begun: Installation, given_own: Given) -> None:
    people = given_own.people(50)
    by = people[0]
    task = given_own.task(by)
    before = resident_bytes(begun)

    async def main() -> list[float]:
        ready, change = asyncio.Event(), asyncio.get_running_loop().create_future()
        hearing = asyncio.create_task(all_hear(begun.port, [person.token for person in people] * 20, change, ready))
        async with asyncio.timeout(120):
            await asyncio.wait({hearing, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set(), hearing.exception() if hearing.done() else "not everybody has begun"
        await asyncio.to_thread(check)
        change.set_result(task["id"])
        await asyncio.to_thread(by.put, f"/api/tasks/{task['id']}", {"title": "Heard by all"})
        return await hearing

    def check() -> None:
        assert metric(begun.url, "stint_listeners") == LISTENERS
        grown = resident_bytes(begun) - before
        print(f"{grown / LISTENERS / 1024:.1f} kB for each listener")
        assert grown < LISTENERS * 100 * 1024
        connections = begun.rows(  # of clients: Postgres vacuums by itself, too
            """
            SELECT application_name, backend_start, state, query FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
            """
        )
        # those for requests, whoever listens; the one that reads; the one that watches over Postgres
        assert len(connections) <= POOL_SIZE + APART_SIZE + 2, connections
        assert sum("pg_visible_in_snapshot" in query for *_, query in connections) == 1
        assert by.get("/api/me")["id"] == by.id  # they hold none of the pool's

    times = asyncio.run(main())
    assert len(times) == LISTENERS
    print(f"a change heard by {LISTENERS} within {max(times) * 1000:.0f} ms")
    eventually(lambda: metric(begun.url, "stint_listeners") == 0)


def test_what_changed_is_read_once_for_all_listeners(own: Installation, given_own: Given) -> None:
    with Wire(own.database_url) as wire:
        own.environment["DATABASE_URL"] = wire.database_url
        own.start("api").wait_until_ready()
        people = given_own.people(5)
        task = given_own.task(people[0])
        with ExitStack() as stack:
            streams = [stack.enter_context(listening(person)) for person in people * 10]
            wire.clear()
            since = time.monotonic()
            for number in range(1, 4):
                people[0].put(f"/api/tasks/{task['id']}", {"title": f"Mended {number}"})
                for stream in streams:
                    stream.heard("task", task["id"], times=number)
            reads = sum("pg_visible_in_snapshot" in statement for statement in wire.statements)
            assert 3 <= reads <= 3 + 3 + (time.monotonic() - since)  # the changes, some noticed twice, and a poll a second


def test_who_reads_nothing_is_cut_off_while_the_others_go_on(begun: Installation, given_own: Given) -> None:
    by = given_own.person()
    given_own.task(by)
    made_tasks(begun, by, 900)
    stuck = [asked(begun.url, by.token, receive_bytes=4096) for _ in range(5)]
    eventually(lambda: metric(begun.url, "stint_listeners") == len(stuck))
    before, rounds = resident_bytes(begun), 0
    with listening(by) as reading:
        while metric(begun.url, 'stint_listeners_ended_total{why="slow"}') < len(stuck):
            rounds += 1
            assert rounds < 200
            begun.rows("UPDATE tasks SET title = 'again' RETURNING id")
            assert resident_bytes(begun) - before < 20 * 1024 * 1024
        reading.heard("task", given_own.task(by)["id"])
        assert reading.resets == 1 and not reading.is_over
        assert len(set(reading.events)) == 1 + 901 + 1
        assert metric(begun.url, "stint_listeners") == 1
    for sock in stuck:
        assert not Stream(sock).is_over_soon()  # in the middle of it
        sock.close()


def test_who_falls_behind_but_reads_on_starts_over(own: Installation, given_own: Given) -> None:
    own.environment["STINT_SLOW_SECONDS"] = "60"
    own.start("api").wait_until_ready()
    by = given_own.person()
    given_own.task(by)
    sock = asked(own.url, by.token, receive_bytes=4096)
    with listening(by) as reading:
        eventually(lambda: metric(own.url, "stint_listeners") == 2)
        for number in range(1, 11):
            made_tasks(own, by, 900)  # 66 kB each time
            eventually(lambda number=number: len(reading.events) == 1 + 900 * number)
        behind = Stream(sock)
        eventually(lambda: behind.resets == 2, why="it is told to read all anew")
        assert len(behind.events) < len(reading.events) and reading.resets == 1
        task = given_own.task(by)
        behind.heard("task", task["id"])
        behind.close()


@pytest.mark.alone
def test_a_server_that_stops_ends_its_streams_at_once(begun: Installation, given_own: Given) -> None:
    by = given_own.person()
    given_own.task(by)
    with listening(by) as stream, ThreadPoolExecutor(1) as pool:
        stuck = asked(begun.url, by.token, receive_bytes=4096)
        eventually(lambda: metric(begun.url, "stint_listeners") == 2)
        for _ in range(6):
            made_tasks(begun, by, 900)
            time.sleep(0.1)
        process = begun.processes["api"]
        since = time.monotonic()
        pool.submit(begun.kill, "api", signal.SIGTERM).result()
        assert time.monotonic() - since < 4  # 1 s for who does not read, and what a busy machine takes
        assert process.returncode in (0, -signal.SIGTERM)
        assert stream.is_over_soon()
        stuck.close()
    log = begun.log("api")
    assert "Traceback" not in log and "timeout graceful shutdown exceeded" not in log, log[-3000:]

"""Many streams, streams that no client reads, and streams whose server stops: each test with its own API."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.postgres.pool import POOL_SIZE, UNQUEUED_SIZE
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually
from tests.support.sizes import STREAMS
from tests.support.wire import Wire
from tests.sync.streams import Stream, metric, open_stream, request, subscribed


def resident_bytes(stint: Installation) -> int:
    status = Path(f"/proc/{stint.processes['api'].pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def insert_tasks(stint: Installation, by: Person, count: int) -> None:
    """Inserts tasks in one transaction, without the API."""
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
def running_api(own: Installation) -> Installation:
    own.environment |= {"STINT_HEARTBEAT_SECONDS": "5", "STINT_SLOW_SECONDS": "1.5"}
    return own.start("api").wait_until_ready()


async def receive_in_all(port: int, tokens: list[str], change: "asyncio.Future[str]", ready: "asyncio.Event") -> list[float]:
    """Opens a stream for each token, and returns for each the seconds from the change until its event arrived."""
    at_once = asyncio.Semaphore(30)
    started = 0

    async def one(token: str) -> float:
        nonlocal started
        async with at_once:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(token))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            await reader.readuntil(b"event: reset\ndata: {}\n\n")
        started += 1
        if started == len(tokens):
            ready.set()
        received = b""
        row_id = (await change).encode()
        since = time.monotonic()
        while row_id not in received:
            received += await reader.read(65536)
        writer.close()
        return time.monotonic() - since

    return await asyncio.gather(*(one(token) for token in tokens))


def test_many_streams_need_one_connection_and_little_memory(running_api: Installation, given_own: Given) -> None:
    people = given_own.people(50)
    by = people[0]
    task = given_own.task(by)
    running_api.tokens.close()  # a connection that the API does not have
    before = resident_bytes(running_api)

    async def main() -> list[float]:
        ready, change = asyncio.Event(), asyncio.get_running_loop().create_future()
        receiving = asyncio.create_task(
            receive_in_all(running_api.port, [person.token for person in people] * (STREAMS // 50), change, ready)
        )
        async with asyncio.timeout(120):
            await asyncio.wait({receiving, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set(), receiving.exception() if receiving.done() else "not all streams have started"
        await asyncio.to_thread(check)
        change.set_result(task["id"])
        await asyncio.to_thread(by.put, f"/api/tasks/{task['id']}", {"title": "Received by all"})
        return await receiving

    def check() -> None:
        assert metric(running_api.url, "stint_listeners") == STREAMS
        grown = resident_bytes(running_api) - before
        print(f"{grown / STREAMS / 1024:.1f} kB for each stream")
        assert grown < STREAMS * 100 * 1024
        connections = running_api.rows(  # only clients' connections: autovacuum has some, too
            """
            SELECT application_name, backend_start, state, query FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
            """
        )
        # those for requests, with or without streams; the one that reads changes; the liveness probe's; the heartbeat's
        assert len(connections) <= POOL_SIZE + UNQUEUED_SIZE + 3, connections
        assert sum("pg_current_snapshot()::text" in query for *_, query in connections) == 1
        assert by.get("/api/me")["id"] == by.id  # streams keep none of the pool's connections

    times = asyncio.run(main())
    assert len(times) == STREAMS
    print(f"a change received by {STREAMS} streams within {max(times) * 1000:.0f} ms")
    eventually(lambda: metric(running_api.url, "stint_listeners") == 0)


def test_a_change_is_read_once_for_all_streams(own: Installation, given_own: Given) -> None:
    with Wire(own.database_url) as wire:
        own.environment["DATABASE_URL"] = wire.database_url
        own.start("api").wait_until_ready()
        people = given_own.people(5)
        task = given_own.task(people[0])
        with ExitStack() as stack:
            streams = [stack.enter_context(subscribed(person)) for person in people * 10]
            wire.clear()
            since = time.monotonic()
            for number in range(1, 4):
                people[0].put(f"/api/tasks/{task['id']}", {"title": f"Renamed {number}"})
                for stream in streams:
                    stream.wait_for("task", task["id"], times=number)
            reads = sum("pg_visible_in_snapshot" in statement for statement in wire.statements)
            # one for each change, perhaps one more for its second notification, and one poll a second
            assert 3 <= reads <= 3 + 3 + (time.monotonic() - since)


def test_a_stream_whose_client_does_not_read_is_ended_and_others_continue(running_api: Installation, given_own: Given) -> None:
    by = given_own.person()
    given_own.task(by)
    insert_tasks(running_api, by, 900)
    stuck = [open_stream(running_api.url, by.token, receive_bytes=4096) for _ in range(5)]
    eventually(lambda: metric(running_api.url, "stint_listeners") == len(stuck))
    before, rounds = resident_bytes(running_api), 0
    with subscribed(by) as reading:
        while metric(running_api.url, 'stint_listeners_ended_total{why="slow"}') < len(stuck):
            rounds += 1
            assert rounds < 200
            running_api.rows("UPDATE tasks SET title = 'again' RETURNING id")
            assert resident_bytes(running_api) - before < 20 * 1024 * 1024
        reading.wait_for("task", given_own.task(by)["id"])
        assert reading.resets == 1 and not reading.has_ended
        assert len(set(reading.events)) == 1 + 901 + 1
        assert metric(running_api.url, "stint_listeners") == 1
    for sock in stuck:
        assert not Stream(sock).ends_properly()  # aborted: the response is incomplete
        sock.close()


def test_a_stream_that_falls_behind_gets_a_reset(own: Installation, given_own: Given) -> None:
    own.environment["STINT_SLOW_SECONDS"] = "60"
    own.start("api").wait_until_ready()
    by = given_own.person()
    given_own.task(by)
    sock = open_stream(own.url, by.token, receive_bytes=4096)
    with subscribed(by) as reading:
        eventually(lambda: metric(own.url, "stint_listeners") == 2)
        for number in range(1, 11):
            insert_tasks(own, by, 900)  # 66 kB of events each time
            eventually(lambda number=number: len(reading.events) == 1 + 900 * number)
        behind = Stream(sock)
        eventually(lambda: behind.resets == 2, why="it gets a reset")
        assert len(behind.events) < len(reading.events) and reading.resets == 1
        task = given_own.task(by)
        behind.wait_for("task", task["id"])
        behind.close()


@pytest.mark.exclusive
def test_a_server_that_stops_ends_its_streams_at_once(running_api: Installation, given_own: Given) -> None:
    by = given_own.person()
    given_own.task(by)
    with subscribed(by) as stream, ThreadPoolExecutor(1) as pool:
        stuck = open_stream(running_api.url, by.token, receive_bytes=4096)
        eventually(lambda: metric(running_api.url, "stint_listeners") == 2)
        for _ in range(6):
            insert_tasks(running_api, by, 900)
            time.sleep(0.1)
        process = running_api.processes["api"]
        since = time.monotonic()
        pool.submit(running_api.kill, "api", signal.SIGTERM).result()
        assert time.monotonic() - since < 4  # 1 s for the stream that is not read, and some for a busy machine
        assert process.returncode in (0, -signal.SIGTERM)
        assert stream.ends_properly()
        stuck.close()
    log = running_api.log("api")
    assert "Traceback" not in log and "timeout graceful shutdown exceeded" not in log, log[-3000:]

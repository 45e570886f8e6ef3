"""RabbitMQ stopped, killed, emptied, out of memory; Postgres restarted: a stop is answered and has its effect exactly once."""

import asyncio
import contextlib
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from ops.up.servers import Servers
from schemas.diagnosis import rabbitmq
from tests.faults import rabbit
from tests.faults.test_kills import check, is_over, keep_alive
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, emptied, eventually, new_database
from tests.support.live_times import live_times

pytestmark = pytest.mark.slow
PARTS = ("relay", "work")


@pytest.fixture
def stint(servers: Servers, queue_type: str, tmp_path: Path) -> Iterator[Installation]:
    if not servers.rabbitmq.is_running():
        servers.rabbitmq.start()
        servers.rabbitmq.wait()
    amqp_url = emptied(servers.amqp_url)
    installation = Installation(new_database(servers.database_url), amqp_url, tmp_path, STINT_QUEUE_TYPE=queue_type)
    try:
        yield installation.start("api", *PARTS).wait_until_ready()
    finally:
        installation.stop()


def stop_once(person: Person, task: Json) -> tuple[Json, float]:
    person.http.post(f"/api/tasks/{task['id']}/start").raise_for_status()
    started_at = time.perf_counter()
    answer = person.http.post(f"/api/tasks/{task['id']}/stop")
    seconds = time.perf_counter() - started_at
    assert answer.status_code == 202, answer.text
    return answer.json(), seconds


def until_over(stint: Installation, *, seconds: float) -> None:
    """Returns when every message is done. Otherwise its failure shows those that are not, and what the processes logged."""
    try:
        eventually(lambda: is_over(stint), seconds=seconds, why="every message is done")
    except AssertionError as error:
        left = "SELECT actor, state, delivery_number, attempts, sent_at, now(), error FROM messages WHERE state <> 'done'"
        error.add_note("\n".join(map(str, stint.rows(left))))
        for name, process in stint.processes.items():
            error.add_note(f"{name}: exit code {process.poll()}\n{stint.log(name)[-3000:]}")
        raise


def insist_on_stops(person: Person, task: Json, count: int) -> list[Json]:
    """Starts and stops a timer `count` times; repeats requests that get a 503."""

    def insist(ask: Callable[[], httpx2.Response]) -> httpx2.Response:
        for _ in range(200):
            answer = ask()
            if answer.status_code < 500:
                return answer
            assert answer.status_code == 503 and "Retry-After" in answer.headers, answer.text
            time.sleep(0.1)
        raise AssertionError("503 for 20 s")

    stops = []
    for _ in range(count):
        assert insist(lambda: person.http.post(f"/api/tasks/{task['id']}/start")).status_code in (200, 201)
        stops.append(insist(lambda: person.http.post(f"/api/tasks/{task['id']}/stop")).json())
    return stops


@pytest.mark.parametrize("emptied", [False, True], ids=["kept", "emptied"])
def test_stops_answer_while_rabbitmq_is_down_and_arrive_when_it_is_back(
    emptied: bool, stint: Installation, servers: Servers, given: Given
) -> None:
    admin = given.admin()
    task = given.task(admin)
    people = given.people(5)
    stops = [stop_once(person, task)[0] for person in people]  # some are under way
    servers.rabbitmq.kill() if emptied else servers.rabbitmq.stop()
    if emptied:
        servers.rabbitmq.empty()

    measured = [stop_once(person, task) for _ in range(10) for person in people]
    stops += [stop for stop, _ in measured]
    print(f"stop with RabbitMQ down: median {statistics.median(seconds for _, seconds in measured) * 1000:.1f} ms")
    assert stint.value("SELECT count(*) FROM messages WHERE state = 'done'") <= 5

    servers.rabbitmq.start()
    servers.rabbitmq.wait()
    eventually(lambda: is_over(stint), seconds=60, why=f"every message is done; {stint.log('relay')[-2000:]}")
    check(stint, stops)
    assert stint.is_running("work") and stint.is_running("relay")  # they waited, they did not die


def test_rabbitmq_killed_under_load_loses_nothing(stint: Installation, servers: Servers, given: Given) -> None:
    admin = given.admin()
    task = given.task(admin)
    people = given.people(4)

    def work(person: Person) -> list[Json]:
        return [stop_once(person, task)[0] for _ in range(40)]

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, person) for person in people]
        for _ in range(2):
            time.sleep(1)
            servers.rabbitmq.kill()
            servers.rabbitmq.start()
            servers.rabbitmq.wait()
        stops = [stop for future in working for stop in future.result()]
    eventually(lambda: is_over(stint), seconds=60, why=f"every message is done; {stint.log('relay')[-2000:]}")
    check(stint, stops)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_postgres_restarted_under_load_loses_nothing_that_was_answered(
    how: str, stint: Installation, servers: Servers, given: Given
) -> None:
    admin = given.admin()
    task = given.task(admin)
    people = given.people(4)
    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(insist_on_stops, person, task, 30) for person in people]
        time.sleep(1)
        getattr(servers.postgres, how)()
        time.sleep(1)
        servers.postgres.start()
        servers.postgres.wait()
        answered = {stop["entryId"] for future in working for stop in future.result()}
    keep_alive(stint, *PARTS)
    eventually(lambda: is_over(stint), seconds=60, why=f"every message is done; {stint.log('work')[-2000:]}")
    # a stop whose answer was lost on the way may have been committed, and is then repeated: no more, no less
    assert answered == {row[0] for row in stint.rows("SELECT id::text FROM time_entries")}
    stint.verify()


def test_a_frozen_postgres_is_503_and_not_silence(stint: Installation, servers: Servers, given: Given) -> None:
    admin = given.admin()
    pid = servers.postgres.pids[0]
    backends = [row[0] for row in stint.rows("SELECT pid FROM pg_stat_activity")]
    for frozen in (pid, *backends):
        with contextlib.suppress(ProcessLookupError):
            os.kill(frozen, signal.SIGSTOP)
    try:
        for path in ("/api/tasks", "/health/ready", "/api/me"):
            assert admin.http.get(path, timeout=5).status_code == 503, path
        for path in ("/health/live", "/metrics"):
            assert admin.http.get(path, timeout=5).status_code == 200, path
    finally:
        for frozen in (pid, *backends):
            with contextlib.suppress(ProcessLookupError):
                os.kill(frozen, signal.SIGCONT)
    eventually(lambda: stint.answers("/health/ready"), seconds=20)
    task = given.task(admin)
    stop = stop_once(admin, task)[0]
    eventually(lambda: is_over(stint), seconds=40)
    check(stint, [stop])


def test_a_queue_that_never_confirms_holds_nothing_up_for_good(servers: Servers, stint: Installation, given: Given) -> None:
    """RabbitMQ stands still with the connection open: what was sent into it is sent again when it moves on."""
    admin = given.admin()
    task = given.task(admin)
    for pid in servers.rabbitmq.pids:
        os.kill(pid, signal.SIGSTOP)
    stops = [stop_once(admin, task)[0] for _ in range(10)]
    time.sleep(20)  # longer than the relay waits for confirms
    for pid in servers.rabbitmq.pids:
        os.kill(pid, signal.SIGCONT)
    stops += [stop_once(admin, task)[0] for _ in range(10)]
    until_over(stint, seconds=60)
    check(stint, stops)


def test_a_relay_frozen_for_a_while_comes_back_to_a_settled_ledger(stint: Installation, given: Given) -> None:
    admin = given.admin()
    task = given.task(admin)
    relay = stint.processes["relay"]
    relay.send_signal(signal.SIGSTOP)
    stint.processes["frozen"] = stint.processes.pop("relay")
    stint.start("relay")
    stops = [stop_once(admin, task)[0] for _ in range(20)]
    eventually(lambda: is_over(stint), seconds=40)
    relay.send_signal(signal.SIGCONT)
    stops += [stop_once(admin, task)[0] for _ in range(20)]
    eventually(lambda: is_over(stint), seconds=40)
    check(stint, stops)


def test_a_rabbitmq_that_takes_nothing_delays_no_stop_and_loses_none(
    stint: Installation, servers: Servers, given: Given
) -> None:
    admin = given.admin()
    task = given.task(admin)
    people = given.people(4)
    stops = [stop_once(person, task)[0] for person in people]
    reported = "SELECT problems->>'RabbitMQ' FROM heartbeats WHERE kind = 'relay' AND problems ? 'RabbitMQ'"
    for alarm, reason, cure in (
        (rabbit.memory_alarm, "low on memory", "set_vm_memory_high_watermark"),
        (rabbit.disk_alarm, "low on disk", "set_disk_free_limit"),
    ):
        alarm(servers.rabbitmq, True)
        try:
            with live_times(stint) as live:
                measured = [stop_once(person, task) for _ in range(5) for person in people]
            stops += [stop for stop, _ in measured]
            assert max(seconds for _, seconds in measured) < 1 + live.slowest
            eventually(lambda: stint.rows(reported), seconds=40, why="the relay's heartbeat has the alarm")
            assert stint.value(reported) == f"blocked: {reason}"
            state = asyncio.run(rabbitmq.probe(servers.amqp_url))
            assert state == f"blocks publishers: {reason}" and cure in rabbitmq.of_rabbitmq(state).do
            assert not is_over(stint)
        finally:
            alarm(servers.rabbitmq, False)
        eventually(lambda: not stint.rows(reported), seconds=40, why="it is over")
    for _ in range(3):  # and all connections are closed by force while that is worked off
        rabbit.close_connections(servers.rabbitmq)
        stops += [stop_once(person, task)[0] for person in people]
    eventually(lambda: is_over(stint), seconds=60, why=f"every message is done; {stint.log('relay')[-2000:]}")
    check(stint, stops)
    assert stint.is_running("work") and stint.is_running("relay")


def test_connections_that_postgres_ends_under_load_lose_nothing(stint: Installation, given: Given) -> None:
    admin = given.admin()
    task = given.task(admin)
    people = given.people(4)
    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(insist_on_stops, person, task, 20) for person in people]
        while not all(future.done() for future in working):
            stint.rows(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                """
            )
            time.sleep(0.7)
        answered = {stop["entryId"] for future in working for stop in future.result()}
    eventually(lambda: is_over(stint), seconds=60, why=f"every message is done; {stint.log('work')[-2000:]}")
    assert answered == {row[0] for row in stint.rows("SELECT id::text FROM time_entries")}
    assert all(stint.is_running(name) for name in ("api", *PARTS))
    stint.verify()

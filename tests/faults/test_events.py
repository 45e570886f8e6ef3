"""Postgres restarted, killed or frozen while event streams are open: clients get a reset, or miss nothing."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from ops.up.postgres import Postgres
from schemas.postgres.migrate import migrate
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually, new_database, with_database
from tests.sync.streams import RESET, subscribed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One that this module may stop."""
    home = tmp_path_factory.mktemp("postgres")
    home.chmod(0o711)
    server = Postgres(home, durable=False)
    asyncio.run(server.prepare())
    server.start()
    try:
        with psycopg.connect(server.database_url, autocommit=True) as conn:
            conn.execute("CREATE DATABASE stint_template")
        asyncio.run(migrate(with_database(server.database_url, "stint_template")))
        yield server
    finally:
        server.stop()


@pytest.fixture
def apis(postgres: Postgres, tmp_path: Path) -> Iterator[list[Installation]]:
    """Two API processes over one database; nobody works behind them."""
    database_url = new_database(postgres.database_url)
    patience = {"STINT_HEARTBEAT_SECONDS": "0.3"}
    processes = [Installation(database_url, "amqp://127.0.0.1:1", tmp_path / str(number), **patience) for number in range(2)]
    try:
        for process in processes:
            process.directory.mkdir()
            process.start("api").wait_until_ready()
        yield processes
    finally:
        for process in processes:
            process.stop()


@pytest.fixture
def given(apis: list[Installation]) -> Iterator[Given]:
    made = Given(apis[0])
    yield made
    made.close()


def insisted(by: Person, task: Json) -> None:
    """Renames the task as soon as that works."""
    eventually(lambda: by.http.put(f"/api/tasks/{task['id']}", json={"title": f"at {time.time()}"}).status_code == 200)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_after_a_restart_of_postgres_every_listener_starts_over_and_hears_on(
    how: str, apis: list[Installation], given: Given, postgres: Postgres
) -> None:
    by = given.person()
    task = given.task(by)
    user = given.person("customer_user", task["customerId"])
    with ExitStack() as stack:
        streams = [stack.enter_context(subscribed(person, api.url)) for api in apis for person in (by, user)]
        getattr(postgres, how)()
        beats = [stream.heartbeats for stream in streams]
        for stream, before in zip(streams, beats, strict=True):
            eventually(lambda stream=stream, before=before: stream.heartbeats > before)  # it stays open meanwhile
        postgres.start()
        insisted(by, task)
        for stream in streams:
            eventually(lambda stream=stream: stream.resets == 2, why=f"a second reset; {apis[0].log('api')[-1000:]}")
        counts = [stream.events.count(("task", task["id"])) for stream in streams]
        insisted(by, task)
        for stream, count in zip(streams, counts, strict=True):
            stream.wait_for("task", task["id"], times=count + 1)
            assert not stream.has_ended and stream.resets == 2


def test_a_postgres_that_stands_still_for_a_while_costs_nobody_a_change(
    apis: list[Installation], given: Given, postgres: Postgres
) -> None:
    by = given.person()
    task, last = given.task(by), given.task(by)
    with subscribed(by) as stream, psycopg.connect(apis[0].database_url) as conn:
        backends = [row[0] for row in conn.execute("SELECT pid FROM pg_stat_activity").fetchall()]
        conn.execute("UPDATE tasks SET title = 'as it stood still' WHERE id = %s", (task["id"],))
        with frozen([*postgres.pids, *(pid for pid in backends if pid != conn.info.backend_pid)]):
            conn.commit()
            beats = stream.heartbeats
            eventually(lambda: stream.heartbeats > beats + 5)
        stream.wait_for("task", task["id"])
        insisted(by, last)
        stream.wait_for("task", last["id"])
        assert stream.resets == 1 and stream.events[0] == RESET


@contextlib.contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    def send(number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)

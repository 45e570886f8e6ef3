"""Postgres is killed or restarted while clients sync: its transaction ids are given out again, and no client misses a row."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from api.readiness import SHARED_SECONDS
from schemas.postgres import sync_epochs
from schemas.postgres.connection import connect
from tests.support.answers import refused_fields
from tests.support.clusters import Cluster, clusters
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.sync.clients import TaskClient, first_load, pages

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    with clusters() as made:
        yield made.lead_to(made.new_with_stint("one"))


@pytest.fixture(scope="module")
def stint(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An API alone: no other process commits, and so flushes what a test leaves unflushed."""
    installation = Installation(postgres.url, "amqp://127.0.0.1:1", tmp_path_factory.mktemp("crash"))
    try:
        yield installation.start("api").wait_until_ready()
    finally:
        installation.stop()


def unflushed(postgres: Cluster, by: Person, task: Json, count: int = 7) -> int:
    """Requests whose transactions are rolled back: they take ids, and their WAL is not flushed. Returns the pid of the process
    that would flush it, which is frozen. After the crash, the first of these ids is that of the new epoch."""
    (wal_writer,) = postgres.processes("walwriter")
    os.kill(wal_writer, signal.SIGSTOP)
    before = next_xid(postgres)
    for _ in range(count):
        by.put(f"/api/tasks/{task['id']}", {"title": "Stale", "version": 999}, status=409)
    assert next_xid(postgres) >= before + count
    return wal_writer


def next_xid(postgres: Cluster) -> int:
    return int(postgres.value("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))


def record_position(stint: Installation) -> None:
    """What the relay does every two seconds."""

    async def record() -> None:
        async with await connect(stint.settings) as conn:
            await sync_epochs.record_position(conn)

    asyncio.run(record())


def restart(postgres: Cluster, stint: Installation) -> None:
    postgres.start()
    stint.wait_until_ready()


def test_writes_after_a_crash_reach_a_client_whose_cursor_the_crash_overtook(
    given: Given, postgres: Cluster, stint: Installation
) -> None:
    by = given.person()
    customer = given.customer(by)
    tasks = [given.task(by, customer) for _ in range(10)]
    store, client = first_load(by), TaskClient(by, customerId=customer["id"])
    unflushed(postgres, by, tasks[0])
    issued = next_xid(postgres)
    store.sync(), client.sync()

    postgres.crash()
    restart(postgres, stint)
    assert next_xid(postgres) <= issued - 6  # so the next six writes get ids that the cursors count as seen
    for task in tasks:
        by.put(f"/api/tasks/{task['id']}", {"title": "After the crash"})

    client.sync(may_reset=True)
    assert store.sync().is_as(first_load(by))
    assert client.sees_everything()
    changed = by.put(f"/api/tasks/{tasks[0]['id']}", {"title": "Once more"})
    assert client.sync() == [changed] and store.sync().received("tasks") == [changed]


def test_a_cursor_that_is_older_than_the_recorded_position_is_valid_after_a_crash(
    given: Given, postgres: Cluster, stint: Installation
) -> None:
    by = given.person()
    task = given.task(by)
    store = first_load(by)
    record_position(stint)
    unflushed(postgres, by, task)
    late = first_load(by)

    postgres.crash()
    restart(postgres, stint)
    changed = by.put(f"/api/tasks/{task['id']}", {"title": "After the crash"})

    assert store.sync().received("tasks") == [changed] and "reset" not in store.pages[0]
    assert late.sync().pages[0]["reset"] is True
    assert store.is_as(late)


def test_every_cursor_is_valid_after_a_proper_restart(given: Given, postgres: Cluster, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    was_reset = "reset" in next(pages(by, hour_ago))  # by a crash in another test of this module
    store = first_load(by)

    postgres.stop()
    restart(postgres, stint)
    changed = by.put(f"/api/tasks/{task['id']}", {"title": "After the restart"})

    assert store.sync().received("tasks") == [changed] and "reset" not in store.pages[0]
    assert ("reset" in next(pages(by, hour_ago))) == was_reset


def test_a_killed_child_makes_postgres_recover_without_a_restart_and_no_client_misses_a_row(
    given: Given, postgres: Cluster, stint: Installation
) -> None:
    by = given.person()
    tasks = [given.task(by) for _ in range(10)]
    store = first_load(by)
    wal_writer, issued = unflushed(postgres, by, tasks[0]), next_xid(postgres)
    store.sync()
    started = postgres.value("SELECT pg_postmaster_start_time()")
    os.kill(wal_writer, signal.SIGKILL)

    def recovered() -> bool:
        with suppress(psycopg.OperationalError):
            return postgres.processes("walwriter") not in ([], [wal_writer])
        return False

    eventually(recovered, why="Postgres has started its processes again")
    time.sleep(SHARED_SECONDS)  # until then the API may repeat that it was ready before
    stint.wait_until_ready()
    assert next_xid(postgres) <= issued - 6
    assert postgres.value("SELECT pg_postmaster_start_time()") == started

    for task in tasks:
        by.put(f"/api/tasks/{task['id']}", {"title": "After the recovery"})
    assert store.sync().is_as(first_load(by))


def test_a_client_that_sends_times_starts_again_once_writes_can_have_been_lost(
    given: Given, postgres: Cluster, stint: Installation
) -> None:
    by = given.person()
    given.task(by)
    first_load(by)
    before = datetime.now(UTC)
    postgres.crash()
    restart(postgres, stint)
    assert next(pages(by, before.isoformat()))["reset"] is True
    later = postgres.value("SELECT max(began_at) + interval '5 minutes' FROM sync_epochs")
    assert "reset" not in next(pages(by, later.isoformat()))


def test_bills_are_not_approved_by_a_list_that_the_crash_overtook(given: Given, postgres: Cluster, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    given.many_bills(by, task, 3)
    filters = {"customerId": task["customerId"]}
    listed = admin.get("/api/time-bills", **filters)
    assert len(listed["items"]) == 3
    postgres.crash()
    restart(postgres, stint)
    body = {"filter": filters, "syncTimestamp": listed["syncTimestamp"]}
    refused = admin.http.post("/api/time-bills/approve-all", json=body)
    assert refused.status_code == 422 and refused_fields(refused) == ["syncTimestamp"]
    body["syncTimestamp"] = admin.get("/api/time-bills", **filters)["syncTimestamp"]
    assert admin.post("/api/time-bills/approve-all", body, status=200)["approved"] == 3

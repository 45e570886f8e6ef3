"""Many probes at once: they share one check of Postgres, and see soon whether it is there."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import httpx2
import psycopg
import pytest

from api import readiness
from api.readiness import SHARED_SECONDS, Readiness
from schemas.postgres.connection import Connection
from schemas.postgres.pool import Database
from schemas.postgres.server.writes import check_writable
from schemas.settings import Settings
from tests.faults.proxy import Proxy, target_of, through
from tests.support.installation import Installation, eventually
from tests.support.silent import silent_server

PROBES = 40


def test_a_flood_of_probes_takes_one_connection(own: Installation) -> None:
    own.start("api").wait_until_ready()
    with ThreadPoolExecutor(PROBES) as pool, own.sql() as conn:
        with conn.transaction():
            conn.execute("LOCK TABLE migrations IN ACCESS EXCLUSIVE MODE")
            time.sleep(1)  # the last result is not used any more
            probes = [pool.submit(httpx2.get, f"{own.url}/health/ready", timeout=20) for _ in range(PROBES)]
            eventually(own.blocked, why="a check waits for the lock")
            counts = set()
            while not all(probe.done() for probe in probes):
                counts.add(own.blocked())
                time.sleep(0.05)
        assert max(counts) == 1
        assert {probe.result().status_code for probe in probes} == {503}
    eventually(lambda: httpx2.get(f"{own.url}/health/ready").status_code == 200, seconds=3, why="the next check")


def test_probes_see_within_about_two_seconds_that_postgres_is_away_and_that_it_is_back(own: Installation) -> None:
    proxy = Proxy(target_of(own.database_url)).start()
    own.environment["DATABASE_URL"] = through(proxy, own.database_url)
    try:
        own.start("api").wait_until_ready()
        for fail in (proxy.blackhole, proxy.refuse):
            seconds_until(own, 200)
            fail()
            assert seconds_until(own, 503) < 3
            proxy.heal()
        seconds_until(own, 200)
    finally:
        own.stop()
        proxy.stop()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """With a connection to Postgres."""
    database = Database(settings)
    await database.open()
    try:
        while not database.pools()[1].idle:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.05)
        yield database
    finally:
        await database.close()


def test_an_api_is_ready_if_there_is_no_connection_for_the_look_for_a_pooler(stint: Installation) -> None:
    """As with a pooler in session mode whose connections are all in use: it lets others wait, or refuses them."""

    async def found(database: Database, port: int) -> tuple[str, ...]:
        away = stint.settings.model_copy(update={"database_url": f"postgresql://x@127.0.0.1:{port}/x"})
        looks, ends_at = Readiness(database, away), time.monotonic() + 20
        while (problems := await looks.problems()) and time.monotonic() < ends_at:  # noqa: ASYNC110 - a check has a deadline
            await asyncio.sleep(SHARED_SECONDS)
        return problems

    async def check(silent_port: int) -> None:
        async with opened(stint.settings) as database:
            assert [*await asyncio.gather(found(database, silent_port), found(database, 1))] == [(), ()]

    with silent_server() as silent:
        asyncio.run(check(silent.port))


def test_a_write_that_finds_the_disk_full_during_a_check_is_not_forgotten(
    stint: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found_full() -> bool:
        async with opened(stint.settings) as database:

            async def check_while_a_write_fails(conn: Connection, *, disk: bool) -> None:
                await check_writable(conn, disk=disk)
                database.note_refusal(psycopg.errors.DiskFull())

            monkeypatch.setattr(readiness, "check_writable", check_while_a_write_fails)
            assert await Readiness(database, stint.settings)._look() == ()
            return database.disk_was_full

    assert asyncio.run(found_full())


@pytest.mark.slow
def test_an_api_is_ready_soon_after_a_long_time_without_postgres(own: Installation) -> None:
    proxy = Proxy(target_of(own.database_url)).start()
    own.environment["DATABASE_URL"] = through(proxy, own.database_url)
    try:
        own.start("api").wait_until_ready()
        proxy.refuse()
        seconds_until(own, 503)
        time.sleep(18)  # attempts with doubled pauses between them would be 1, 2, 4, 8 and 16 s apart
        proxy.heal()
        assert seconds_until(own, 200) < 5
    finally:
        own.stop()
        proxy.stop()


def seconds_until(api: Installation, status: int) -> float:
    began = time.monotonic()
    eventually(lambda: httpx2.get(f"{api.url}/health/ready", timeout=10).status_code == status, seconds=10, why=f"{status}")
    return time.monotonic() - began

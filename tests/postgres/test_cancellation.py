"""A request may be cancelled at every await: whatever it had of the pool comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from schemas.postgres.connection import PoolBusy
from schemas.postgres.pool import UNQUEUED_SIZE, Database
from schemas.settings import Settings
from tests.support.cancellation import WAYS, Way, cancel_at_every_point, repeatedly
from tests.support.installation import Installation, new_database

SIZE = 4
Use = Callable[[Database], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def apart(database_url: str, stint: Installation) -> Settings:
    """A database whose connections are all of this module's."""
    return stint.settings.model_copy(update={"database_url": new_database(database_url)})


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings, size=SIZE)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def connection(database: Database) -> None:
    async with database.connection() as conn:
        await conn.execute("SELECT 1")


async def unqueued(database: Database) -> None:
    async with database.connection(queued=False) as conn:
        await conn.execute("SELECT 1")


async def transaction(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute("SELECT 1")
        await conn.execute("SELECT 2")


async def bulk(database: Database) -> None:
    async with database.bulk_connection() as conn:
        await conn.execute("SELECT 1")


async def deadline(database: Database) -> None:
    await database.with_deadline(unqueued(database))


USES: list[Use] = [connection, unqueued, transaction, bulk, deadline]


async def all_are_back(database: Database, url: str) -> None:
    """All connections of both pools can be used at once, and so can all bulk slots; no more of them exist in Postgres."""

    async def take(*, queued: bool, number: int) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(number):
                conn = await stack.enter_async_context(database.connection(queued=queued))
                assert await conn.value("SELECT 1") == 1

    async def take_bulk() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(SIZE // 4):
                await stack.enter_async_context(database.bulk_connection())

    async with asyncio.timeout(5):
        await take(queued=True, number=SIZE)
        await take(queued=False, number=UNQUEUED_SIZE)
        await take_bulk()
    assert [(pool.in_use, pool.waiting, pool.missing) for pool in database.pools()] == [(0, 0, 0)] * 2
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        query = """
            SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in%') FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            """
        [(number, in_transaction)] = await (await conn.execute(query)).fetchall()
    assert number <= SIZE + UNQUEUED_SIZE + 1  # the probe
    assert in_transaction == 0


def test_a_connection_that_is_ready_is_taken_and_given_back_without_a_suspension(apart: Settings) -> None:
    """So a cancelled request has it or does not have it; psycopg_pool promises nothing of the kind."""

    async def main() -> None:
        async with opened(apart) as database:
            for checkouts in (database._queued, database._unqueued):
                await checkouts._pool.wait()
                taking = checkouts.take_now()
                with pytest.raises(StopIteration) as taken:
                    taking.send(None)
                conn = taken.value.value
                assert conn is not None
                with pytest.raises(StopIteration):
                    checkouts.return_connection(conn).send(None)
                async with checkouts._pool._lock:
                    other = asyncio.create_task(checkouts._pool._lock.acquire())
                    await asyncio.sleep(0)
                try:
                    with pytest.raises(StopIteration) as taken:  # the lock is handed over: to take it would suspend
                        checkouts.take_now().send(None)
                    assert taken.value.value is None
                finally:
                    await other
                    checkouts._pool._lock.release()
            await all_are_back(database, apart.database_url)

    asyncio.run(main())


def test_a_connection_whose_return_is_cancelled_while_the_pool_is_locked_comes_back(apart: Settings) -> None:
    async def main() -> None:
        async with opened(apart) as database:
            for checkouts in (database._queued, database._unqueued):
                await checkouts._pool.wait()
                conn = await checkouts.take_now()
                assert conn is not None
                async with checkouts._pool._lock:
                    giving = asyncio.create_task(checkouts.return_connection(conn))
                    await asyncio.sleep(0.01)
                    giving.cancel()
                    await asyncio.sleep(0.01)
            await all_are_back(database, apart.database_url)

    asyncio.run(main())


def test_a_connection_that_the_server_has_closed_is_not_taken(apart: Settings) -> None:
    async def main() -> None:
        async with opened(apart) as database:
            async with database.connection() as conn, database.connection() as other:
                closed = conn.info.backend_pid, other.info.backend_pid
            async with await psycopg.AsyncConnection.connect(apart.database_url, autocommit=True) as conn_of_test:
                await conn_of_test.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid", (list(closed),))
            async with database.connection() as conn:
                assert conn.info.backend_pid not in closed
                assert await conn.value("SELECT 1") == 1
            await all_are_back(database, apart.database_url)

    asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("use", USES)
def test_a_use_that_is_cancelled_at_any_point_gives_everything_back(use: Use, way: Way, apart: Settings) -> None:
    async def main() -> None:
        async with opened(apart) as database:
            points = await cancel_at_every_point(lambda: use(database), way)
            assert points
            await all_are_back(database, apart.database_url)

    asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("use", USES)
def test_so_it_does_while_others_wait_and_the_pool_is_locked(use: Use, way: Way, apart: Settings) -> None:
    async def main() -> None:
        async with opened(apart) as database:

            async def lock() -> None:
                for pool in (database._pool, database._unqueued_pool):
                    async with pool._lock:
                        await asyncio.sleep(0.001)

            async def compete() -> None:
                await asyncio.gather(
                    *(connection(database) for _ in range(SIZE)), *(unqueued(database) for _ in range(UNQUEUED_SIZE))
                )

            async with repeatedly(lock), repeatedly(compete):
                await cancel_at_every_point(lambda: use(database), way)
            await all_are_back(database, apart.database_url)

    asyncio.run(main())


def test_requests_that_waited_in_vain_leave_the_queue(stint: Installation) -> None:
    """While Postgres is away, psycopg_pool would keep each of them."""
    away = stint.settings.model_copy(
        update={"database_url": "postgresql://nobody@127.0.0.1:1/nothing", "stint_connect_seconds": 0.1}
    )

    async def main() -> None:
        async with opened(away) as database:
            for queued in (True, False):
                requests = [asyncio.create_task(connection(database) if queued else unqueued(database)) for _ in range(100)]
                for error in await asyncio.gather(*requests, return_exceptions=True):
                    assert isinstance(error, PoolTimeout) and not isinstance(error, PoolBusy)
            await asyncio.sleep(6)  # a request's task may wait for BUSY_SECONDS after it
            assert [(pool.in_use, pool.waiting) for pool in database.pools()] == [(0, 0)] * 2
            assert not database._pool._waiting and not database._unqueued_pool._waiting

    asyncio.run(main())


def test_busy_is_not_away(apart: Settings) -> None:
    settings = apart.model_copy(update={"stint_connect_seconds": 0.8})

    async def main() -> None:
        async with opened(settings) as database:
            await unqueued(database)
            async with AsyncExitStack() as stack:
                for _ in range(UNQUEUED_SIZE):
                    await stack.enter_async_context(database.connection(queued=False))
                assert [pool.in_use for pool in database.pools()] == [0, UNQUEUED_SIZE]
                with pytest.raises(PoolBusy):
                    await unqueued(database)
                with pytest.raises(PoolBusy):
                    await database.with_deadline(unqueued(database))

    asyncio.run(main())


def test_work_that_gives_something_back_goes_to_its_end(apart: Settings) -> None:
    ended: list[int] = []

    async def main() -> None:
        async with opened(apart) as database:

            async def work() -> None:
                async with database.transaction() as conn:
                    ended.append(await conn.value("SELECT 1 FROM pg_sleep(0.2)"))

            caller = asyncio.create_task(database.to_its_end(work()))
            await asyncio.sleep(0.05)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            assert ended == []
        assert ended == [1]  # a server that stops waits for it, too

    asyncio.run(main())

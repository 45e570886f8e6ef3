"""More concurrent requests than connections to Postgres: while Postgres is alive, they wait for a connection, in order."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
import psycopg
import pytest
from psycopg_pool import PoolTimeout

from schemas.postgres.pool import POOL_SIZE, Database
from tests.faults.proxy import Proxy, target_of, through
from tests.support.answers import problem
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually

pytestmark = pytest.mark.exclusive(uses="little")

ERROR_SECONDS = 2.5  # "within about 2 seconds"
LOCK_SECONDS = 2.5  # longer than a request waits for an unresponsive Postgres, shorter than BUSY_SECONDS
MANY = 3 * POOL_SIZE
ROLE = f"limited_{secrets.token_hex(4)}"


@contextmanager
def locked(stint: Installation, person: Person) -> Iterator[None]:
    """Locks the user's row, so that starting a timer of theirs waits."""
    with stint.sql() as conn, conn.transaction():
        conn.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (person.id,))
        yield


def test_a_request_that_waits_for_a_connection_gets_one_while_postgres_is_alive(stint: Installation, given: Given) -> None:
    busy, other = given.person(), given.person()
    task = given.task(busy)
    with ThreadPoolExecutor(MANY + 1) as pool:
        with locked(stint, busy):
            starts = [pool.submit(busy.http.post, f"/api/tasks/{task['id']}/start") for _ in range(MANY)]
            eventually(lambda: stint.blocked() == POOL_SIZE, why="all connections are in use")
            behind = pool.submit(other.http.get, "/api/me")
            done, _ = wait([*starts, behind], timeout=LOCK_SECONDS)
            assert not done, [request.result().text for request in done]
            # and the instance is not reported as broken
            assert httpx2.get(f"{stint.url}/health/ready").status_code == 200
            assert "stint_postgres_up 1" in httpx2.get(f"{stint.url}/metrics").text
        answers = [start.result() for start in starts]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * (MANY - 1) + [201], {answer.text for answer in answers}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert behind.result().status_code == 200


def test_a_server_that_stops_answers_waiting_requests(own: Installation) -> None:
    own.start("api").wait_until_ready()
    given = Given(own)
    busy, others = given.person(), given.people(5)
    task = given.task(busy)
    with ThreadPoolExecutor(POOL_SIZE + len(others)) as pool:
        with locked(own, busy):
            starts = [pool.submit(busy.http.post, f"/api/tasks/{task['id']}/start") for _ in range(POOL_SIZE)]
            eventually(lambda: own.blocked() == POOL_SIZE, why="all connections are in use")
            behind = [pool.submit(other.http.get, "/api/me") for other in others]
            wait(behind, timeout=0.5)
            own.processes["api"].send_signal(signal.SIGTERM)
            for answer in behind:
                assert "Stint is busy" in problem(answer.result(), 503)["detail"]
        assert {start.result().status_code for start in starts} == {200, 201}
    own.processes["api"].wait(10)
    given.close()


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Database]:
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def test_requests_get_connections_in_the_order_of_arrival(stint: Installation) -> None:
    order: list[int] = []

    async def use_connection(database: Database, number: int) -> None:
        async with database.connection():
            order.append(number)
            await asyncio.sleep(0.1)

    async def main() -> None:
        async with opened(Database(stint.settings, size=2)) as database:
            async with database.connection(), database.connection():
                requests = []
                for number in range(8):
                    requests.append(asyncio.create_task(use_connection(database, number)))
                    await asyncio.sleep(0.4)
                assert not order
                for request in requests[4:6]:  # a cancelled request does not block the others
                    request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)

    asyncio.run(main())
    assert order == [0, 1, 2, 3, 6, 7]


def test_a_postgres_that_accepts_no_connections_is_away_although_it_answers(stint: Installation) -> None:
    async def use_connection(database: Database) -> None:
        async with database.connection():
            pass

    def connections() -> tuple[int, int]:
        """The number of probes, and of other connections."""
        rows = stint.rows("SELECT query = 'SELECT 1' FROM pg_stat_activity WHERE usename = %s", ROLE)
        probes = sum(is_probe for (is_probe,) in rows)
        return probes, len(rows) - probes

    async def main(admin: psycopg.Connection[Any], url: str) -> None:
        async with opened(Database(stint.settings.model_copy(update={"database_url": url}), size=2)) as database:
            await use_connection(database)
            await asyncio.to_thread(eventually, lambda: connections()[0] == 1, why="the probe is connected")
            admin.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 1")  # the probe's
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND query <> 'SELECT 1'", (ROLE,)
            )
            await asyncio.to_thread(eventually, lambda: connections() == (1, 0), why="only the probe is left")
            async with asyncio.timeout(ERROR_SECONDS):
                with pytest.raises(PoolTimeout):
                    await use_connection(database)
            admin.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 20")
            await asyncio.sleep(4)  # a little longer than reconnect_timeout
            await use_connection(database)

    parts = urlsplit(stint.database_url)
    with stint.sql() as admin:
        admin.execute(f"CREATE ROLE {ROLE} LOGIN")
        asyncio.run(main(admin, urlunsplit(parts._replace(netloc=f"{ROLE}@{parts.netloc.rpartition('@')[2]}"))))


def test_a_waiting_request_gets_its_error_in_time_when_postgres_becomes_unresponsive(stint: Installation) -> None:
    async def use_connection(database: Database) -> None:
        async with database.connection():
            raise AssertionError("all connections are in use")

    async def main() -> None:
        with Proxy(target_of(stint.database_url)) as proxy:
            settings = stint.settings.model_copy(update={"database_url": through(proxy, stint.database_url)})
            async with opened(Database(settings, size=2)) as database, database.connection(), database.connection():
                request = asyncio.create_task(use_connection(database))
                done, _ = await asyncio.wait({request}, timeout=LOCK_SECONDS)
                assert not done
                proxy.blackhole()
                async with asyncio.timeout(ERROR_SECONDS):
                    with pytest.raises(PoolTimeout):
                        await request

    asyncio.run(main())

"""More requests at once than there are connections to Postgres: while it is well they wait for each other, and in order."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest
from psycopg_pool import PoolTimeout

from schemas.database import POOL_SIZE, Database
from tests.api.answers import problem
from tests.faults.proxy import Proxy, target_of, through
from tests.given import Given, Person
from tests.installation import Installation, eventually

pytestmark = pytest.mark.alone

TOLD_SECONDS = 2.5  # "within about 2 seconds"
HELD_SECONDS = 2.5  # longer than a request waits for a Postgres that does not answer, shorter than BUSY_SECONDS
MANY = 3 * POOL_SIZE
ROLE = f"limited_{secrets.token_hex(4)}"


@contextmanager
def held(stint: Installation, person: Person) -> Iterator[None]:
    """The row of somebody, so that whatever begins a timer of theirs waits."""
    with stint.sql() as conn, conn.transaction():
        conn.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (person.id,))
        yield


def test_whoever_waits_for_a_connection_while_postgres_is_well_gets_one(stint: Installation, given: Given) -> None:
    busy, other = given.person(), given.person()
    task = given.task(busy)
    with ThreadPoolExecutor(MANY + 1) as pool:
        with held(stint, busy):
            asked = [pool.submit(busy.http.post, f"/api/tasks/{task['id']}/start") for _ in range(MANY)]
            eventually(lambda: stint.blocked() == POOL_SIZE, why="all connections are lent")
            behind = pool.submit(other.http.get, "/api/me")
            done, _ = wait([*asked, behind], timeout=HELD_SECONDS)
            assert not done, [one.result().text for one in done]
            # and nobody takes this instance for a broken one
            assert httpx.get(f"{stint.url}/health/ready").status_code == 200
            assert "stint_postgres_up 1" in httpx.get(f"{stint.url}/metrics").text
        answers = [one.result() for one in asked]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * (MANY - 1) + [201], {answer.text for answer in answers}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert behind.result().status_code == 200


def test_a_server_that_stops_answers_those_who_wait(own: Installation) -> None:
    own.start("api").wait_until_ready()
    given = Given(own)
    busy, others = given.person(), given.people(5)
    task = given.task(busy)
    with ThreadPoolExecutor(POOL_SIZE + len(others)) as pool:
        with held(own, busy):
            asked = [pool.submit(busy.http.post, f"/api/tasks/{task['id']}/start") for _ in range(POOL_SIZE)]
            eventually(lambda: own.blocked() == POOL_SIZE, why="all connections are lent")
            behind = [pool.submit(other.http.get, "/api/me") for other in others]
            wait(behind, timeout=0.5)
            own.processes["api"].send_signal(signal.SIGTERM)
            for answer in behind:
                assert "busy or away" in problem(answer.result(), 503)["detail"]
        assert {answer.result().status_code for answer in asked} == {200, 201}
    own.processes["api"].wait(10)
    given.close()


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Database]:
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def test_connections_are_had_in_the_order_in_which_they_were_asked_for(stint: Installation) -> None:
    turns: list[int] = []

    async def ask(database: Database, number: int) -> None:
        async with database.connection():
            turns.append(number)
            await asyncio.sleep(0.1)

    async def main() -> None:
        async with opened(Database(stint.settings, size=2)) as database:
            async with database.connection(), database.connection():
                asked = []
                for number in range(8):
                    asked.append(asyncio.create_task(ask(database, number)))
                    await asyncio.sleep(0.4)
                assert not turns
                for one in asked[4:6]:  # who goes leaves nothing behind
                    one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(main())
    assert turns == [0, 1, 2, 3, 6, 7]


def test_a_postgres_that_lets_nobody_in_is_away_although_it_answers(stint: Installation) -> None:
    async def ask(database: Database) -> None:
        async with database.connection():
            pass

    def connections() -> tuple[int, int]:
        """Those that watch, and others."""
        found = stint.rows("SELECT query = 'SELECT 1' FROM pg_stat_activity WHERE usename = %s", ROLE)
        watching = sum(is_watching for (is_watching,) in found)
        return watching, len(found) - watching

    async def main(admin: psycopg.Connection[Any], url: str) -> None:
        async with opened(Database(stint.settings.model_copy(update={"database_url": url}), size=2)) as database:
            await ask(database)
            await asyncio.to_thread(eventually, lambda: connections()[0] == 1, why="it is watched")
            admin.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 1")  # which the line that asks has
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND query <> 'SELECT 1'", (ROLE,)
            )
            await asyncio.to_thread(eventually, lambda: connections() == (1, 0), why="nothing else is there")
            async with asyncio.timeout(TOLD_SECONDS):
                with pytest.raises(PoolTimeout):
                    await ask(database)
            admin.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 20")
            await asyncio.sleep(4)  # reconnect_timeout, and a little
            await ask(database)

    parts = urlsplit(stint.database_url)
    with stint.sql() as admin:
        admin.execute(f"CREATE ROLE {ROLE} LOGIN")
        asyncio.run(main(admin, urlunsplit(parts._replace(netloc=f"{ROLE}@{parts.netloc.rpartition('@')[2]}"))))


def test_who_waits_is_told_in_time_when_postgres_falls_silent(stint: Installation) -> None:
    async def ask(database: Database) -> None:
        async with database.connection():
            raise AssertionError("nobody gives one back")

    async def main() -> None:
        with Proxy(target_of(stint.database_url)) as wire:
            settings = stint.settings.model_copy(update={"database_url": through(wire, stint.database_url)})
            async with opened(Database(settings, size=2)) as database, database.connection(), database.connection():
                asked = asyncio.create_task(ask(database))
                done, _ = await asyncio.wait({asked}, timeout=HELD_SECONDS)
                assert not done
                wire.blackhole()
                async with asyncio.timeout(TOLD_SECONDS):
                    with pytest.raises(PoolTimeout):
                        await asked

    asyncio.run(main())

"""Whether Postgres answers, as far as one process can tell, and how long requests wait for connections then."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakSet

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from ops.up.processes import until
from schemas.postgres.connection import PoolBusy, connect
from schemas.postgres.liveness import LivenessMonitor
from schemas.postgres.pool import BUSY_SECONDS, Database
from schemas.settings import Settings
from tests.support.installation import new_database

WINDOW_SECONDS, STALL_SECONDS = 0.8, 1.5


def test_a_process_that_is_busy_itself_does_not_take_postgres_for_unreachable(database_url: str) -> None:
    settings = Settings(database_url=database_url, amqp_url="", secret_key=SecretStr("x" * 32))

    async def check() -> None:
        monitor = LivenessMonitor(lambda: connect(settings), WeakSet(), is_connection_expected=lambda: False)
        monitor.open()
        try:
            with monitor.asking():
                await until(lambda: monitor.answered_since(time.monotonic() - WINDOW_SECONDS))
                time.sleep(STALL_SECONDS)  # noqa: ASYNC251 - the event loop is as busy as one that computes
                assert monitor.answered_since(time.monotonic() - WINDOW_SECONDS)
        finally:
            await monitor.close()

    asyncio.run(check())


def test_a_wait_for_a_connection_does_not_end_because_its_process_is_busy_itself(database_url: str) -> None:
    settings = Settings(database_url=database_url, amqp_url="", secret_key=SecretStr("x" * 32))

    async def check() -> None:
        monitor = LivenessMonitor(lambda: connect(settings), WeakSet(), is_connection_expected=lambda: True)
        monitor.open()
        try:
            with monitor.asking():
                await until(lambda: monitor.answered_since(time.monotonic() - WINDOW_SECONDS))
                async with monitor.timeout_while_alive(WINDOW_SECONDS):
                    time.sleep(STALL_SECONDS)  # noqa: ASYNC251 - the event loop is as busy as one that computes
                    await asyncio.sleep(WINDOW_SECONDS)  # meanwhile the answer is read
        finally:
            await monitor.close()

    asyncio.run(check())


@asynccontextmanager
async def alive(settings: Settings) -> AsyncIterator[Database]:
    """Postgres has answered the probe, and the pool has the two connections with which it starts."""
    database = Database(settings)
    await database.open()
    try:
        await until(lambda: database.answers(seconds=2), timeout_seconds=20)
        await until(lambda: database.pools()[0].idle == 2, timeout_seconds=20)
        yield database
    finally:
        await database.close()


def test_a_request_waits_for_a_connection_that_is_being_made(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after many cancelled requests, whose connections are closed, on a busy machine."""
    monkeypatch.setattr(LivenessMonitor, "CONNECT_SECONDS", 20)
    slow = make_conninfo(new_database(database_url), options="-c post_auth_delay=3")  # each connection takes three seconds

    async def check() -> None:
        settings = Settings(database_url=slow, amqp_url="", secret_key=SecretStr("x" * 32), stint_connect_seconds=2)
        async with alive(settings) as database:
            await database._pool.drain()
            async with database.connection() as conn:
                assert await conn.value("SELECT 1") == 1

    asyncio.run(check())


def test_a_request_does_not_wait_long_for_a_postgres_that_accepts_no_new_connections(database_url: str) -> None:
    url = new_database(database_url)

    def forbid() -> None:
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute(f'ALTER DATABASE "{conninfo_to_dict(url)["dbname"]}" ALLOW_CONNECTIONS false'.encode())

    async def check() -> None:
        async with alive(Settings(database_url=url, amqp_url="", secret_key=SecretStr("x" * 32))) as database:
            forbid()
            await database._pool.drain()
            started = time.monotonic()
            with pytest.raises(PoolBusy):
                async with database.connection():
                    pass
            assert time.monotonic() - started < BUSY_SECONDS

    asyncio.run(check())

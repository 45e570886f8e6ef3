"""What the connections of all processes promise: an answer follows its commit, and nobody keeps locks for long."""

import asyncio
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from api.http.connection_limits import IDLE_SECONDS
from schemas.postgres.connection import connect
from schemas.postgres.pool import Database
from schemas.settings import Settings
from tests.support.installation import SECRET_KEY, new_database


@pytest.fixture(scope="module")
def settings(database_url: str) -> Settings:
    return Settings(database_url=new_database(database_url), secret_key=SecretStr(SECRET_KEY))


def test_a_transaction_is_committed_when_its_block_has_ended_and_not_after_an_error(settings: Settings) -> None:
    async def write(key: str, *, fails: bool) -> None:
        database = Database(settings)
        await database.open()
        try:
            async with database.transaction() as conn:
                await conn.execute("INSERT INTO slack_deduplication (key) VALUES (%s)", (key,))
                if fails:
                    raise ZeroDivisionError
        finally:
            await database.close()

    keys = [str(uuid4()), str(uuid4())]
    asyncio.run(write(keys[0], fails=False))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(write(keys[1], fails=True))
    with psycopg.connect(settings.database_url) as conn:
        found = conn.execute("SELECT key FROM slack_deduplication WHERE key = ANY(%s)", (keys,)).fetchall()
    assert found == [(keys[0],)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("synchronous_commit", "on"),  # a commit that the disk does not have yet is not answered
        ("statement_timeout", "30s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "15s"),  # a frozen process loses its locks
        ("timezone", "UTC"),
    ],
)
def test_the_settings_of_each_connection(name: str, expected: str, settings: Settings) -> None:
    async def value() -> Any:
        async with await connect(settings) as conn:
            return await conn.value(f"SHOW {name}")

    assert asyncio.run(value()) == expected


def test_statements_of_requests_have_no_parallel_workers(settings: Settings) -> None:
    async def values() -> tuple[str, str]:
        database, show = Database(settings), "SHOW max_parallel_workers_per_gather"
        await database.open()
        try:
            async with database.connection() as pooled, await connect(settings) as conn:
                return await pooled.value(show), await conn.value(show)
        finally:
            await database.close()

    assert asyncio.run(values()) == ("0", "2"), "commands such as `./stint verify` may have some"


def test_idle_connections_of_clients_are_kept_for_longer_than_clients_and_proxies_keep_theirs() -> None:
    """nginx and load balancers: 60 s. Else a request is sent into a connection that the server has just closed."""
    assert 65 <= IDLE_SECONDS <= 120

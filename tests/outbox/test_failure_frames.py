"""A failed attempt names the function whose statement failed, so that different failures are different groups."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg
import pytest

from actors.runtime.attempts import failure_from
from schemas.postgres.connection import Connection
from tests.support.installation import Installation

Statement = Callable[[Connection], Awaitable[object]]


@dataclass
class Row:
    result: int


async def execute(conn: Connection) -> None:
    await conn.execute("SELECT 1 / 0")


async def one(conn: Connection) -> None:
    await conn.one("SELECT 1 / 0")


async def maybe(conn: Connection) -> None:
    await conn.maybe("SELECT 1 / 0 AS result", row=Row)


async def all_rows(conn: Connection) -> None:
    await conn.all("SELECT 1 / 0 AS result", row=Row)


async def value(conn: Connection) -> None:
    await conn.value("SELECT 1 / 0")


async def values(conn: Connection) -> None:
    await conn.values("SELECT 1 / 0")


@pytest.mark.parametrize("statement", [execute, one, maybe, all_rows, value, values])
def test_the_frame_is_the_function_whose_statement_failed(statement: Statement, stint: Installation) -> None:
    async def run() -> None:
        async with await Connection.connect(stint.database_url, autocommit=True) as conn:
            await statement(conn)

    with pytest.raises(psycopg.errors.DivisionByZero) as raised:
        asyncio.run(run())

    name = getattr(statement, "__name__", "")
    assert failure_from(raised.value).frame == f"tests/outbox/test_failure_frames.py:{name}"


def test_a_row_that_is_missing_names_the_function_that_needs_it(stint: Installation) -> None:
    async def needs_a_row() -> None:
        async with await Connection.connect(stint.database_url, autocommit=True) as conn:
            await conn.one("SELECT 1 WHERE false")

    with pytest.raises(RuntimeError) as raised:
        asyncio.run(needs_a_row())

    assert failure_from(raised.value).frame == "tests/outbox/test_failure_frames.py:needs_a_row"

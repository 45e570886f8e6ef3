"""Connection's queries: rows as tuples, rows as instances of a class, single values."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.postgres.connection import Connection
from tests.support.installation import Installation

NONE = "SELECT 1 AS number, 'a' AS name WHERE false"
TWO = "SELECT number, chr(96 + number) AS name FROM generate_series(1, %s) AS number ORDER BY number"


@dataclass(frozen=True)
class Pair:
    number: int
    name: str


def run(stint: Installation, query: Callable[[Connection], Awaitable[Any]]) -> Any:
    async def connect_and_run() -> Any:
        async with await Connection.connect(stint.database_url, autocommit=True) as conn:
            return await query(conn)

    return asyncio.run(connect_and_run())


def test_all_returns_all_rows(stint: Installation) -> None:
    assert run(stint, lambda conn: conn.all(TWO, (2,))) == [(1, "a"), (2, "b")]
    assert run(stint, lambda conn: conn.all(TWO, (2,), row=Pair)) == [Pair(1, "a"), Pair(2, "b")]
    assert run(stint, lambda conn: conn.all(NONE)) == []


def test_maybe_returns_the_first_row_or_none(stint: Installation) -> None:
    assert run(stint, lambda conn: conn.maybe(TWO, (2,))) == (1, "a")
    assert run(stint, lambda conn: conn.maybe(TWO, (2,), row=Pair)) == Pair(1, "a")
    assert run(stint, lambda conn: conn.maybe(NONE, row=Pair)) is None


def test_one_returns_the_first_row_and_raises_without_one(stint: Installation) -> None:
    assert run(stint, lambda conn: conn.one(TWO, (2,), row=Pair)) == Pair(1, "a")
    with pytest.raises(RuntimeError, match="returned no row"):
        run(stint, lambda conn: conn.one(NONE))


def test_value_and_values_return_the_first_column(stint: Installation) -> None:
    assert run(stint, lambda conn: conn.value(TWO, (2,))) == 1
    assert run(stint, lambda conn: conn.value(NONE)) is None
    assert run(stint, lambda conn: conn.values(TWO, (2,))) == [1, 2]

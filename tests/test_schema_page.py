"""docs/schema.md shows the tables as the migrations make them."""

import asyncio

import psycopg
import pytest

from ops.schema_page import page
from ops.state import CHECKOUT
from schemas.postgres.connection import Connection
from tests.support.installation import new_database


async def _page(url: str) -> str:
    async with await Connection.connect(url) as conn:
        return await page(conn)


def test_the_page_of_tables_is_current(database_url: str) -> None:
    shown = (CHECKOUT / "docs/schema.md").read_text()
    assert shown == asyncio.run(_page(new_database(database_url))), "run ./stint up, then ./stint schema > docs/schema.md"


def test_a_table_without_a_comment_is_named(database_url: str) -> None:
    url = new_database(database_url)
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE bare (id int)")
    with pytest.raises(ValueError, match="bare needs a COMMENT ON TABLE"):
        asyncio.run(_page(url))

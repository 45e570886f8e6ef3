"""Pages of lists: Postgres joins the items, and one row comes back for a page."""

import json
from typing import Any

import pytest
from psycopg import AsyncCursor

from schemas.base import json_object
from schemas.hours.time_entries import EnrichedTimeEntry, TimeEntry
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.installation import new_database

NEWEST = Order("start_time", "timestamptz")


@pytest.mark.parametrize("model", [TimeEntry, EnrichedTimeEntry])
def test_a_page_is_one_row_whose_bytes_are_those_of_its_items_in_their_order(database_url: str, model: type[TimeEntry]) -> None:
    async def work(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        bill = await firm_rows.bill(conn, rows)
        notes = ['"},{"', "ä\n,", "", "x", "y"]
        for number, note in enumerate(notes):  # three of them start at the same time, so that their ids decide
            start = f"2026-03-02T0{max(number, 2)}:00:00Z"
            await firm_rows.entry(conn, rows, bill, start_time=start, notes=note)
        expected = await conn.all(
            f"SELECT e.id, {json_object(model, 'e')}::text FROM time_entries e ORDER BY start_time DESC, id DESC"
        )
        counts: list[int] = []

        class Counting(AsyncCursor[tuple[Any, ...]]):
            async def execute(self, *arguments: Any, **named: Any) -> "Counting":
                await super().execute(*arguments, **named)
                counts.append(self.rowcount)
                return self

        async def page(limit: int, cursor: str | None = None) -> bytes:
            return await Selection("entry", model, "time_entries", "e", NEWEST).page(conn, Page(limit, cursor))

        await page(1)  # the first one may begin an epoch
        conn.cursor_factory = Counting
        for first in range(len(notes)):
            cursor = json.loads(await page(first))["nextCursor"] if first else None
            for limit in range(1, len(notes) + 2):
                answer = await page(limit, cursor)
                items = ",".join(item for _, item in expected[first : first + limit])
                assert answer.startswith(b'{"items":[%b],"nextCursor":' % items.encode()), (limit, first)
                assert (json.loads(answer)["nextCursor"] is None) == (first + limit >= len(notes)), (limit, first)
        await conn.execute("DELETE FROM time_entries")
        assert (await page(2)).startswith(b'{"items":[],"nextCursor":null,')
        assert set(counts[:-2]) == {1}, "one row for each page"

    over(new_database(database_url), work)

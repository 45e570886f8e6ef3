"""How many bills have each status in Xero, and that only those are read that are shown."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero.access import status
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.installation import SECRET_KEY, new_database

SYNCED = {"xero_synced_at": "2026-03-03"}
# by status of approved bills: how many there are, and what each has besides
BILLS: dict[str, tuple[int, dict[str, Any]]] = {
    "none": (1, {}), "queued": (2, {}), "failed": (3, {}), "not_connected": (4, {}), "not_mapped": (5, {}),
    "withdrawing": (6, SYNCED), "differs": (7, {"xero_difference": Jsonb({"deleted": False})}), "synced": (8, SYNCED),
}  # fmt: skip
WAITING, SYNCED_BEFORE, PENDING = 2 + 3 + 4 + 5 + 6, 6 + 8, 9


@asynccontextmanager
async def reading(conn: Connection, **entries: int) -> AsyncIterator[None]:
    """Expects that these numbers of entries of indexes of time_bills are read. All that is read is by an index."""
    before = await entries_read(conn)
    yield
    assert dict(await entries_read(conn) - before) == entries


async def entries_read(conn: Connection) -> Counter[str]:
    """How many entries of each index this connection has read."""
    return Counter(
        await conn.value(
            """
            SELECT json_object_agg(indexrelid::regclass, pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index
            WHERE indrelid = 'time_bills'::regclass
            """
        )
    )


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def test_all_counts_of_bills_agree_and_each_reads_only_what_it_shows(url: str) -> None:
    async def check(conn: Connection) -> None:
        settings = Settings(database_url=url, secret_key=SecretStr(SECRET_KEY))
        rows = await firm_rows.firm(conn)
        for name, (count, columns) in BILLS.items():
            for _ in range(count):
                await firm_rows.bill(conn, rows, status="approved", xero_status=name, **columns)
        for day in range(PENDING):
            await firm_rows.bill(conn, rows, date=f"2026-04-{day + 1:02}")
        await conn.execute("SET enable_seqscan = off")  # 45 bills are read faster without an index
        async with reading(conn, time_bills_waiting_for_xero=WAITING, time_bills_synced_to_xero=1):  # the latest
            found = await status.connection_status(conn, settings)
        async with reading(conn, time_bills_that_differ=7):
            assert await status.count_differing(conn) == 7
        sent_only = {"time_bills_synced_to_xero": SYNCED_BEFORE, "time_bills_that_differ": 7}
        async with reading(conn, time_bills_waiting_for_xero=WAITING, **sent_only):
            sent = await status.count_sent(conn)
        assert [getattr(sent, name) for name in BILLS if name != "none"] == list(range(2, 9))
        answer = json.loads(await status.status(conn, settings))
        assert answer["bills"] == sent.model_dump() | {"none": 1 + PENDING}
        assert (found.queued, found.failed) == (answer["queued"], answer["failed"]) == (2 + 6, 3)

    over(url, check)

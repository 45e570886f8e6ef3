"""The order of changes of one message in Slack, function by function: over rows."""

import asyncio
from uuid import uuid4

import pytest

from schemas.messages import AnswerSlack
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.slack import updates
from tests.outbox.rows import over
from tests.support.installation import new_database


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def test_only_the_latest_change_is_sent_and_not_beside_an_older_one(url: str) -> None:
    key, other = f"message:C1:{uuid4()}", f"message:C1:{uuid4()}"

    async def waits(conn: Connection, key: str) -> tuple[int, float]:
        version = await updates.record(conn, key)
        return version.number, (version.send_at - await conn.value("SELECT clock_timestamp()")).total_seconds()

    async def check(conn: Connection) -> None:
        first, soon = await waits(conn, key)
        assert await updates.is_latest(conn, key, first) and 0 < soon <= updates.LATER_SECONDS
        second, _ = await waits(conn, key)
        assert not await updates.is_latest(conn, key, first) and await updates.is_latest(conn, key, second)
        message = AnswerSlack(response_url="https://hooks.slack.com/x", text="t", message_key=key, version=second)
        message_id = await outbox.enqueue(conn, message)
        await conn.execute("UPDATE messages SET state = 'sent', sent_at = now() WHERE id = %s", (message_id,))
        sent = await outbox.lock(conn, message_id)
        assert sent is not None
        await outbox.lease(conn, sent, seconds=60)
        third, later = await waits(conn, key)
        assert third > second and later > updates.CALL_SECONDS
        _, soon = await waits(conn, other)
        assert soon <= updates.LATER_SECONDS
        assert await updates.is_latest(conn, "message:C1:unknown", 0)  # it was recorded days ago

        # one that starts while a press records another change waits for it
        pressing = await Connection.connect(url, autocommit=True)
        async with pressing.transaction():
            fourth = await updates.record(pressing, key)
            looking = asyncio.create_task(updates.is_latest(conn, key, third))
            await asyncio.wait({looking}, timeout=0.05)
            assert not looking.done() and fourth.number > third
        assert not await looking
        await pressing.close()

    over(url, check)

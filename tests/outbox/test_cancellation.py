"""An attempt that is cancelled at any await leaves no lock, no transaction and no lease that does not expire."""

import asyncio
import threading
from typing import Any
from uuid import UUID

import pytest
from psycopg.pq import TransactionStatus

from actors.runtime.attempts import AttemptRunner
from actors.runtime.deliveries import poison_lock
from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import HANDLERS, Handler
from schemas.messages import MODELS, Message
from schemas.postgres.connection import Connection
from tests.outbox.rows import ACTOR, connected, delivery, message
from tests.outbox.test_sweeps import settings
from tests.support.cancellation import WAYS, Way, cancel_at_every_point
from tests.support.installation import new_database


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


async def call_out(call: ExternalCall) -> None:
    async with call.start() as (conn, _):
        await conn.execute("SELECT 1")
    async with call.timeout():
        await asyncio.sleep(0.001)
    async with call.record_under_lease() as conn:
        await conn.execute("SELECT 2")
    async with call.complete() as conn:
        await conn.execute("SELECT 3")


async def write(conn: Connection, _: Message) -> None:
    await conn.execute("SELECT 1")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("redelivered", [False, True])
@pytest.mark.parametrize("calls_out", [False, True])
def test_an_attempt_that_is_cancelled_at_any_point_can_be_repeated(
    calls_out: bool, redelivered: bool, way: Way, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Handler(MODELS[ACTOR], call_out if calls_out else write, calls_out)
    monkeypatch.setitem(HANDLERS, ACTOR, handler)
    runner = AttemptRunner(settings(url), threading.Event())
    sent: list[UUID] = []

    async def nothing_is_left(conn: Connection) -> None:
        assert not poison_lock.locked()
        assert runner._conn is None or runner._conn.pgconn.transaction_status in (
            TransactionStatus.IDLE,
            TransactionStatus.UNKNOWN,
        )
        async with conn.transaction():  # the row is not locked any more
            state, leased_until = await conn.one(
                "SELECT state, lease_until FROM messages WHERE id = %s FOR UPDATE", (sent[-1],)
            )
            assert (state == "calling") == (leased_until is not None)
            # what the rescuer and the relay do once the lease has expired
            await conn.execute(
                """
                UPDATE messages SET state = 'sent', sent_at = now(), lease_token = NULL, lease_until = NULL, delivery_number = 2
                WHERE id = %s AND state <> 'done'
                """,
                (sent[-1],),
            )
        await runner._attempt(delivery(sent[-1], 2))
        assert await conn.value("SELECT state FROM messages WHERE id = %s", (sent[-1],)) == "done"

    async def main() -> None:
        async with connected(url) as conn:
            others = [await message(conn, "sent") for _ in range(200)]

            def attempt() -> Any:
                sent.append(others.pop())
                return runner._attempt(delivery(sent[-1], redelivered=redelivered))

            assert await cancel_at_every_point(attempt, way, lambda: nothing_is_left(conn)) >= 5
        await runner._drop_connection()

    try:
        asyncio.run(main())
    finally:
        runner._loop.close()

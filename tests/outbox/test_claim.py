"""The relay's claim: which messages it takes, and that it reads only those that are due."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from schemas.messages import SendCode
from schemas.outbox import metrics, outbox
from schemas.outbox.claims import BATCH, Claimed, claim, set_up_claims
from schemas.postgres.connection import Connection
from tests.support.installation import new_database


@pytest.fixture(scope="module")
def backlog_url(database_url: str) -> str:
    """A database with a backlog, with many messages that are done, and many that are not due yet."""
    url = new_database(database_url)
    with psycopg.connect(url, autocommit=True) as conn:
        for queue, count, state, due in (
            ("bills", 10_000, "ready", "-1 minute"), ("mail", 10_000, "ready", "-2 minutes"),
            ("xero", 10_000, "ready", "1 hour"), ("timers", 30_000, "done", "-1 day"),
        ):  # fmt: skip
            conn.execute(
                """
                INSERT INTO messages (id, actor, queue, body, max_attempts, state, available_at, done_at)
                SELECT gen_random_uuid(), 'nobody', %s, '{}', 5, %s, now() + %s::interval - n * interval '1 microsecond',
                       CASE WHEN %s = 'done' THEN now() END
                FROM generate_series(1, %s) n
                """,
                (queue, state, due, state, count),
            )
        conn.execute("ANALYZE messages")
    return url


async def claim_as_a_relay_does(url: str) -> tuple[list[Claimed], str]:
    """The rows of one claim, and the query plan of the next."""
    async with await Connection.connect(url, autocommit=True, prepare_threshold=0) as conn:
        await set_up_claims(conn)
        claimed = (await claim(conn, relay=1)).rows
        cursor = await conn.execute(
            "SELECT name, parameter_types::text[] FROM pg_prepared_statements WHERE statement LIKE %s",
            ["%FOR UPDATE SKIP LOCKED%"],
        )
        [(name, types)] = await cursor.fetchall()
        values: list[Any] = ["100", "500", "'{timers,bills,xero,slack,mail}'", "1"]
        given = ", ".join(f"{value}::{kind}" for value, kind in zip(values, types, strict=True))
        cursor = await conn.execute(f"EXPLAIN EXECUTE {name} ({given})".encode())
        return claimed, "\n".join(line for (line,) in await cursor.fetchall())


def test_a_claim_takes_the_oldest_due_messages_of_each_queue(backlog_url: str) -> None:
    with psycopg.connect(backlog_url) as conn:
        oldest = "SELECT id FROM messages WHERE queue = %s AND state = 'ready' ORDER BY available_at, id LIMIT %s"
        expected = [row[0] for queue in ("mail", "bills") for row in conn.execute(oldest, (queue, BATCH)).fetchall()]

    claimed, _ = asyncio.run(claim_as_a_relay_does(backlog_url))

    assert [row.id for row in claimed] == expected


def test_a_sign_in_code_is_sent_before_a_backlog_of_mail(backlog_url: str) -> None:
    async def enqueue_codes() -> tuple[UUID, list[metrics.QueueDepth]]:
        async with await Connection.connect(backlog_url, autocommit=True) as conn:
            code = SendCode(email="jo@example.com", asked_at=datetime.now(UTC))
            await outbox.enqueue_many(conn, [code])
            return await outbox.enqueue(conn, code), await metrics.queue_depths(conn)

    code_id, depths = asyncio.run(enqueue_codes())
    claimed, _ = asyncio.run(claim_as_a_relay_does(backlog_url))

    of_mail = [row for row in claimed if row.queue == "mail"]
    assert of_mail[1].id == code_id and [row.actor for row in of_mail[:3]] == ["send_code", "send_code", "nobody"]
    # the priority does not count as time that the message has waited
    assert next(queue for queue in depths if queue.name == "mail").oldest_due_seconds < 600


def test_a_claim_does_not_read_messages_that_are_done_or_not_due(backlog_url: str) -> None:
    _, plan = asyncio.run(claim_as_a_relay_does(backlog_url))
    assert "Seq Scan" not in plan, plan
    [ready] = [line for line in plan.splitlines() if "Index Cond: ((queue" in line]
    assert "(available_at <= statement_timestamp())" in ready, plan


def test_a_claim_does_not_read_the_whole_table_because_it_was_empty_when_the_relay_started(database_url: str) -> None:
    claimed, plan = asyncio.run(claim_as_a_relay_does(new_database(database_url)))
    assert not claimed
    assert "Seq Scan" not in plan, plan

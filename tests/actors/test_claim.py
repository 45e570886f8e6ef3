"""What a claim costs: what is due, and not what else stands in the ledger."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from actors.relay import BATCH, Claimed, claim
from schemas import ledger, queues
from schemas.database import Connection
from schemas.messages import SendCode
from tests.installation import new_database


@pytest.fixture(scope="module")
def ledger_url(database_url: str) -> str:
    """A ledger with a backlog, with much that is done, and with much that is not due yet."""
    url = new_database(database_url)
    with psycopg.connect(url, autocommit=True) as conn:
        for queue, count, state, due in (
            ("bills", 10_000, "ready", "-1 minute"), ("mail", 10_000, "ready", "-2 minutes"),
            ("xero", 10_000, "ready", "1 hour"), ("timers", 30_000, "done", "-1 day"),
        ):  # fmt: skip
            conn.execute(
                """
                INSERT INTO messages (id, actor, queue, body, allowance, state, available_at, done_at)
                SELECT gen_random_uuid(), 'nobody', %s, '{}', 5, %s, now() + %s::interval - n * interval '1 microsecond',
                       CASE WHEN %s = 'done' THEN now() END
                FROM generate_series(1, %s) n
                """,
                (queue, state, due, state, count),
            )
        conn.execute("ANALYZE messages")
    return url


async def claim_as_a_relay_does(url: str) -> tuple[list[Claimed], str]:
    """One claim, and the plan of the next."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0) as conn:
        await conn.execute("SET plan_cache_mode = force_generic_plan")
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


def test_a_claim_takes_the_oldest_that_is_due_of_each_queue(ledger_url: str) -> None:
    with psycopg.connect(ledger_url) as conn:
        oldest = "SELECT id FROM messages WHERE queue = %s AND state = 'ready' ORDER BY available_at, id LIMIT %s"
        expected = [row[0] for queue in ("mail", "bills") for row in conn.execute(oldest, (queue, BATCH)).fetchall()]

    claimed, _ = asyncio.run(claim_as_a_relay_does(ledger_url))

    assert [row.id for row in claimed] == expected


def test_a_code_that_somebody_waits_for_goes_before_a_backlog_of_mail(ledger_url: str) -> None:
    async def ask_for_codes() -> tuple[UUID, list[queues.Queue]]:
        async with await Connection.connect(ledger_url, autocommit=True) as conn:
            code = SendCode(email="jo@example.com", asked_at=datetime.now(UTC))
            await ledger.put_all(conn, [code])
            return await ledger.put(conn, code), await queues.read(conn)

    code_id, standing = asyncio.run(ask_for_codes())
    claimed, _ = asyncio.run(claim_as_a_relay_does(ledger_url))

    of_mail = [row for row in claimed if row.queue == "mail"]
    assert of_mail[1].id == code_id and [row.actor for row in of_mail[:3]] == ["send_code", "send_code", "nobody"]
    # and yet nothing has waited for longer than it is there
    assert next(queue for queue in standing if queue.name == "mail").oldest_due_seconds < 600


def test_a_claim_reads_neither_what_is_done_nor_what_is_not_due(ledger_url: str) -> None:
    _, plan = asyncio.run(claim_as_a_relay_does(ledger_url))
    assert "Seq Scan" not in plan, plan
    [ready] = [line for line in plan.splitlines() if "Index Cond: ((queue" in line]
    assert "(available_at <= statement_timestamp())" in ready, plan

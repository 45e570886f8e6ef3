"""Work that a person has done again: once, however often it is triggered."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.errors import Invalid
from schemas.messages import SyncBill
from schemas.outbox import outbox, triggers
from schemas.outbox.triggers import Trigger, Triggered
from schemas.postgres.connection import Connection
from tests.outbox.rows import connected, message, over
from tests.support import firm_rows
from tests.support.installation import new_database


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


async def trigger(conn: Connection, kind: str, thing: UUID, reason: str = "why") -> Triggered:
    async with conn.transaction():
        request = Trigger.model_validate({"kind": kind, "id": thing, "reason": reason})
        return await triggers.trigger(conn, request, who="ann")


async def history(conn: Connection, message_id: UUID) -> list[tuple[str, str, str]]:
    return await conn.all("SELECT who, action, reason FROM message_events WHERE message_id = %s ORDER BY id", (message_id,))


async def waits_for_lock(url: str, other: asyncio.Future[Triggered]) -> None:
    """Returns when the other trigger waits for a lock, or has ended."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with connected(url) as conn:
        while not other.done() and not await conn.value(waits):  # noqa: ASYNC110 - a lock has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("kind", "thing", "body"),
    [
        ("recompute_bill", "bill", lambda thing: {"bill_ids": [thing]}),
        ("sync_bill", "bill", lambda thing: {"bill_id": thing}),
        ("move_entries", "task", lambda thing: {"task_id": thing}),
    ],
)
def test_a_trigger_enqueues_the_work_once_and_its_message_says_who_has_asked_for_it_and_why(
    kind: str, thing: str, body: Any, url: str
) -> None:
    async def check(conn: Connection) -> list[Any]:
        rows = await firm_rows.firm(conn)
        chosen = rows.task if thing == "task" else await firm_rows.bill(conn, rows)
        first = await trigger(conn, kind, chosen, "one")
        # it waits for its next attempt, and a person wants it now
        await conn.execute("UPDATE messages SET available_at = now() + interval '1 hour' WHERE id = %s", (first.id,))
        second = await trigger(conn, kind, chosen, "two")
        waits = await conn.value("SELECT available_at > now() FROM messages WHERE id = %s", (first.id,))
        stored = await conn.value("SELECT body FROM messages WHERE id = %s", (first.id,))
        seen = [stored == body(str(chosen)), first.result, second.result, second.id == first.id, waits]
        await conn.execute("UPDATE messages SET state = 'done', done_at = now() WHERE id = %s", (first.id,))
        third = await trigger(conn, kind, chosen, "three")
        return [*seen, third.result, third.id != first.id, await history(conn, first.id)]

    both = [("ann", "trigger", "one"), ("ann", "trigger", "two")]
    assert over(url, check) == [True, "enqueued", "waiting", True, False, "enqueued", True, both]


def test_a_dead_letter_of_the_work_is_replayed_with_all_its_attempts(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        bill = await firm_rows.bill(conn, await firm_rows.firm(conn))
        dead = await message(conn, "dead", actor="'sync_bill'", queue="'xero'", body=f"""'{{"bill_id": "{bill}"}}'""")
        found = await trigger(conn, "sync_bill", bill)
        left = await conn.one("SELECT state, max_attempts FROM messages WHERE id = %s", (dead,))
        return [found.id == dead, found.result, left, await history(conn, dead)]

    assert over(url, check) == [True, "replayed", ("ready", SyncBill.max_attempts), [("ann", "replay", "why")]]


def test_only_what_exists_can_be_triggered(url: str) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        bill = await firm_rows.bill(conn, rows)
        await conn.execute("UPDATE time_bills SET deleted_at = now() WHERE id = %s", (bill,))
        for kind, thing in (("sync_bill", bill), ("recompute_bill", rows.task), ("move_entries", uuid4())):
            with pytest.raises(Invalid):
                await trigger(conn, kind, thing)

    over(url, check)


def test_two_triggers_at_the_same_time_enqueue_one_message(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        bill = await firm_rows.bill(conn, await firm_rows.firm(conn))
        async with connected(url) as other:
            await other.execute("SET lock_timeout = 0")
            async with conn.transaction():
                request = Trigger.model_validate({"kind": "recompute_bill", "id": bill, "reason": "why"})
                first = await triggers.trigger(conn, request, who="ann")
                waiting = asyncio.ensure_future(trigger(other, "recompute_bill", bill))
                await waits_for_lock(url, waiting)
            second = await waiting
        return [first.result, second.result, first.id == second.id]

    assert over(url, check) == ["enqueued", "waiting", True]


def test_a_message_that_ends_while_a_trigger_waits_for_it_is_not_the_one_that_does_the_work(url: str) -> None:
    async def check(conn: Connection) -> list[Any]:
        bill = await firm_rows.bill(conn, await firm_rows.firm(conn))
        first = await trigger(conn, "recompute_bill", bill)
        async with connected(url) as other:
            await other.execute("SET lock_timeout = 0")
            async with conn.transaction():
                await outbox.complete(conn, first.id)
                waiting = asyncio.ensure_future(trigger(other, "recompute_bill", bill))
                await waits_for_lock(url, waiting)
            second = await waiting
        return [second.result, second.id != first.id]

    assert over(url, check) == ["enqueued", True]

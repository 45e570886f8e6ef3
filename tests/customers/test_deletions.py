"""What forbids the deletion of a customer or a pillar: everything that is, or will become, hours; and who waits for whom."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from schemas.customers import customers
from schemas.customers.deletion import DeletionScope, lock_tasks
from schemas.errors import Conflict
from schemas.postgres.connection import Connection
from tests.outbox.rows import connected, message, over
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import new_database


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


async def stop_message(conn: Connection, rows: FirmRows, state: str) -> UUID:
    return await message(
        conn,
        state,
        actor="'stop_timer'",
        queue="'timers'",
        body=f"""'{{"task_id": "{rows.task}", "entry_id": "{rows.task}"}}'""",
    )


async def add(conn: Connection, rows: FirmRows, kind: str) -> None:
    """One thing that forbids the deletion."""
    what, _, state = kind.partition(" ")
    match what:
        case "timer":
            insert = "INSERT INTO timers (user_id, id, task_id, start_time) VALUES (%s, gen_random_uuid(), %s, '2026-03-02')"
            await conn.execute(insert, (rows.user, rows.task))
        case "stop":
            await stop_message(conn, rows, state)
        case "bill":
            more: dict[str, Any] = {"xero_status": "queued"} if state == "approved" else {}
            bill = await firm_rows.bill(conn, rows, status=state, **more)
            if state != "approved":
                await firm_rows.entry(conn, rows, bill)
        case "entry":
            await firm_rows.entry(conn, rows, None)
        case "arriving":
            other = await firm_rows.firm(conn, by=rows.user)
            bill = await firm_rows.bill(conn, other)
            await firm_rows.entry(conn, other, bill, task_id=rows.task)


STOPS = ["stop ready", "stop sent", "stop dead", "stop discarded"]


@pytest.mark.parametrize("kind", ["timer", *STOPS, "bill pending", "bill rejected", "bill approved", "entry", "arriving"])
def test_hours_forbid_the_deletion_of_their_customer(kind: str, url: str) -> None:
    async def check(conn: Connection) -> bool:
        rows = await firm_rows.firm(conn)
        await add(conn, rows, kind)
        async with conn.transaction():
            with pytest.raises(Conflict):
                await customers.delete(conn, rows.customer, version=None)
        return bool(await conn.value("SELECT deleted_at IS NULL FROM customers WHERE id = %s", (rows.customer,)))

    assert over(url, check) is True


def test_nothing_else_forbids_it_and_its_tasks_pillars_and_empty_bills_go_with_it(url: str) -> None:
    async def check(conn: Connection) -> list[int]:
        rows, other = await firm_rows.firm(conn), await firm_rows.firm(conn)
        await add(conn, other, "timer")
        for each in (rows, other):
            await firm_rows.bill(conn, each)
        await stop_message(conn, rows, "done")
        await customers.delete(conn, rows.customer, version=None)
        return [
            await conn.value(f"SELECT count(*) FROM {table} WHERE customer_id = %s AND deleted_at IS NULL", (customer,))
            for customer in (rows.customer, other.customer)
            for table in ("tasks", "pillars", "time_bills")
        ]

    assert over(url, check) == [0, 0, 0, 1, 1, 1]


def test_a_deletion_waits_for_those_who_add_hours_to_its_tasks(url: str) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        async with connected(url) as other, other.transaction():
            await other.execute("SELECT FROM tasks WHERE id = %s FOR SHARE", (rows.task,))
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await lock_tasks(conn, DeletionScope(rows.customer))

    over(url, check)


def test_a_deletion_waits_for_those_who_add_tasks_to_its_customer(url: str) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        async with connected(url) as other, other.transaction():
            assert await customers.lock_shared(other, rows.customer)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await customers.delete(conn, rows.customer, version=None)

    over(url, check)

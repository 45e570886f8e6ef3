"""Rows of one table are locked in the order of their ids, whatever their order in the table."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from schemas.customers import customers, deletion
from schemas.customers.deletion import DeletionScope
from schemas.identity.accounts import Account, Profile
from schemas.identity.user_pool import PoolReading
from schemas.postgres.connection import Connection
from tests.outbox.rows import connected, over
from tests.support import firm_rows
from tests.support.installation import new_database

LOW, HIGH = UUID(int=1), UUID(int=2**128 - 1)
Work = Callable[[Connection], Awaitable[object]]


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


def assert_waits_for_the_lowest(url: str, table: str, work: Work) -> None:
    """`work` changes the rows LOW and HIGH of the table: while another transaction has LOW, it has not locked HIGH."""

    async def check(looker: Connection) -> None:
        async with connected(url) as holder, connected(url) as worker:
            await worker.execute("SET lock_timeout = '20s'")

            async def run() -> None:
                async with worker.transaction():
                    await work(worker)

            async with holder.transaction():
                await holder.execute(f"SELECT FROM {table} WHERE id = %s FOR NO KEY UPDATE", (LOW,))
                running = asyncio.create_task(run())
                waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
                while not await looker.value(waits, (worker.info.backend_pid,)):
                    assert not running.done(), running.exception()
                    await asyncio.sleep(0.01)
                free = await looker.values(f"SELECT id FROM {table} WHERE id = %s FOR NO KEY UPDATE SKIP LOCKED", (HIGH,))
            await running
            assert free == [HIGH]

    over(url, check)


async def add_users(conn: Connection, customer: UUID | None, **columns: object) -> None:
    for user_id in (HIGH, LOW):  # in the opposite order in the table
        values = {"id": user_id, "email": f"{user_id.hex}@example.com", "name": "Jo", "customer_id": customer} | columns
        names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
        await conn.execute(f"INSERT INTO users ({names}) VALUES ({places})", values)


def reading(*, gone: bool = False) -> PoolReading:
    """What the pool says of both users: that they have other names, or that they are gone."""
    said = PoolReading(datetime.now(UTC) + timedelta(hours=1))
    profile = Profile("new@example.com", "New", "internal_user", None)
    said.accounts = [] if gone else [Account(user_id, None, profile) for user_id in (HIGH, LOW)]
    said.gone = [HIGH, LOW] if gone else []
    return said


@pytest.mark.parametrize("kind", ["gone", "changed", "enabled again"])
def test_a_reading_of_the_user_pool(kind: str, url: str) -> None:
    disabled = {"revoked_at": "2026-03-02", "disabled_in_pool": True} if kind == "enabled again" else {}
    over(url, lambda conn: add_users(conn, None, role="internal_user", **disabled))
    assert_waits_for_the_lowest(url, "users", reading(gone=kind == "gone").save)

    async def stored(conn: Connection) -> list[tuple[str, bool]]:
        return await conn.all("SELECT DISTINCT name, revoked_at IS NULL FROM users")

    assert over(url, stored) == [("Jo", False) if kind == "gone" else ("New", True)]


@pytest.mark.parametrize("table", ["users", "time_bills"])
def test_the_deletion_of_a_customer(table: str, url: str) -> None:
    async def prepare(conn: Connection) -> UUID:
        rows = await firm_rows.firm(conn)
        await add_users(conn, rows.customer, role="customer_user")
        for number, bill_id in enumerate((HIGH, LOW)):
            await firm_rows.bill(conn, rows, seconds=0, id=bill_id, date=f"2026-03-0{number + 1}")
        return rows.customer

    customer = over(url, prepare)
    assert_waits_for_the_lowest(url, table, lambda conn: customers.delete(conn, customer, version=None))

    async def left(conn: Connection) -> tuple[int, int]:
        return await conn.one(
            """
            SELECT (SELECT count(*) FROM time_bills WHERE deleted_at IS NULL),
                   (SELECT count(*) FROM users WHERE revoked_at IS NULL)
            """
        )

    assert over(url, left) == (0, 1)  # the consultant


def test_the_bills_of_a_deleted_pillar(url: str) -> None:
    async def prepare(conn: Connection) -> DeletionScope:
        rows = await firm_rows.firm(conn)
        for number, bill_id in enumerate((HIGH, LOW)):
            await firm_rows.bill(conn, rows, seconds=0, id=bill_id, date=f"2026-03-0{number + 1}")
        return DeletionScope(rows.customer, rows.pillar)

    scope = over(url, prepare)
    assert_waits_for_the_lowest(url, "time_bills", lambda conn: deletion.tombstone_empty_bills(conn, scope))

"""Changes of rows that have versions, function by function: what is refused, who waits, and what follows in the same
transaction."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from schemas.customers import customers, pillars, tasks
from schemas.customers.customers import CUSTOMERS, CustomerChange, NewCustomer
from schemas.customers.pillars import PillarChange
from schemas.customers.tasks import NewTask, TaskChange
from schemas.errors import Conflict, Invalid, NotFound
from schemas.postgres.connection import Connection
from schemas.postgres.versioned_table import sent_values
from tests.outbox.rows import connected, over
from tests.support import firm_rows
from tests.support.installation import new_database


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def test_a_change_of_another_version_is_refused(url: str) -> None:
    async def check(conn: Connection) -> list[int]:
        rows, versions = await firm_rows.firm(conn), []
        for version in (1, 2, None):
            change = CustomerChange(name="Acme", version=version)
            versions.append((await customers.change(conn, rows.customer, change)).version)
        for version in (1, 3, 5):
            with pytest.raises(Conflict) as refused:
                await customers.change(conn, rows.customer, CustomerChange(name="Acme", version=version))
            assert refused.value.facts["current"]["version"] == 4
        return versions

    assert over(url, check) == [2, 3, 4]


def test_a_second_change_waits_for_the_first(url: str) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        async with connected(url) as other, other.transaction():
            await CUSTOMERS.lock(other, rows.customer)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await CUSTOMERS.lock(conn, rows.customer)

    over(url, check)


def test_what_is_deleted_cannot_be_changed(url: str) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        await customers.delete(conn, rows.customer, version=None)
        with pytest.raises(NotFound):
            await customers.change(conn, rows.customer, CustomerChange(name="Acme"))

    over(url, check)


def test_a_repeated_create_has_the_same_answer_and_another_body_is_refused(url: str) -> None:
    async def check(conn: Connection) -> int:
        by = await firm_rows.user(conn)
        body = NewCustomer(id=uuid4(), name="Acme", notes="first")
        first, again = [await customers.create(conn, body, by=by) for _ in range(2)]
        assert first == again
        with pytest.raises(Conflict):
            await customers.create(conn, body.model_copy(update={"notes": "second"}), by=by)
        return int(await conn.value("SELECT count(*) FROM pillars WHERE customer_id = %s", (first.id,)))

    assert over(url, check) == 1


def test_null_is_a_value_only_where_that_is_said() -> None:
    patch = TaskChange.model_validate({"title": None, "assigneeId": None, "status": "done", "version": 3})
    assert sent_values(patch, nullable=("assignee_id",)) == {"assignee_id": None, "status": "done"}


def test_an_inactive_pillar_takes_no_new_task(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        by = await firm_rows.user(conn)
        own, other, inactive = await firm_rows.firm(conn, by=by.id), await firm_rows.firm(conn, by=by.id), uuid4()
        await conn.execute(
            "INSERT INTO pillars (id, customer_id, name, active) VALUES (%s, %s, 'Old', false)", (inactive, own.customer)
        )
        taken = []
        for pillar in (own.pillar, None, inactive, other.pillar):
            try:
                await tasks.create(conn, NewTask(title="Servers", customerId=own.customer, pillarId=pillar), by=by)
                taken.append(True)
            except Invalid:
                taken.append(False)
        return taken

    assert over(url, check) == [True, True, False, False]


def test_a_task_that_moves_enqueues_the_move_of_its_entries(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[int], list[str]]:
        by = await firm_rows.user(conn)
        own, other = await firm_rows.firm(conn, by=by.id), await firm_rows.firm(conn, by=by.id)
        counted = []
        for change in ({"title": "Mail servers"}, {"customerId": str(other.customer)}):
            await tasks.change(conn, own.task, TaskChange.model_validate(change), by=by)
            moves = "SELECT count(*) FROM messages WHERE actor = 'move_entries' AND body->>'task_id' = %s"
            counted.append(await conn.value(moves, (str(own.task),)))
        left = await conn.values("SELECT customer_id FROM task_moves WHERE task_id = %s", (own.task,))
        return counted, ["own" if customer == own.customer else "other" for customer in left]

    assert over(url, check) == ([0, 1], ["own"])


def test_each_of_the_firms_people_gets_one_mail_for_each_time_a_pillar_is_made_inactive(url: str) -> None:
    async def check(conn: Connection) -> list[list[str]]:
        await conn.execute("DELETE FROM messages")
        await conn.execute("UPDATE users SET email = '' WHERE true")
        by = await firm_rows.user(conn, email="ann@example.com")
        rows, pillar = await firm_rows.firm(conn, by=by.id), uuid4()
        await firm_rows.user(conn, "internal_user", email="Ann@example.com")
        await firm_rows.user(conn, "internal_user", email="jo@example.com")
        await firm_rows.user(conn, "internal_user", email="gone@example.com", revoked_at="2026-03-01")
        await firm_rows.user(conn, "customer_user", email="acme@example.com", customer_id=rows.customer)
        await conn.execute("INSERT INTO pillars (id, customer_id, name) VALUES (%s, %s, 'Hosting')", (pillar, rows.customer))
        mails = []
        for active in (False, False, True, False):
            await pillars.change(conn, rows.customer, pillar, PillarChange(active=active), **changed_by(by))
            sent = await conn.values("DELETE FROM messages WHERE actor = 'send_mail' RETURNING lower(body->>'to')")
            mails.append(sorted(sent))
        return mails

    everybody = ["ann@example.com", "jo@example.com"]
    assert over(url, check) == [everybody, [], [], everybody]


def changed_by(by: Any) -> dict[str, Any]:
    return {"by": by, "include_legacy_admins": False}

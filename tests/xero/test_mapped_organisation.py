"""A mapping belongs to the organisation that was connected when it was written; what failed under a wrong one is sent again."""

from typing import Any

import pytest

from schemas.customers import customers
from schemas.customers.customers import CustomerChange
from schemas.messages import QueueBills
from schemas.postgres.connection import Connection
from schemas.xero import backlog, bill_sync, connection
from schemas.xero.oauth import Organisation, Tokens
from tests.outbox.rows import message, over
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.firm_with_xero import Firm
from tests.support.installation import new_database
from tests.xero.test_records import SETTINGS

UNSENT = "SELECT state FROM messages WHERE actor = 'sync_bill' AND body->>'bill_id' = %s AND state <> 'done'"


def test_bills_wait_while_another_organisation_is_connected_than_that_of_their_mapping(firm: Firm) -> None:
    other = firm.xero.tenant("Second Ltd")
    first = firm.xero.project("Only for its organisation")["tenant"]
    firm.connect(tenantId=other)

    bill = firm.approved()

    error = firm.wait_for_status(bill, "not_mapped")["xero"]["error"]
    assert "project" in error and "another Xero organisation" in error and "connect" in error
    assert firm.stint.rows(UNSENT, bill["id"]) == []
    firm.connect(tenantId=first)
    firm.wait_for_status(bill, "synced")
    firm.check()


def test_a_customer_that_is_mapped_in_the_other_organisation_waits_for_its_pillar_too(firm: Firm) -> None:
    other = firm.xero.tenant("Second Ltd")
    firm.connect(tenantId=other)
    project = firm.xero.project("In Second Ltd", tenantId=other)
    firm.xero.user(firm.by.email, tenantId=other)
    firm.map_customer(project["projectId"])
    bill = firm.approved()
    assert "task is in another" in firm.wait_for_status(bill, "not_mapped")["xero"]["error"]

    firm.map_pillar(firm.xero.task(project)["taskId"])

    firm.wait_for_status(bill, "synced")


@pytest.mark.parametrize("wrong", ["task", "project"])
def test_bills_that_xero_refused_under_a_wrong_mapping_are_sent_by_themselves(wrong: str, firm: Firm) -> None:
    if wrong == "task":
        task = firm.xero.task(firm.project, "At a fixed price")
        firm.map_pillar(task["taskId"])
        firm.xero.change_task(task, chargeType="FIXED")
    else:
        firm.xero.close_project(firm.project)
    bills = [firm.approved(day=f"2026-03-0{day}") for day in (2, 3)]
    for bill in bills:
        firm.wait_for_status(bill, "failed")
    firm.settled()

    if wrong == "project":  # the task is still one of the other project: refused once more, and sent after the second change
        firm.project = firm.xero.project(f"Open project of {firm.by.email}")
        firm.map_customer(firm.project["projectId"])
    firm.map_pillar(firm.xero.task(firm.project, "By the hour")["taskId"])

    for bill in bills:
        assert firm.wait_for_status(bill, "synced")["xero"]["error"] is None
        assert firm.stint.rows(UNSENT, bill["id"]) == []
    firm.check()


# each step alone, in a database without workers


async def connect(conn: Connection, tenant_id: str) -> None:
    async with conn.transaction():
        organisation = Organisation("connection", tenant_id, tenant_id, "2026-03-01")
        by = await firm_rows.user(conn)
        await connection.connect(conn, Tokens("access", "refresh", 1800), organisation, by=by, settings=SETTINGS)


async def map_customer(conn: Connection, rows: FirmRows, project_id: str) -> None:
    await customers.change(conn, rows.customer, CustomerChange.model_validate({"xeroProjectId": project_id}))


async def tenant_of(conn: Connection, rows: FirmRows) -> str | None:
    found: str | None = await conn.value("SELECT xero_tenant_id FROM customers WHERE id = %s", (rows.customer,))
    return found


def test_a_mapping_has_the_organisation_that_was_connected_when_it_was_written(database_url: str) -> None:
    async def check(conn: Connection) -> None:
        rows, early = await firm_rows.firm(conn), await firm_rows.firm(conn, name="Early")
        await map_customer(conn, early, "p")
        await connect(conn, "A")
        assert await tenant_of(conn, early) is None  # it is of the connected one
        await map_customer(conn, rows, "p")
        assert await tenant_of(conn, rows) == "A"
        await connect(conn, "B")
        assert [await tenant_of(conn, each) for each in (rows, early)] == ["A", "A"]
        await map_customer(conn, rows, "p")  # as a form sends all its fields
        assert await tenant_of(conn, rows) == "A"
        await map_customer(conn, rows, "q")
        assert await tenant_of(conn, rows) == "B"
        async with conn.transaction():
            await connection.clear(conn)
        await map_customer(conn, rows, "r")
        assert await tenant_of(conn, rows) is None
        await connect(conn, "A")
        assert await tenant_of(conn, rows) is None

    over(new_database(database_url), check)


def test_disconnecting_keeps_the_organisation_of_mappings_that_had_none(database_url: str) -> None:
    async def check(conn: Connection) -> None:
        rows = await firm_rows.firm(conn)
        await map_customer(conn, rows, "p")
        await connect(conn, "A")
        async with conn.transaction():
            await connection.clear(conn)
        assert await tenant_of(conn, rows) == "A"

    over(new_database(database_url), check)


async def refused_bill(conn: Connection, **record: Any) -> tuple[FirmRows, Any]:
    """A failed bill whose create Xero has refused in project p, for task t; both are mapped."""
    await connect(conn, "A")
    rows = await firm_rows.firm(conn)
    await conn.execute("UPDATE customers SET xero_project_id = 'p', xero_tenant_id = 'A' WHERE id = %s", (rows.customer,))
    await conn.execute("UPDATE pillars SET xero_task_id = 't', xero_tenant_id = 'A' WHERE id = %s", (rows.pillar,))
    bill_id = await firm_rows.bill(conn, rows, status="approved", xero_status="failed", xero_error="no")
    columns = {"tenant_id": "A", "project_id": "p", "content": '{"task_id": "t"}', "create_refused": True} | record
    names, places = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    await conn.execute(f"INSERT INTO xero_entries (bill_id, {names}) VALUES (%(bill)s, {places})", columns | {"bill": bill_id})
    await message(conn, "dead", actor="'sync_bill'", queue="'xero'", body=f"""'{{"bill_id": "{bill_id}"}}'""")
    return rows, bill_id


@pytest.mark.parametrize(("record", "is_sent"), [
    ({}, False),  # refused as it is mapped now
    ({"project_id": "q"}, True),
    ({"content": '{"task_id": "u"}'}, True),
    ({"tenant_id": "B"}, True),
    ({"project_id": "q", "create_refused": False}, False),  # it failed for another reason
])  # fmt: skip
def test_only_a_bill_that_was_refused_under_another_mapping_is_sent_again_and_once(
    record: dict[str, Any], is_sent: bool, database_url: str
) -> None:
    async def check(conn: Connection) -> None:
        _, bill_id = await refused_bill(conn, **record)
        for _ in range(2):
            async with conn.transaction():
                await backlog.queue_next_chunk(conn, QueueBills(because="mapped"), SETTINGS)
        status, replays = await conn.one(
            "SELECT b.xero_status, m.replays FROM time_bills b, messages m WHERE b.id = %s AND m.actor = 'sync_bill'",
            (bill_id,),
        )
        assert (status, replays) == (("queued", 1) if is_sent else ("failed", 0))
        # it dies again, before another create was tried: no loop
        await conn.execute("DELETE FROM messages WHERE actor = 'queue_bills'")
        await bill_sync.mark_failed(conn, {"bill_id": str(bill_id)})
        assert await conn.value("SELECT count(*) FROM messages WHERE actor = 'queue_bills'") == 0

    over(new_database(database_url), check)


def test_a_bill_that_is_refused_while_its_mapping_changes_is_sent_again(database_url: str) -> None:
    async def check(conn: Connection) -> None:
        rows, bill_id = await refused_bill(conn)
        await conn.execute("UPDATE time_bills SET xero_status = 'queued' WHERE id = %s", (bill_id,))
        await map_customer(conn, rows, "q")
        await conn.execute("DELETE FROM messages WHERE actor = 'queue_bills'")  # handled before the bill has failed
        await bill_sync.mark_failed(conn, {"bill_id": str(bill_id)})
        assert await conn.values("SELECT body->>'because' FROM messages WHERE actor = 'queue_bills'") == ["mapped"]

    over(new_database(database_url), check)

"""Leads, function by function: how many of one client, and how many mails."""

import pytest

from schemas.customers import leads
from schemas.customers.leads import NewLead
from schemas.errors import RateLimited
from schemas.postgres.connection import Connection
from tests.outbox.rows import over
from tests.support.installation import new_database


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def send(conn: Connection, client: str, **more: str) -> bool:
    try:
        body = NewLead.model_validate({"name": "Ada", "email": "ada@example.com", **more})
        await leads.receive(conn, body, client=client, firm_email="firm@example.com")
    except RateLimited:
        return False
    return True


def test_five_leads_of_a_client_are_stored_and_others_are_not_refused(url: str) -> None:
    async def check(conn: Connection) -> tuple[list[bool], bool, int]:
        first = [await send(conn, "10.0.0.1") for _ in range(7)]
        return first, await send(conn, "10.0.0.2"), await conn.value("SELECT count(*) FROM leads")

    assert over(url, check) == ([*[True] * 5, False, False], True, 6)


def test_a_lead_of_a_machine_is_not_stored(url: str) -> None:
    async def check(conn: Connection) -> tuple[bool, int]:
        return await send(conn, "10.0.0.1", website="https://example.com"), await conn.value("SELECT count(*) FROM leads")

    assert over(url, check) == (True, 0)


def test_a_flood_fills_no_mailbox(url: str) -> None:
    async def check(conn: Connection) -> tuple[int, int]:
        for number in range(60):
            assert await send(conn, f"10.0.0.{number}")
        mails = "SELECT count(*) FROM messages WHERE actor = 'send_mail'"
        return await conn.value("SELECT count(*) FROM leads"), await conn.value(mails)

    assert over(url, check) == (60, 50)


def test_a_48_keeps_nobodys_leads_out_and_leaves_mails_for_others(url: str) -> None:
    async def check(conn: Connection) -> tuple[int, list[bool], int, int]:
        of_the_site = [await send(conn, f"2001:db8:1:{number // 5:x}::/64") for number in range(1005)]
        clients = ("10.0.0.1", "2001:db8:2:1::/64", "2001:db8:3:1::/64", "unknown")
        others = [await send(conn, client) for client in clients]
        mails = "SELECT count(*) FROM messages WHERE actor = 'send_mail'"
        stored = await conn.value("SELECT count(*) FROM leads")
        return sum(of_the_site), others, stored, await conn.value(mails)

    stored, others, leads, mails = over(url, check)
    assert 50 <= stored <= 55  # one more every 30 seconds
    assert others == [True] * 4 and leads == stored + 4
    assert mails == 10 + 4

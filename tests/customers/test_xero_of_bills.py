"""Customers' users see where their bills are in Xero, but not what is wrong at the firm."""

import json
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from schemas.errors import Forbidden
from schemas.hours import time_bills
from schemas.hours.time_bills import BillFilter, XeroStatus
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import new_database

CUSTOMERS_ROLES = ["customer_admin", "customer_user"]


@pytest.fixture
def url(database_url: str) -> str:
    return new_database(database_url)


async def people(conn: Connection, role: str) -> tuple[FirmRows, User, list[User]]:
    """A customer with one of its users, and the firm's own people."""
    rows = await firm_rows.firm(conn)
    user = await firm_rows.user(conn, role, customer_id=rows.customer)
    assert not user.is_internal
    return rows, user, [await firm_rows.user(conn, role) for role in ("internal_admin", "internal_user")]


async def answers(conn: Connection, user: User, bill_id: Any) -> list[dict[str, Any]]:
    """The bill in every answer that has it: alone, in the list and in the enriched list."""
    pages = [
        json.loads(await time_bills.list_page(conn, page, BillFilter(), user=user, enrich=enrich))
        for page in (Page(), Page(since="0"))  # all bills, and those that changed
        for enrich in (False, True)
    ]
    return [json.loads(await time_bills.get(conn, bill_id, user=user)), *(page["items"][0] for page in pages)]


@pytest.mark.parametrize("role", CUSTOMERS_ROLES)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("not_connected", "Set XERO_CLIENT_ID and XERO_CLIENT_SECRET"),
        ("queued", "Xero refuses Stint access to Our Firm Ltd (403)"),
        ("failed", "Xero refuses it: The user jo@firm.example is not a user of the project"),
        ("withdrawing", "Xero answered 500: <html>upstream</html>"),
        ("synced", "This bill is invoiced in Xero; take it off the invoice first."),
        ("not_mapped", "The consultant has no user in Xero"),
        ("differs", "Its time entry was changed in Xero: 5 minutes instead of 60."),
    ],
)
def test_customers_users_do_not_see_why_a_bill_is_not_in_xero(role: str, status: XeroStatus, error: str, url: str) -> None:
    async def check(conn: Connection) -> None:
        rows, user, firms_people = await people(conn, role)
        columns: dict[str, Any] = {"xero_synced_at": "2026-03-04"} if status == "synced" else {}
        columns |= {"xero_difference": Jsonb({"minutes": 5}), "xero_accepted": Jsonb({"reason": error})}
        bill_id = await firm_rows.bill(
            conn, rows, status="approved", xero_status=status, xero_error=error, xero_time_entry_id="e1", **columns
        )
        for person in firms_people:
            for bill in await answers(conn, person, bill_id):
                assert (bill["xero"]["status"], bill["xero"]["error"]) == (status, error)
                assert (bill["xero"]["waitingFor"] is None) is (status in ("failed", "synced", "differs"))
                assert (bill["xero"]["inXero"], bill["xero"]["accepted"]) == ({"minutes": 5}, {"reason": error})
        shown = await answers(conn, user, bill_id)
        assert len(shown) == 5
        for bill in shown:
            xero = bill["xero"]
            assert (xero["status"], xero["error"], xero["waitingFor"], xero["timeEntryId"]) == (status, None, None, "e1")
            assert (xero["inXero"], xero["accepted"]) == (None, None)
            assert (xero["syncedAt"] is not None) is (status == "synced")
            assert error not in json.dumps(bill)

    over(url, check)


@pytest.mark.parametrize("role", CUSTOMERS_ROLES)
def test_customers_users_do_not_list_bills_by_their_status_in_xero(role: str, url: str) -> None:
    lists: list[list[XeroStatus]] = [["failed"], ["synced"], ["queued", "not_connected"], ["none"]]

    async def check(conn: Connection) -> None:
        _, user, firms_people = await people(conn, role)
        for filters in [BillFilter(xero_status=chosen) for chosen in lists]:
            for enrich in (False, True):
                with pytest.raises(Forbidden, match="Only the firm's own people list bills by xeroStatus"):
                    await time_bills.list_page(conn, Page(), filters, user=user, enrich=enrich)
                for person in firms_people:
                    await time_bills.list_page(conn, Page(), filters, user=person, enrich=enrich)

    over(url, check)

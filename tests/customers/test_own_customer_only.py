"""What a customer's user gets of each kind of row, function by function: nothing of another customer, of a draft, or of what
is deleted."""

import json
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from schemas.customers import customer_users, customers, pillars, tasks
from schemas.customers.customer_users import ResendInvitation
from schemas.customers.tasks import TaskFilter
from schemas.errors import Conflict, Forbidden, NotFound
from schemas.hours import time_bills, time_entries
from schemas.hours.time_bills import BillFilter
from schemas.hours.time_entries import EntryFilter
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page
from schemas.reports import hours
from schemas.settings import Settings
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.firm_rows import FirmRows
from tests.support.installation import SECRET_KEY, new_database

PAGE = Page()


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


async def two(conn: Connection, role: str = "customer_user") -> tuple[FirmRows, FirmRows, User]:
    """Two customers, and a user of the first."""
    by = (await firm_rows.user(conn)).id
    own, other = await firm_rows.firm(conn, by=by, name="Own"), await firm_rows.firm(conn, by=by, name="Other")
    return own, other, await firm_rows.user(conn, role, customer_id=own.customer)


def ids(answer: bytes) -> list[str]:
    return sorted(item["id"] for item in json.loads(answer)["items"])


async def is_found(reading: Any) -> bool:
    try:
        await reading
    except NotFound:
        return False
    return True


def test_customers(url: str) -> None:
    async def check(conn: Connection) -> tuple[bool, list[bool]]:
        own, other, user = await two(conn)
        listed = ids(await customers.list_page(conn, PAGE, user=user)) == [str(own.customer)]
        return listed, [await is_found(customers.get(conn, rows.customer, user=user)) for rows in (own, other)]

    assert over(url, check) == (True, [True, False])


def test_pillars(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        own, other, user = await two(conn)
        found = [await is_found(pillars.get(conn, rows.customer, rows.pillar, user=user)) for rows in (own, other)]
        for anybody in (user, await firm_rows.user(conn)):  # also for the firm a pillar is below its own customer only
            found.append(await is_found(pillars.get(conn, own.customer, other.pillar, user=anybody)))
        return [*found, *[await is_found(pillars.list_page(conn, rows.customer, PAGE, user=user)) for rows in (own, other)]]

    assert over(url, check) == [True, False, False, False, True, False]


def test_tasks(url: str) -> None:
    async def check(conn: Connection) -> tuple[bool, list[bool]]:
        own, other, user = await two(conn)
        listed = ids(await tasks.list_page(conn, PAGE, TaskFilter(), user=user)) == [str(own.task)]
        found = [await is_found(tasks.get(conn, rows.task, user=user)) for rows in (own, other)]
        await conn.execute("UPDATE tasks SET deleted_at = now() WHERE id = %s", (own.task,))
        return listed, [*found, await is_found(tasks.get(conn, own.task, user=user))]

    assert over(url, check) == (True, [True, False, False])


def test_time_bills(url: str) -> None:
    async def check(conn: Connection) -> tuple[bool, list[bool]]:
        own, other, user = await two(conn)
        bills = [
            await firm_rows.bill(conn, own, status="approved", xero_status="queued"),
            await firm_rows.bill(conn, own, status="pending"),
            await firm_rows.bill(conn, own, status="rejected", date="2026-03-04"),
            await firm_rows.bill(conn, other, status="approved", xero_status="queued"),
        ]
        listed = ids(await time_bills.list_page(conn, PAGE, BillFilter(), user=user)) == [str(bills[0])]
        return listed, [await is_found(time_bills.get(conn, bill, user=user)) for bill in bills]

    assert over(url, check) == (True, [True, False, False, False])


def test_the_report_of_hours(url: str) -> None:
    async def check(conn: Connection) -> list[tuple[list[str], int]]:
        own, other, user = await two(conn)
        queued = {"xero_status": "queued", "status": "approved"}
        await firm_rows.bill(conn, own, seconds=3600, **queued)
        await firm_rows.bill(conn, own, seconds=7200, status="pending")
        await firm_rows.bill(conn, own, seconds=7200, status="rejected", date="2026-03-04")
        await firm_rows.bill(conn, other, seconds=7200, **queued)
        days, found = BillFilter(start_date=date(2026, 1, 1), end_date=date(2026, 12, 31)), []
        for filters in (
            days,
            replace(days, customer=str(other.customer)),
            replace(days, customer="Other"),
            replace(days, pillar_id=other.pillar),
            replace(days, pillar_id=own.pillar),
            replace(days, status="pending"),
        ):
            report = json.loads(await hours.report(conn, ["customer", "day"], filters, user=user))
            _, rows = await hours.table(conn, ["customer"], filters, user=user)
            assert [row[0] for row in rows] == [UUID(item["customerId"]) for item in report["subtotals"]]
            assert all(row["notInXeroMinutes"] is None for row in [report["totals"], *report["items"], *report["subtotals"]])
            names = [str(item["customerName"]) for item in [*report["items"], *report["subtotals"]]]
            found.append((names, report["totals"]["seconds"]))
        with pytest.raises(Forbidden):
            await hours.report(conn, ["customer"], replace(days, xero_status=["failed"]), user=user)
        return found

    own_hours = (["Own", "Own"], 3600)
    assert over(url, check) == [own_hours, ([], 0), ([], 0), ([], 0), own_hours, ([], 0)]


def test_time_entries(url: str) -> None:
    async def check(conn: Connection) -> tuple[bool, list[bool]]:
        own, other, user = await two(conn)
        entries = []
        for rows, status in ((own, "approved"), (own, "pending"), (own, "rejected"), (other, "approved")):
            more: dict[str, Any] = {"xero_status": "queued"} if status == "approved" else {}
            day = "2026-03-04" if status == "rejected" else firm_rows.DAY
            bill = await firm_rows.bill(conn, rows, status=status, date=day, **more)
            entries.append(await firm_rows.entry(conn, rows, bill, date=day))
        listed = ids(await time_entries.list_page(conn, PAGE, EntryFilter(zone="UTC"), user=user)) == [str(entries[0])]
        return listed, [await is_found(time_entries.get(conn, entry, user=user)) for entry in entries]

    assert over(url, check) == (True, [True, False, False, False])


SETTINGS = Settings(database_url="", secret_key=SECRET_KEY)


def test_users(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        own, other, admin = await two(conn, "customer_admin")
        theirs = await firm_rows.user(conn, "customer_user", customer_id=other.customer, invited_at="2026-03-01")
        listed = ids(await customer_users.list_page(conn, PAGE, customer_id=own.customer, user=admin)) == [str(admin.id)]
        return [
            listed,
            await is_found(customer_users.list_page(conn, PAGE, customer_id=other.customer, user=admin)),
            await is_found(customer_users.remove(conn, own.customer, theirs.id, by=admin, settings=SETTINGS)),
            await is_found(customer_users.remove(conn, other.customer, theirs.id, by=admin, settings=SETTINGS)),
            await is_found(
                customer_users.resend(conn, own.customer, ResendInvitation(userId=theirs.id), by=admin, settings=SETTINGS)
            ),
            await is_found(customer_users.remove(conn, own.customer, admin.id, by=admin, settings=SETTINGS)),
        ]

    assert over(url, check) == [True, False, False, False, False, True]


def test_a_customers_admin_does_not_learn_of_an_account_that_the_firm_may_know_of(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        own, other, admin = await two(conn, "customer_admin")
        theirs = await firm_rows.user(conn, "customer_user", customer_id=other.customer)
        firm, found = await firm_rows.user(conn), []
        for by in (admin, firm):
            try:
                await customer_users._has_hidden_account(conn, own.customer, theirs.email.upper(), by)
                found.append(False)
            except Conflict:
                found.append(True)
        return found

    assert over(url, check) == [False, True]


def test_deleting_a_customer_removes_its_users_and_not_those_who_are_internal_now(url: str) -> None:
    async def check(conn: Connection) -> list[bool]:
        own, _, user = await two(conn)
        internal = await firm_rows.user(conn, "internal_user", customer_id=own.customer)
        await customers.delete(conn, own.customer, version=None)
        revoked = dict(await conn.all("SELECT id, revoked_at IS NOT NULL FROM users"))
        return [revoked[user.id], revoked[internal.id]]

    assert over(url, check) == [True, False]

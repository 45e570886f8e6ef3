"""Consultants as users of Xero: removed there, invited again, read in pages, and never lost by a read that is not whole."""

from typing import Any

import pytest

from schemas.postgres.connection import Connection
from schemas.xero import users
from schemas.xero.users import MAX_PAGES, UsersCall, UsersPage
from tests.outbox.rows import over
from tests.support import firm_rows
from tests.support.firm_with_xero import Firm
from tests.support.given import Given, Json
from tests.support.installation import new_database
from tests.support.xero_sandbox import XeroSandbox

DEAD = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND state = 'dead' AND body->>'bill_id' = ANY(%s)"


def user_calls(firm: Firm) -> int:
    return len(firm.xero.calls("/ProjectsUsers", "GET"))


def user_of(firm: Firm) -> Json:
    """The consultant in Xero: adding them again gives the same user."""
    return firm.xero.user(firm.by.email)


def approved(firm: Firm, count: int) -> list[str]:
    bills = firm.given.many_bills(firm.by, firm.task, count, first="2026-04-01")
    firm.approve_all(bills)
    return bills


def synced_once(firm: Firm) -> Json:
    """After it, Stint has read Xero's users."""
    user = user_of(firm)
    firm.wait_for_status(firm.approved(), "synced")
    return user


def test_bills_of_a_removed_consultant_wait_until_they_are_invited_again(firm: Firm) -> None:
    user = synced_once(firm)
    firm.xero.remove_user(user)
    firm.xero.forget_calls()

    bills = approved(firm, 12)

    for bill in bills:
        waiting = firm.wait_for_status({"id": bill}, "not_mapped")
        assert firm.by.email in waiting["xero"]["error"] and "invite them" in waiting["xero"]["error"]
    firm.settled()
    assert firm.stint.value(DEAD, bills) == 0
    assert 1 <= len(firm.xero.calls("/Time", "POST")) <= 12  # no loop: only those that were on their way at the same time
    user_of(firm)  # invited again
    for bill in bills:
        firm.wait_for_status({"id": bill}, "synced", seconds=40)
    firm.check()


@pytest.mark.slow
def test_time_of_a_removed_consultant_goes_to_the_fallback_user_and_waits_when_they_are_removed_too(
    given_own: Given, xero: XeroSandbox
) -> None:
    fallback = xero.user("office@example.com")
    given_own.stint.environment["XERO_FALLBACK_USER"] = "office@example.com"
    given_own.stint.start().wait_until_ready()
    firm = Firm.new(given_own.stint, xero, given_own)
    firm.xero.remove_user(synced_once(firm))

    second = firm.approved(day="2026-03-03")
    firm.wait_for_status(second, "synced")
    assert firm.entries()[-1]["userId"] == fallback["userId"]

    firm.xero.remove_user(fallback)
    third = firm.approved(day="2026-03-04")
    error = firm.wait_for_status(third, "not_mapped")["xero"]["error"]
    assert firm.by.email in error and "invite them" in error and "office@example.com" in error
    firm.xero.user("office@example.com")
    firm.wait_for_status(third, "synced", seconds=40)
    firm.check()


def test_a_refusal_that_is_not_for_a_removed_user_is_final_after_users_were_read_once(firm: Firm) -> None:
    synced_once(firm)
    body = '{"message": "The request is invalid.", "modelState": {"userId": ["Not today.", "Nor tomorrow."], "x": "."}}'
    firm.xero.inject_faults({"kind": "status", "status": 400, "body": body, "method": "POST", "path": "/Time$"})
    firm.xero.forget_calls()

    bill = firm.approved(day="2026-03-03")

    error = firm.wait_for_status(bill, "failed")["xero"]["error"]
    assert error == "Xero refuses it: The request is invalid; Not today; Nor tomorrow"
    firm.settled()
    assert len(firm.xero.calls("/Time", "POST")) == 2 and user_calls(firm) >= 1
    assert firm.stint.value(DEAD, [bill["id"]]) == 1


def test_a_refusal_that_names_another_field_is_final_at_once(firm: Firm) -> None:
    synced_once(firm)
    task = firm.xero.task(firm.project, "At a fixed price")
    firm.map_pillar(task["taskId"])
    firm.xero.change_task(task, chargeType="FIXED")
    firm.xero.forget_calls()
    bill = firm.approved(day="2026-03-03")
    firm.wait_for_status(bill, "failed")
    firm.settled()
    assert len(firm.xero.calls("/Time", "POST")) == 1


@pytest.mark.parametrize("fault", ["stall", "drop_after", "half", "status"])
def test_users_whose_read_fails_stay(fault: str, firm: Firm) -> None:
    """The consultant of the second bill is unknown, so that users are read again, while others are synced."""
    synced_once(firm)
    firm.xero.inject_faults({"kind": fault, "path": "/ProjectsUsers$", "seconds": 3, "count": 2})
    other = firm.given.person()
    firm.stint.rows("UPDATE xero_tenants SET users_fetched_at = 'epoch' RETURNING 1")
    [unknown] = firm.given.many_bills(other, firm.task, 1)
    firm.approve_all([unknown])
    bills = approved(firm, 3)
    for bill in bills:
        firm.wait_for_status({"id": bill}, "synced")
    firm.wait_for_status({"id": unknown}, "not_mapped", seconds=40)
    assert firm.stint.value(DEAD, [*bills, unknown]) == 0


def test_a_consultant_on_the_second_page_of_users_is_found(firm: Firm) -> None:
    for number in range(500):
        firm.xero.user(f"{number}@example.com")
    other = firm.given.person()
    last = firm.xero.user(other.email)
    [bill] = firm.given.many_bills(other, firm.task, 1)

    firm.approve_all([bill])

    firm.wait_for_status({"id": bill}, "synced")
    assert [entry["userId"] for entry in firm.entries()] == [last["userId"]]
    assert {call["query"]["page"] for call in firm.xero.calls("/ProjectsUsers", "GET")} == {"1", "2"}


# each page alone, in a database without workers


def page(*names: str, total: int | None = -1, is_last: bool = True) -> UsersPage:
    return UsersPage([(name, f"{name}@example.com") for name in names], len(names) if total == -1 else total, is_last)


async def start(conn: Connection) -> UsersCall:
    return await users.start_call(conn, "t")


async def known(conn: Connection) -> str:
    return "".join(await conn.values("SELECT user_id FROM xero_users WHERE tenant_id = 't' ORDER BY 1"))


def run(database_url: str, check: Any) -> None:
    async def prepared(conn: Connection) -> None:
        await conn.execute("INSERT INTO xero_tenants (tenant_id) VALUES ('t')")
        await users.record_page(conn, "t", await start(conn), page("a", "b"))
        assert await known(conn) == "ab"
        await check(conn)

    over(new_database(database_url), prepared)


@pytest.mark.parametrize(("pages", "left"), [
    ([page("a", "c")], "ac"),
    ([page(total=0)], ""),
    ([page("c", total=2)], "abc"),  # Xero says that there are more
    ([page("c", total=None)], "abc"),
    ([page("c", total=2, is_last=False)], "abc"),  # the second page is not read yet
    ([page("c", total=2, is_last=False), page("d", total=2)], "cd"),
    ([page("c", total=3, is_last=False), page("d", total=2)], "abcd"),  # one was removed while the pages were read
    ([page("c", total=MAX_PAGES, is_last=False)] * MAX_PAGES, "abc"),  # the limit
])  # fmt: skip
def test_only_a_whole_read_removes_users(pages: list[UsersPage], left: str, database_url: str) -> None:
    async def check(conn: Connection) -> None:
        for number, read in enumerate(pages, 1):
            call = await start(conn)
            assert call.page == number
            await users.record_page(conn, "t", call, read)
        assert await known(conn) == left
        is_over = pages[-1].is_last or len(pages) == MAX_PAGES
        assert (await start(conn)).page == (1 if is_over else len(pages) + 1)

    run(database_url, check)


def test_an_answer_that_comes_after_that_of_a_later_call_changes_nothing(database_url: str) -> None:
    async def check(conn: Connection) -> None:
        slow, later = await start(conn), await start(conn)
        await users.record_page(conn, "t", later, page("a", "b", "c"))
        await users.record_page(conn, "t", slow, page("a"))
        assert await known(conn) == "abc"
        overtaken = await start(conn)
        await start(conn)
        await users.record_page(conn, "t", overtaken, page("a"))
        assert await known(conn) == "abc"

    run(database_url, check)


def test_a_page_whose_call_failed_is_read_again_and_an_old_read_starts_again(database_url: str) -> None:
    async def check(conn: Connection) -> None:
        await users.record_page(conn, "t", await start(conn), page("c", total=2, is_last=False))
        await users.end_call(conn, "t", await start(conn))
        assert (await start(conn)).page == 2
        await conn.execute("UPDATE xero_tenants SET users_read_at = users_read_at - interval '11 minutes'")
        assert (await start(conn)).page == 1

    run(database_url, check)


def test_the_end_of_a_read_queues_the_bills_that_waited_for_a_user(database_url: str) -> None:
    """Every read, also one for another bill: the periodic check may be a quarter of an hour away."""

    async def check(conn: Connection) -> None:
        queued = "SELECT count(*) FROM messages WHERE actor = 'queue_bills' AND body->>'because' = 'mapped'"
        assert await conn.value(queued) == 0
        await firm_rows.bill(conn, await firm_rows.firm(conn), status="approved", xero_status="not_mapped")
        await users.record_page(conn, "t", await start(conn), page("c", total=2, is_last=False))
        assert await conn.value(queued) == 0
        await users.record_page(conn, "t", await start(conn), page("d", total=2))
        assert await conn.value(queued) == 1

    run(database_url, check)

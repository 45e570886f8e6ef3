"""An admin goes through a week in a browser: with the mouse, with keys alone, without JavaScript, and beside another admin."""

import pytest
from playwright.sync_api import expect

from tests.console.browser.visitors import Visitors
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation

pytestmark = pytest.mark.browser

MONDAY = "2026-03-02"


@pytest.fixture
def by(given: Given) -> Person:
    """A consultant."""
    return given.person()


@pytest.fixture
def task(given: Given, by: Person) -> Json:
    """The consultant's task. Its customer is the filter of the pages, because other tests write into the same weeks."""
    return given.task(by)


def week(task: Json, **more: str) -> str:
    query = {"week": MONDAY, "customer": task["customerId"], **more}
    return "/console/approve?" + "&".join(f"{name}={value}" for name, value in query.items())


def statuses(stint: Installation, task: Json) -> list[str]:
    query = "SELECT status FROM time_bills WHERE customer_id = %s AND deleted_at IS NULL ORDER BY date"
    return [status for (status,) in stint.rows(query, task["customerId"])]


def name_of(person: Person) -> str:
    return person.email.partition("@")[0]


@pytest.mark.parametrize("with_scripts", [True, False])
def test_a_week_is_approved_but_for_one_day(
    visitors: Visitors, given: Given, stint: Installation, by: Person, task: Json, with_scripts: bool
) -> None:
    given.many_bills(by, task, 3, first=MONDAY)
    visitor = visitors.signed_in(java_script_enabled=with_scripts)
    page = visitor.open(week(task))
    page.get_by_label(f"Approve {name_of(by)}, Tue 3 Mar").uncheck()
    page.get_by_role("button", name="Approve 2 bills" if with_scripts else "Approve 3 bills").click()

    expect(page.get_by_role("status").first).to_contain_text("Approved 2 bills.")
    assert statuses(stint, task) == ["approved", "pending", "approved"]
    expect(page.get_by_role("button", name="Approve 1 bill")).to_be_visible()


def test_a_bill_is_rejected_with_a_reason_by_keys_alone(
    visitors: Visitors, given: Given, stint: Installation, by: Person, task: Json
) -> None:
    given.many_bills(by, task, 2, first=MONDAY)
    visitor = visitors.signed_in()
    page = visitor.open(week(task))
    visitor.inspect()
    keys = page.keyboard
    keys.press("?")
    expect(page.get_by_text("the next day or bill")).to_be_visible()
    keys.press("j")
    keys.press("j")
    keys.press("a")  # opens Tuesday
    expect(page.get_by_role("heading", name=f"{name_of(by)}, Tue 3 Mar 2026")).to_be_visible()
    bill = page.locator("article.bill")
    expect(bill).to_be_focused()
    visitor.inspect()
    bill.focus()
    keys.press("r")
    expect(page.get_by_label("Reason, which")).to_be_focused()
    visitor.guard.expect_status(422)
    keys.press("Tab")
    keys.press("Enter")  # without a reason
    expect(page.get_by_role("alert")).to_be_focused()
    page.get_by_label("Reason, which").focus()
    keys.type("Please name the ticket, not just j, k or a.")
    keys.press("Tab")
    keys.press("Enter")

    expect(page.get_by_role("status").first).to_contain_text("Rejected.")
    assert statuses(stint, task) == ["pending", "rejected"]
    expect(page.get_by_text("Rejected: Please name the ticket, not just j, k or a.")).to_be_visible()


def test_two_admins_at_once_approve_a_bill_once_and_what_one_has_not_seen_is_shown_again(
    visitors: Visitors, given: Given, stint: Installation, by: Person, task: Json
) -> None:
    first, second = given.many_bills(by, task, 2, first=MONDAY)
    ada, grace = visitors.signed_in(), visitors.signed_in()
    hers, his = ada.open(week(task)), grace.open(week(task))
    hers.get_by_label(f"Approve {name_of(by)}, Tue 3 Mar").uncheck()
    hers.get_by_role("button", name="Approve 1 bill").click()
    expect(hers.get_by_role("status").first).to_contain_text("Approved 1 bill.")
    by.patch(f"/api/time-bills/{second}", {"memo": "Two tickets"}, status=200)

    grace.guard.expect_status(409)
    his.get_by_role("button", name="Approve 2 bills").click()
    expect(his.get_by_role("alert")).to_be_focused()
    expect(his.get_by_role("alert")).to_contain_text("2 bills were not changed")
    grace.inspect()
    assert statuses(stint, task) == ["approved", "pending"]

    his.get_by_role("button", name="Approve 1 bill").click()  # with what is there now
    expect(his.get_by_role("status").first).to_contain_text("Approved 1 bill.")
    approved_by = dict(
        stint.rows("SELECT id::text, approved_by::text FROM time_bills WHERE customer_id = %s", task["customerId"])
    )
    assert ada.person and grace.person and approved_by == {first: ada.person.id, second: grace.person.id}

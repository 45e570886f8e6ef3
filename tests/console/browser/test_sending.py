"""Sending forms: a double click sends one once, the focus is on the answer, and what is typed stays when the session ends."""

import pytest
from playwright.sync_api import Route, expect

from tests.console.browser.visitors import Visitors
from tests.support.given import Given
from tests.support.installation import Installation

pytestmark = pytest.mark.browser


def test_a_double_click_sends_a_form_once_and_the_focus_is_on_its_answer(
    visitors: Visitors, given: Given, stint: Installation
) -> None:
    visitor = visitors.signed_in("internal_user")
    customer = given.customer(given.admin())
    page = visitor.open(f"/console/customers/{customer['id']}")
    sent: list[Route] = []
    page.route("**/pillars", lambda route: sent.append(route))  # the answer is slow
    page.get_by_label("New pillar").fill("Hosting")
    button = page.get_by_role("button", name="Add the pillar")
    button.evaluate("button => { button.click(); setTimeout(() => button.click(), 100); }")
    page.wait_for_timeout(500)
    assert len(sent) == 1
    sent[0].continue_()
    message = page.locator("#flash .flash")
    expect(message).to_contain_text("Added the pillar Hosting.")
    expect(message).to_be_focused()
    visitor.inspect()
    page.unroute("**/pillars")
    page.get_by_label("New pillar").fill("Design")
    button.click()
    expect(message).to_contain_text("Added the pillar Design.")
    names = "SELECT name FROM pillars WHERE customer_id = %s AND NOT is_default ORDER BY name"
    assert stint.rows(names, customer["id"]) == [("Design",), ("Hosting",)]


def test_a_question_that_is_answered_with_no_sends_nothing_and_can_be_asked_again(visitors: Visitors, given: Given) -> None:
    visitor = visitors.signed_in("internal_user")
    customer = given.customer(given.admin())
    page = visitor.open(f"/console/customers/{customer['id']}/edit")
    answers = ["no", "yes"]
    page.on("dialog", lambda dialog: dialog.dismiss() if answers.pop(0) == "no" else dialog.accept())
    button = page.get_by_role("button", name=f"Delete {customer['name']}")
    button.click()
    expect(page.get_by_role("heading", name="Delete this customer")).to_be_visible()
    button.click()
    expect(page.locator("#flash")).to_contain_text("Deleted the customer.")


def test_what_is_typed_stays_when_a_part_of_the_page_cannot_be_read_any_more(
    visitors: Visitors, given: Given, stint: Installation
) -> None:
    visitor = visitors.signed_in("internal_user")
    assert visitor.person is not None
    task = given.task(visitor.person, title="Move the mail")
    page = visitor.open("/console/hours?search=Move+the+mail")
    page.get_by_label("Task", exact=True).select_option(task["id"])
    page.get_by_label("Notes").first.fill("Cables")
    stint.rows("DELETE FROM console_sessions WHERE user_id = %s RETURNING 1", visitor.person.id)

    search = page.get_by_label("Find a task, by words of it and its customer")
    search.press_sequentially("x")  # htmx asks for its tasks
    expect(page.locator("#flash")).to_contain_text("Your session has ended. Send the form")
    expect(page.get_by_label("Notes").first).to_have_value("Cables")
    visitor.guard.expect_status(401)
    page.get_by_role("button", name="Start the timer").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert [field.get_attribute("value") for field in page.locator("input[name=kept]").all()][1] == "notes=Cables"

    visitor.open("/console/sign-in")
    other = visitors.of(visitor.person)
    page = other.open("/console/hours")
    stint.rows("DELETE FROM console_sessions WHERE user_id = %s RETURNING 1", visitor.person.id)
    page.get_by_label("Find a task, by words of it and its customer").press_sequentially("x")  # nothing is typed into a form
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_a_choice_among_filters_keeps_the_focus_while_arrow_keys_go_through_it(visitors: Visitors, given: Given) -> None:
    customer = given.customer(given.admin())
    visitor = visitors.signed_in("internal_user")
    page = visitor.open(f"/console/customers/{customer['id']}/tasks")
    status = page.get_by_label("Status")
    status.focus()
    for chosen in ("open", "in_progress"):
        page.keyboard.press("ArrowDown")
        expect(page).to_have_url(f"{visitor.origin}/console/customers/{customer['id']}/tasks?status={chosen}")
        expect(status).to_be_focused()
    page.reload()
    expect(status).not_to_be_focused()

"""Signing in; and what a person sees who is signed in no longer, may not see a page, or whose Stint cannot answer."""

import pytest
from playwright.sync_api import expect

from tests.api.invitations import reset_rate_limits
from tests.console.browser.visitors import Visitors
from tests.support.given import Given
from tests.support.installation import Installation

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("with_scripts", [True, False])
def test_a_person_signs_in_with_a_code_from_the_mail_and_signs_out(
    visitors: Visitors, given: Given, stint: Installation, with_scripts: bool
) -> None:
    reset_rate_limits(stint)
    person, visitor = given.person(), visitors.signed_out(java_script_enabled=with_scripts)
    page = visitor.open("/")
    page.get_by_label("Your e-mail address").fill(person.email)
    page.get_by_role("button", name="Send me a code").click()
    expect(page.get_by_role("heading", name="Enter the code")).to_be_visible()

    visitor.guard.expect_status(422)
    page.get_by_label("Code").fill("123")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Code")).to_have_attribute("aria-invalid", "true")
    if with_scripts:
        expect(page.get_by_role("alert")).to_be_focused()
        visitor.inspect()
    page.get_by_label("Code").fill(given.code(person))
    page.get_by_role("button", name="Sign in").click()

    expect(page).to_have_url(f"{visitor.origin}/console")
    expect(page.get_by_role("link", name="Now")).to_have_attribute("aria-current", "page")
    [cookie] = [cookie for cookie in visitor.context.cookies() if cookie["name"] == "__Host-stint"]
    assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Lax"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    visitor.open("/console")
    expect(page).to_have_url(f"{visitor.origin}/console/sign-in?next=%2Fconsole")


def test_what_was_typed_before_the_session_ended_is_kept_and_sent_after_signing_in(
    visitors: Visitors, given: Given, stint: Installation
) -> None:
    reset_rate_limits(stint)
    visitor = visitors.signed_in("internal_user")
    person = visitor.person
    assert person is not None
    task = given.task(person, title="Move the mail")
    page = visitor.open("/console/hours?search=Move+the+mail")
    page.get_by_label("Task", exact=True).select_option(task["id"])
    page.get_by_label("Notes").first.fill("Cables < switches")
    stint.rows("DELETE FROM console_sessions WHERE user_id = %s RETURNING 1", person.id)

    visitor.guard.expect_status(401)
    page.get_by_role("button", name="Start the timer").click()

    expect(page.get_by_role("status").filter(has_text="Your session has ended")).to_be_visible()
    visitor.inspect()
    page.get_by_label("Your e-mail address").fill(person.email)
    page.keyboard.press("Enter")
    page.get_by_label("Code").fill(given.code(person))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed in")
    expect(page.get_by_role("main")).to_contain_text("Cables < switches")
    expect(page.get_by_role("main")).not_to_contain_text(task["id"])
    visitor.inspect()
    page.get_by_role("button", name="Send it now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Hours")
    timer = person.get("/api/active-timers/me")
    assert (timer["taskId"], timer["notes"]) == (task["id"], "Cables < switches")


@pytest.mark.parametrize("role", ["internal_user", "customer_admin"])
def test_a_page_of_another_role_says_who_one_is(visitors: Visitors, given: Given, role: str) -> None:
    customer = given.customer(given.admin()) if role.startswith("customer") else None
    visitor = visitors.signed_in(role, customer["id"] if customer else None)
    assert visitor.person is not None
    page = visitor.open("/console/approve", status=403)
    expect(page.get_by_role("heading", level=1)).to_have_text("You may not do this")
    expect(page.get_by_role("main")).to_contain_text(f"You are signed in as {visitor.person.email.partition('@')[0]}")
    visitor.inspect()


def test_without_postgres_a_page_says_so_and_can_be_tried_again(visitors: Visitors, without_postgres: Installation) -> None:
    visitor = visitors.signed_in()  # the cookie belongs to the host, whatever the port
    visitor.guard.allow_origin(without_postgres.url)
    visitor.guard.expect_status(503)
    answer = visitor.page.goto(f"{without_postgres.url}/console")
    assert answer and answer.status == 503 and int(answer.headers["retry-after"]) > 0
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Stint cannot answer just now")
    expect(visitor.page.get_by_role("link", name="Try again")).to_have_attribute("href", "/console")
    visitor.inspect()

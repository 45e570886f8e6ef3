"""The page of reports in a browser: a choice is shown at once, and the page suits every eye and hand."""

import pytest
from playwright.sync_api import expect

from tests.console.browser.visitors import Visitors
from tests.support.given import Given

pytestmark = pytest.mark.browser

MARCH = "start_date=2026-03-01&end_date=2026-04-30"


def test_a_choice_is_shown_at_once_and_the_focus_stays(visitors: Visitors, given: Given) -> None:
    by = given.person()
    for name in ("Acme", "Bolt"):
        task = given.task(by, given.customer(by, name=f"{name} {given.new_id()[:6]}"))
        given.many_bills(by, task, 40, first="2026-03-05")
    visitor = visitors.of(by)
    page = visitor.open(f"/console/reports?{MARCH}&user_id={by.id}")
    assert page.locator(".bars li").count() == 2
    visitor.inspect()

    page.get_by_label("Sum by").focus()
    page.get_by_label("Sum by").select_option("month")
    expect(page.get_by_role("row", name="Apr 2026")).to_be_visible()
    assert "by=month" in page.url and page.evaluate("document.activeElement.name") == "by"
    page.get_by_label("and by").select_option("person")
    expect(page.locator("tr.subtotal")).to_have_count(2)
    visitor.inspect()
    page.go_back()
    expect(page.locator("tr.subtotal")).to_have_count(0)

    # a day is sent with the button: while it is typed, it changes with each digit
    page.get_by_label("Until").fill("2026-03-31")
    expect(page.get_by_role("row", name="Apr 2026")).to_be_visible()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("row", name="Apr 2026")).to_have_count(0)


def test_a_narrow_table_shows_that_it_has_more_columns(visitors: Visitors, given: Given) -> None:
    by = given.person()
    given.many_bills(by, given.task(by), 3, first="2026-03-05")
    visitor = visitors.of(by)
    visitor.page.set_viewport_size({"width": 360, "height": 800})
    page = visitor.open(f"/console/reports?{MARCH}&user_id={by.id}&by=day")
    more, table = page.locator(".scroll[data-more]"), page.locator(".scroll")
    expect(more).to_have_count(1)
    assert "inset" in more.evaluate("box => getComputedStyle(box).boxShadow")
    table.evaluate("box => box.scrollTo(box.scrollWidth, 0)")
    expect(more).to_have_count(0)
    page.get_by_label("Sum by").select_option("week")  # the table is replaced
    expect(page.get_by_role("row", name="Week of Mon 2 Mar")).to_be_visible()
    expect(more).to_have_count(1)
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(more).to_have_count(0)


def test_it_works_without_javascript(visitors: Visitors, given: Given) -> None:
    by = given.person()
    given.many_bills(by, given.task(by), 3, first="2026-03-05")
    page = visitors.of(by, java_script_enabled=False).open(f"/console/reports?{MARCH}&user_id={by.id}")
    page.get_by_label("Sum by").select_option("day")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("row", name="Fri 6 Mar")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert download.value.suggested_filename == "hours-2026-03-01-2026-04-30.csv"

"""Dead letters in a browser: found, understood, replayed with a canary and followed live."""

import pytest
from playwright.sync_api import expect

from tests.api.test_dead_letters import dead_letter
from tests.console.browser.visitors import Visitors
from tests.support.given import Given

pytestmark = pytest.mark.browser

# addresses that no mail can be sent to
BODY = {"to": "nobody", "subject": "Hello", "paragraphs": ["One"], "link": None, "reply_to": None}


def test_a_dead_letter_is_found_and_replayed_with_a_canary(visitors: Visitors, given: Given) -> None:
    group = given.new_id()[:16]
    messages = [dead_letter(given.stint, BODY, error=f"builtins.ValueError: {group}") for _ in range(3)]
    given.stint.rows(
        "INSERT INTO failure_groups (fingerprint, actor, error_class, frame, alerted_at)"
        " VALUES (%s, 'send_mail', 'ValueError', 'actors/mail.py:send_mail', now()) RETURNING 1",
        group,
    )
    given.stint.rows("UPDATE messages SET fingerprint = %s WHERE id::text = ANY(%s) RETURNING 1", group, messages)
    visitor = visitors.signed_in()
    page = visitor.open("/console/queues")
    visitor.inspect()
    page.get_by_role("link", name="Dead letters", exact=True).first.click()
    row = page.get_by_role("row").filter(has_text=group)
    visitor.inspect()
    row.get_by_role("link", name="send_mail", exact=True).click()
    expect(page.get_by_role("checkbox")).to_have_count(3)
    page.get_by_role("link", name="send_mail", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("send_mail dead")
    visitor.inspect()

    page.get_by_role("link", name="Correct and replay…").click()
    page.get_by_label("Body, as JSON").fill('{"to": 5}')
    page.get_by_label("Reason").fill("a typo")
    visitor.guard.expect_status(422)
    page.get_by_role("button", name="Check, and show the difference").click()
    expect(page.get_by_role("alert")).to_be_focused()
    visitor.inspect()
    page.go_back()

    page.goto(f"{visitor.origin}/console/dead-letters/list?fingerprint={group}")
    page.get_by_role("checkbox").first.check()
    page.get_by_role("checkbox").last.check()
    page.get_by_role("button", name="Replay the chosen ones…").click()
    expect(page.get_by_text("2 dead letters would be sent again.")).to_be_visible()
    visitor.inspect()
    page.get_by_label("Reason").fill("hoping")
    page.get_by_label("Canary").fill("1")
    page.get_by_role("button", name="Replay 2 dead letters").click()
    # it refreshes itself until it has ended
    expect(page.get_by_text("It was stopped: 1 of the 1 sent first failed again")).to_be_visible(timeout=60_000)
    visitor.inspect()

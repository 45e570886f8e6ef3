"""The page of the connections where nothing is set up: what it says, and a test mail. With Xero, Slack and a mail server:
tests/xero/test_console.py, tests/slack/test_console.py, tests/mail/test_console.py."""

import re

from schemas.slack.access.scopes import SCOPES
from tests.api.invitations import reset_rate_limits
from tests.console.client import Browsers
from tests.support.given import Given
from tests.support.installation import CHECKOUT, Installation, eventually

PATH = "/console/connections"


def test_what_is_not_set_up_is_named_with_what_to_set(browsers: Browsers) -> None:
    page = browsers.admin().get(PATH)
    assert page.title == "Connections"
    for name in ("XERO_CLIENT_ID", "SLACK_BOT_TOKEN", "SMTP_URL"):
        assert name in page.text, name
    assert "Postgres Answers version" in page.text and "RabbitMQ" in page.text
    assert not list(page.html.all("form", action=f"{PATH}/xero/consent"))

    browser = browsers.admin()
    assert "Xero is not set up here" in browser.post(f"{PATH}/xero/consent").text
    assert "Xero is not set up here" in browser.get(f"{PATH}/xero/callback", code="x", state="x").text
    assert "Slack is not set up here" in browser.get(f"{PATH}/slack").text


def test_a_test_mail_goes_to_oneself_and_its_outcome_is_shown(given: Given, browsers: Browsers, stint: Installation) -> None:
    reset_rate_limits(stint)
    admin = given.admin()
    browser = browsers.of(admin)
    page = browser.submit(browser.get(PATH).html.one("form", action=f"{PATH}/mail"))
    assert page.title == "Test mail"
    outcome = page.answer.url.path
    eventually(lambda: "Failed" in browser.get(outcome).text, why="there is no mail server")
    assert "SMTP_URL is not set" in browser.get(outcome).html.one("pre").text
    assert "hx-get" not in browser.get(outcome).html.one("div", id="outcome").attributes, "it is settled"
    part = browser.get(outcome, headers={"HX-Request": "true"})
    assert "<main" not in part.answer.text and "SMTP_URL" in part.html.text
    assert browsers.admin().get(outcome).status == 404, "of another admin"
    [to] = stint.rows("SELECT body->>'to' FROM messages WHERE id = %s", outcome.rpartition("/")[2])
    assert to == (admin.email,)
    for _ in range(5):
        page = browser.post(f"{PATH}/mail")
    assert page.title == "Connections" and "Note:" in page.html.one("div", id="flash").text, "at most five at once"


def test_rubbish_in_the_days_and_forms_is_named(browsers: Browsers) -> None:
    browser, path = browsers.admin(), f"{PATH}/xero/differences"
    assert browser.get(path, start_date="2026-03-02", end_date="2026-03-01").text.count("before") >= 1
    assert browser.get(path, start_date="2020-01-01", end_date="2026-03-01").status == 422
    assert browser.get(path, start_date="x", cursor="x").errors.keys() == {"start_date"}
    assert "not a valid cursor" in browser.get(path, cursor="x").errors["cursor"]
    refused = browser.post(path, {"action": "send", "bill": ["x", "y"], "reason": ""})
    assert refused.status == 422 and "Reason is needed." in refused.text and "Choose the bills first." in refused.text
    assert "Choose the bills first." in browser.post(path, {"action": "burn", "reason": "x"}).text
    for action in ("send", "accept"):
        empty = browser.post(path, {"action": action, "bill": "", "reason": "x"})
        assert empty.status == 422 and "Choose the bills first." in empty.text
    assert browser.post(f"{PATH}/xero/send-failed", {"reason": "x" * 501, "shown": "1"}).status == 422


def test_the_scopes_are_those_of_the_manifest() -> None:
    manifest = (CHECKOUT / "docs/slack.md").read_text().partition("       bot:\n")[2].partition("   settings:")[0]
    assert re.findall(r"- ([a-z:.]+)", manifest) == list(SCOPES)

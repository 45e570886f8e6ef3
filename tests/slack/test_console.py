"""The console's pages about Slack: scopes as Slack names them, and the channels that Slack lists, to choose from."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from schemas.slack.access.scopes import SCOPES
from schemas.slack.channels.choices import MOST
from tests.console.client import Browser, Browsers, Page
from tests.console.html import Element
from tests.support.given import Given, Json
from tests.support.installation import Installation
from tests.support.slack_sandbox import SlackSandbox

PATH = "/console/connections/slack"
LIST = "conversations.list"
LOST = "SELECT method, problem, needed FROM slack_access_losses"


@pytest.fixture
def browser(given: Given) -> Iterator[Browser]:
    with closing(Browsers(given)) as browsers:
        yield browsers.person()


@pytest.fixture
def path(customer: Json) -> str:
    """The page that adds a channel to the customer."""
    return f"/console/customers/{customer['id']}/mappings/channels"


def form(page: Page, path: str) -> Element:
    return page.html.one("form", method="post", action=path)


def offered(page: Page) -> dict[str, str]:
    """The labels of the channels to choose from, by their ids, in their order."""
    return {option["value"]: option.text for option in page.html.one("select", id="f-channel").all("option")}


def is_typed(page: Page, path: str) -> bool:
    """Whether a channel is typed, and none is chosen."""
    fields = form(page, path).fields().keys()
    return {"channel_id", "channel_name"} <= fields and "channel" not in fields


def test_missing_scopes_and_channels_are_shown(given: Given, slack: SlackSandbox, customer: Json) -> None:
    channel = slack.channel("acme & sons")
    body = {"channelId": channel, "channelName": "acme & sons", "customerId": customer["id"]}
    given.admin().post("/api/slack/channel-mappings", body)
    with closing(Browsers(given)) as browsers:
        browser = browsers.admin()
        slack.configure(scopes=sorted(SCOPES))
        page = browser.get(PATH)
        assert "All there" in page.text and "#acme & sons" in page.text and customer["name"] in page.text
        slack.configure(scopes=sorted(set(SCOPES) - {"links:read", "commands"}))
        assert "2 missing" in browser.get(PATH).text
        slack.inject_fault("status", path="auth.test", status=503)
        assert "Slack does not answer just now" in browser.get(PATH).text
        slack.clear_faults()
        slack.configure(refused={"auth.test": {"error": "token_revoked"}})
        refused = browser.get(PATH).text
        assert "the bot token was revoked" in refused and "What to do:" in refused and "acme & sons" in refused


def test_a_channel_is_chosen_from_those_that_slack_has_now(
    browser: Browser, path: str, given: Given, slack: SlackSandbox, customer: Json
) -> None:
    slack.reset()
    support, private = slack.channel("b-support"), slack.channel("a & private", private=True)
    slack.channel("old", archived=True)
    slack.channel("foreign", private=True, member=False)
    page = browser.get(path)
    assert list(offered(page).items()) == [("", "Choose a channel"), (private, "#a & private"), (support, "#b-support")]
    part = browser.get(path, headers={"HX-Request": "true"})
    assert "<main" not in part.answer.text and offered(part) == offered(page)
    assert "channel_name" not in form(page, path).fields(), "the name is what Slack says"

    refused = browser.submit(form(page, path))
    assert refused.status == 422 and refused.errors == {"channel": "Channel is needed."}
    added = browser.submit(form(page, path), {"channel": support})
    assert added.status == 200 and "#b-support belongs to this customer now." in added.text
    mapping = next(row for row in given.admin().get("/api/slack/channel-mappings")["items"] if row["channelId"] == support)
    assert (mapping["channelName"], mapping["customerId"]) == ("b-support", customer["id"])

    assert support not in offered(browser.get(path))
    taken = browser.submit(form(page, path), {"channel": support})
    assert taken.status == 422 and "#b-support belongs to a customer already" in taken.errors["channel"]
    unknown = browser.submit(form(page, path), {"channel": "C0UNKNOWN"})
    assert unknown.status == 422 and "does not list this channel any more" in unknown.errors["channel"]
    wrong = browser.submit(form(page, path), {"channel": private, "pillar_id": given.new_id()})
    assert wrong.status == 422 and wrong.errors.keys() == {"pillar_id"}
    assert wrong.html.one("select", id="f-channel").one("option", selected=True)["value"] == private
    slack.reset()
    assert "lists no channel that belongs to no customer" in browser.get(path).text


def test_while_slack_lists_no_channels_one_is_typed(browser: Browser, path: str, given: Given, slack: SlackSandbox) -> None:
    slack.reset()
    channel = slack.channel("typed")
    shown = browser.get(path)
    for fault, why in (
        ({"kind": "status", "status": 503}, "does not answer just now"),
        ({"kind": "drop_before"}, "does not answer just now"),
        ({"kind": "status", "status": 429, "retryAfter": 7}, "limits the rate of calls. Open this page again in 7 seconds"),
    ):
        slack.inject_fault(**fault, path=LIST)
        page = browser.get(path)
        assert page.status == 200 and why in page.text and is_typed(page, path), fault
    slack.inject_fault("stall", path=LIST, seconds=10)
    before = time.perf_counter()
    chosen = browser.submit(form(shown, path), {"channel": channel})
    assert 3 <= time.perf_counter() - before < 8, "all calls have three seconds together"
    assert chosen.status == 422 and "the name of this one is not known" in chosen.text and is_typed(chosen, path)
    assert form(chosen, path).fields()["channel_id"] == channel, "what was chosen need not be typed"
    slack.clear_faults()
    slack.configure(refused={LIST: {"error": "missing_argument"}})
    assert "Its reason: missing_argument." in browser.get(path).text
    added = browser.submit(form(chosen, path), {"channel_name": "typed by me"})
    assert added.status == 200 and "#typed by me belongs to this customer now." in added.text


def test_a_missing_scope_of_the_list_is_told_until_slack_lists_channels(
    browser: Browser, path: str, slack: SlackSandbox, stint: Installation
) -> None:
    slack.reset()
    slack.configure(scopes=sorted(set(SCOPES) - {"groups:read"}))
    page = browser.get(path)
    assert "does not have the scope groups:read" in page.text and "What to do: at api.slack.com" in page.text
    assert is_typed(page, path)
    assert stint.rows(LOST) == [(LIST, "missing_scope", "groups:read")]
    slack.configure(scopes=sorted(SCOPES))
    slack.channel("new")
    assert "#new" in offered(browser.get(path)).values()
    assert stint.rows(LOST) == []


def test_all_pages_are_read_and_too_many_channels_are_not_listed(browser: Browser, path: str, slack: SlackSandbox) -> None:
    slack.reset()
    slack.channels(MOST)
    shown = offered(browser.get(path))
    assert len(shown) == MOST + 1 and len(slack.calls(LIST)) == 2
    slack.channel("one more")
    page = browser.get(path)
    assert "more than 1,000 channels" in page.text and is_typed(page, path)
    slack.reset()

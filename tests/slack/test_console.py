"""The console's page about Slack: scopes as Slack names them, and channels."""

from contextlib import closing

from schemas.slack.access.scopes import SCOPES
from tests.console.client import Browsers
from tests.support.given import Given, Json
from tests.support.slack_sandbox import SlackSandbox

PATH = "/console/connections/slack"


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

"""The stand-in for Slack has Slack's rules, and its page is enough to try Stint."""

import re
import time
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx2
import pytest

from ops.sandbox.slack.stand_in import environment
from ops.sandbox.slack.workspace import BOT_TOKEN, new_hook, new_trigger
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import SlackSandbox, running_slack_sandbox

pytestmark = pytest.mark.processes

VIEW = {"type": "modal", "title": {"type": "plain_text", "text": "T"}, "blocks": [{"type": "divider"}]}


@pytest.fixture(scope="module")
def slack() -> Iterator[SlackSandbox]:
    with running_slack_sandbox() as sandbox:
        yield sandbox


def ask(slack: SlackSandbox, method: str, **arguments: Any) -> Any:
    headers = {"Authorization": f"Bearer {BOT_TOKEN}"}
    return httpx2.post(f"{slack.url}/api/{method}", json=arguments, headers=headers).json()


def test_a_trigger_opens_one_modal_within_three_seconds(slack: SlackSandbox) -> None:
    trigger, late = new_trigger(), new_trigger()
    assert ask(slack, "views.open", trigger_id=trigger, view=VIEW)["ok"]
    assert ask(slack, "views.open", trigger_id=trigger, view=VIEW)["error"] == "exchanged_trigger_id"
    assert ask(slack, "views.open", trigger_id="rubbish", view=VIEW)["error"] == "invalid_arguments"
    time.sleep(3.1)
    assert ask(slack, "views.open", trigger_id=late, view=VIEW)["error"] == "expired_trigger_id"


def test_a_modals_title_is_short(slack: SlackSandbox) -> None:
    long = VIEW | {"title": {"type": "plain_text", "text": "T" * 25}}
    assert ask(slack, "views.open", trigger_id=new_trigger(), view=long)["error"] == "invalid_arguments"


def test_blocks_have_slacks_limits(slack: SlackSandbox) -> None:
    channel = slack.channel()
    text = {"type": "section", "text": {"type": "mrkdwn", "text": "a" * 200}}
    button = {"type": "button", "text": {"type": "plain_text", "text": "a"}, "value": "a" * 2001}
    for blocks, error in (
        ([text] * 51, "invalid_blocks"),
        ([text] * 50, "msg_blocks_too_long"),
        ([{"type": "actions", "elements": [button]}], "invalid_blocks"),
        ([{"type": "actions", "elements": [button | {"value": "a"}] * 26}], "invalid_blocks"),
    ):
        assert ask(slack, "chat.postMessage", channel=channel, text="a", blocks=blocks)["error"] == error
        assert httpx2.post(slack.url + new_hook(), json={"text": "a", "blocks": blocks}).json()["error"] == error
    assert ask(slack, "chat.postMessage", channel=channel, text="a", blocks=[text])["ok"] is True


def test_channels_are_listed_in_pages_by_their_kind(slack: SlackSandbox) -> None:
    slack.reset()
    public, old, private = slack.channel("a"), slack.channel("b", archived=True), slack.channel("c", private=True)
    foreign = slack.channel("d", private=True, member=False)
    both = {"types": "public_channel,private_channel"}

    def ids(**arguments: Any) -> tuple[list[str], str]:
        answer = ask(slack, "conversations.list", **arguments)
        return [channel["id"] for channel in answer["channels"]], answer["response_metadata"]["next_cursor"]

    assert ids() == ([public, old], "")
    assert ids(**both) == ([public, old, private], "") and foreign not in ids(**both)[0]
    first, cursor = ids(**both, limit=2, exclude_archived=True)
    assert first == [public] and ids(**both, limit=2, exclude_archived=True, cursor=cursor) == ([private], "")
    for wrong, error in (
        ({"limit": 1000}, "invalid_limit"),
        ({"cursor": "?"}, "invalid_cursor"),
        ({"types": "other"}, "invalid_types"),
    ):
        assert ask(slack, "conversations.list", **wrong)["error"] == error
    slack.configure(scopes=["channels:read"])
    refused = ask(slack, "conversations.list", **both)
    assert (refused["error"], refused["needed"]) == ("missing_scope", "groups:read")
    slack.configure(scopes=None, organization="E0ORG")
    assert ask(slack, "conversations.list")["error"] == "missing_argument"
    slack.reset()


def test_a_response_url_is_good_for_five_answers(slack: SlackSandbox) -> None:
    path = new_hook()
    answers = [httpx2.post(slack.url + path, json={"text": "a"}).status_code for _ in range(6)]
    assert answers == [200] * 5 + [404]
    old = path.rpartition("/")[0] + f"/{time.time() - 1801:.6f}-a".replace(".", "-")
    assert httpx2.post(slack.url + old, json={"text": "a"}).status_code == 404
    for odd, body in (("/commands/odd", b"{}"), (new_hook(), b"no JSON"), (new_hook(), b"[]")):
        assert httpx2.post(slack.url + odd, content=body).status_code == 400


def test_nothing_is_done_without_the_token(slack: SlackSandbox) -> None:
    for headers, error in ({}, "not_authed"), ({"Authorization": "Bearer xoxb-other"}, "invalid_auth"):
        assert httpx2.post(f"{slack.url}/api/auth.test", headers=headers).json() == {"ok": False, "error": error}


def test_stint_can_be_tried_from_its_page(own: Installation) -> None:
    with (
        running_slack_sandbox(own.url) as slack,
        httpx2.Client(base_url=slack.url, timeout=10, follow_redirects=True) as browser,
    ):
        own.environment |= environment(slack.url)
        own.start().wait_until_ready()
        given = Given(own)
        admin = given.person("internal_admin", email="admin@example.com")
        customer = given.customer(admin, name="Acme & Sons")

        def page() -> str:
            return unescape(browser.get("/").text)

        def does(**form: str) -> None:
            assert browser.post("/do", data=form).status_code == 200

        does(do="type", email="admin@example.com", channel="C0SANDBOX", text="/task help")
        eventually(lambda: "opens the form" in page())
        does(do="type", email="admin@example.com", channel="C0SANDBOX", text="/task Fix it")
        eventually(lambda: "Acme & Sons" in page())
        view_id = re.findall(r'name="view" value="(\w+)"', page())[0]
        does(do="send", view=view_id, title="", customer=customer["id"])
        eventually(lambda: "This is empty" in page())
        does(do="pick", view=view_id, title="Fix it", customer=customer["id"])
        eventually(lambda: "General Support</option>" in page())
        does(do="send", view=view_id, title="Fix it", customer=customer["id"])
        eventually(lambda: "New task" not in page().partition("Posted")[0] and "created" in page())
        [task] = admin.get("/api/tasks")["items"]
        does(do="press", action="start_timer", value=task["id"])
        eventually(lambda: "Your timer runs on Fix it" in page())
        assert admin.get("/api/active-timers/me")["taskId"] == task["id"]
        does(do="home", email="admin@example.com")
        eventually(lambda: "App Home of admin@example.com" in page() and "since " in page())
        timer = admin.get("/api/active-timers/me")["id"]
        does(do="press", where="home", action="stop_timer", value=timer)
        eventually(lambda: "No timer is running." in page())
        [bill] = given.many_bills(admin, task, 1, first="2026-03-02")
        does(do="type", email="admin@example.com", channel="C0SANDBOX", text="/task approve")
        eventually(lambda: 'value="reject_bills"' in page())
        value = re.findall(r'name="value" value="([^"]+)">Reject', page())[0]
        does(do="press", action="reject_bills", value=value)
        eventually(lambda: "Reject time bills</legend>" in page())
        view_id = re.findall(r'name="view" value="(\w+)"', page())[0]
        does(do="send", view=view_id, bills=value, reason="Which server?")
        eventually(lambda: "Rejected: 1 time bill" in page())
        assert admin.get(f"/api/time-bills/{bill}")["rejectionNote"] == "Which server?"
        given.close()

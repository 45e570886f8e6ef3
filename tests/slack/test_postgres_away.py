"""While Postgres is away, users in Slack get an apology in time, and Slack sends events again."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from ops.sandbox.slack import requests
from tests.slack.at_home import AtHome
from tests.support.answers import problem
from tests.support.given import Json
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, SlackSandbox, texts

pytestmark = [pytest.mark.exclusive(uses="little"), pytest.mark.processes]

SORRY = "Sorry, Stint can't reach its database"


@pytest.fixture(scope="module")
def stint(sandbox: SlackSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An API whose database does not exist."""
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    installation = Installation(nowhere, "", tmp_path_factory.mktemp("away"), **sandbox.environment)
    try:
        installation.start("api")
        eventually(lambda: installation.answers("/health/live"), why=installation.log("api")[-800:])
        yield installation
    finally:
        installation.stop()


@pytest.fixture
def member(slack: SlackSandbox, stint: Installation) -> Member:
    return Member(slack, stint, slack.user("ann@example.com"), slack.channel())


def timely(member: Member, sent: requests.SignedRequest) -> Any:
    started = time.monotonic()
    answer = member.send(sent)
    assert time.monotonic() - started < 3
    return answer


@pytest.mark.parametrize("word", ["start", "stop", "status", "list"])
def test_a_command_gets_an_apology(word: str, member: Member) -> None:
    answer = timely(member, member.command_request(word))
    assert answer["response_type"] == "ephemeral" and answer["text"].startswith(SORRY)


def test_the_form_shows_the_apology_too(member: Member) -> None:
    before = len(member.slack.views())

    answer = timely(member, member.command_request("Migrate it"))

    assert answer["response_type"] == "ephemeral" and answer["text"].startswith(SORRY)
    eventually(lambda: SORRY in texts(member.slack.views()[before:]))


def test_a_form_keeps_its_values(member: Member) -> None:
    block = {"type": "input", "block_id": "title", "element": {"type": "plain_text_input", "action_id": "title"}}
    view: Json = {"id": "V0AWAY", "callback_id": "create_task", "private_metadata": '{"channel_id": "C1"}', "blocks": [block]}

    answer = timely(member, member.submit_request(view, title="Migrate it"))

    assert answer["response_action"] == "errors" and answer["errors"]["title"].startswith(SORRY)


def test_a_button_and_a_message_action_are_answered_at_their_response_url(member: Member) -> None:
    triggers = [member.slack.trigger()]
    assert timely(member, member.press_request("start_timer", "x", member.channel, triggers[0])) is None
    triggers.append(member.slack.trigger())  # a new one: a trigger expires after 3 seconds
    action = requests.interaction(
        "message_action",
        user=member.id,
        callback_id="create_task",
        trigger_id=triggers[1]["triggerId"],
        response_url=member.slack.url + triggers[1]["path"],
        channel={"id": member.channel},
        message={"ts": "1700000000.000100", "text": "Migrate it"},
    )
    assert timely(member, action) is None
    for trigger in triggers:
        [answer] = eventually(partial(member.slack.answers, trigger["path"]))
        assert answer["response_type"] == "ephemeral" and answer["text"].startswith(SORRY)


def test_a_button_at_home_is_answered_by_a_modal(member: Member) -> None:
    before = len(member.slack.views())

    AtHome(member, {"id": "V1", "type": "home"}).act({"type": "button", "action_id": "start_timer", "value": str(uuid4())})

    eventually(lambda: SORRY in texts(member.slack.views()[before:]))


def test_selects_have_no_options(member: Member) -> None:
    assert member.get_options("task") == []


def test_slack_is_told_to_send_an_event_again(member: Member) -> None:
    """A 200 would mean that the event was handled."""
    event = requests.event({"type": "user_change", "user": {"id": member.id}}, event_id="EvAway")
    answer = member.post_request(event)
    problem(answer, 503)
    assert answer.headers["retry-after"]
    unimportant = requests.event({"type": "message", "text": "hello"}, event_id="EvAway2")
    assert member.send(unimportant) is None

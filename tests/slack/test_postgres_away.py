"""While Postgres is away, whoever does something in Slack is told so in time; what nobody waits for, Slack sends again."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from ops.sandbox import slack_app
from tests.api.answers import problem
from tests.given import Json
from tests.installation import Installation, eventually
from tests.workspace import Member, SlackSandbox, texts

pytestmark = pytest.mark.alone

SORRY = "Sorry, Stint can't reach its database"


@pytest.fixture(scope="module")
def stint(sandbox: SlackSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An API whose database is not there."""
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


def timely(member: Member, sent: slack_app.Sent) -> Any:
    begun = time.monotonic()
    said = member.sends(sent)
    assert time.monotonic() - begun < 3
    return said


@pytest.mark.parametrize("word", ["start", "stop", "status", "list"])
def test_a_command_gets_an_apology(word: str, member: Member) -> None:
    said = timely(member, member.typing(word))
    assert said["response_type"] == "ephemeral" and said["text"].startswith(SORRY)


def test_who_wants_the_form_is_told_there_too(member: Member) -> None:
    before = len(member.slack.views())

    said = timely(member, member.typing("Mend it"))

    assert said["response_type"] == "ephemeral" and said["text"].startswith(SORRY)
    eventually(lambda: SORRY in texts(member.slack.views()[before:]))


def test_a_form_keeps_what_was_typed(member: Member) -> None:
    block = {"type": "input", "block_id": "title", "element": {"type": "plain_text_input", "action_id": "title"}}
    view: Json = {"id": "V0AWAY", "callback_id": "create_task", "private_metadata": '{"channel_id": "C1"}', "blocks": [block]}

    said = timely(member, member.submission(view, title="Mend it"))

    assert said["response_action"] == "errors" and said["errors"]["title"].startswith(SORRY)


def test_a_button_and_a_message_action_are_answered_where_they_came_from(member: Member) -> None:
    asked = [member.slack.trigger()]
    assert timely(member, member.pressing("start_timer", "x", member.channel, asked[0])) is None
    asked.append(member.slack.trigger())  # good for 3 seconds
    chosen = slack_app.interaction(
        "message_action",
        user=member.id,
        callback_id="create_task",
        trigger_id=asked[1]["triggerId"],
        response_url=member.slack.url + asked[1]["path"],
        channel={"id": member.channel},
        message={"ts": "1700000000.000100", "text": "Mend it"},
    )
    assert timely(member, chosen) is None
    for trigger in asked:
        eventually(lambda trigger=trigger: member.slack.answers(trigger["path"]))
        [said] = member.slack.answers(trigger["path"])
        assert said["response_type"] == "ephemeral" and said["text"].startswith(SORRY)


def test_lists_are_empty(member: Member) -> None:
    assert member.is_offered("task") == []


def test_an_event_is_sent_again(member: Member) -> None:
    """Nobody waits for it, and whoever says that all is well has taken it in."""
    event = slack_app.event({"type": "user_change", "user": {"id": member.id}}, event_id="EvAway")
    answer = member.hand_over(event)
    problem(answer, 503)
    assert answer.headers["retry-after"]
    unimportant = slack_app.event({"type": "message", "text": "hello"}, event_id="EvAway2")
    assert member.sends(unimportant) is None

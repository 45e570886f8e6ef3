"""What Slack sends beyond the declared fields, in any shape: it is read as far as it makes sense, and is never an error."""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import INTERACTIVITY
from ops.sandbox.slack.workspace import TEAM_ID
from schemas.identity.work_calendar import known_zone
from schemas.slack.payloads import INTERACTION, View
from schemas.slack.profiles import Profile, to_profile
from schemas.slack.reading.message_text import describe
from schemas.slack.reading.mrkdwn import Names
from schemas.slack.views import TaskSummary, task_created, updated_confirmation
from tests.support.given import Json
from tests.support.slack_sandbox import Member

KINDS = ["section", "actions", "context", "image", "video", "table", "header", "divider", "input", "rich_text", "card",
         "rich_text_section", "rich_text_list", "rich_text_quote", "text", "link", "user", "date", "button", "mrkdwn",
         "plain_text", "raw_text"]  # fmt: skip
NAMES = ["text", "elements", "fields", "rows", "title", "url", "value", "action_id", "blocks", "attachments", "files",
         "message", "message_blocks", "style", "indent", "offset", "timestamp", "mode", "name", "alt_text",
         "description"]  # fmt: skip
IDS = ["start_timer", "finish_task", "open"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.sampled_from(IDS)
USER_FIELDS = ["profile", "tz", "team_id", "enterprise_user", "deleted", "is_bot"]


def _objects(inner: Any) -> Any:
    """Objects that are like Slack's, or in which any field has any value."""
    fields = st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    kind = st.sampled_from(KINDS) | inner
    return st.builds(lambda found, type: found | {"type": type}, fields, kind) | fields


ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | _objects(inner), max_leaves=12)
MESSAGE = st.dictionaries(
    st.sampled_from(["text", "blocks", "attachments", "files"]), st.lists(ANYTHING, max_size=3) | ANYTHING
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MESSAGE)
def test_any_message_has_a_text(message: Json) -> None:
    assert isinstance(describe(message, Names()), str)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANYTHING, max_size=4), ANYTHING, ANYTHING)
def test_any_blocks_are_those_of_a_confirmation_or_of_another_message(blocks: list[Any], elements: Any, text: Any) -> None:
    for shown in (blocks, [{"type": "section", "text": text}, {"type": "actions", "elements": elements}, *blocks]):
        found = updated_confirmation(shown, "somebody has pressed", is_done=False)
        assert found is None or [block["type"] for block in found] == ["section", "context", "actions"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(USER_FIELDS), ANYTHING), ANYTHING)
def test_any_user_has_a_profile(user: Json, inner: Any) -> None:
    for each in (user, user | {"profile": {"email": inner}, "enterprise_user": {"teams": inner}, "tz": inner}):
        assert isinstance(to_profile(each, "U1", "T1"), Profile)


ODD: list[Any] = [5, "x", None, [], {}, [[]], [{"type": []}], [{"type": {}}], [{"action_id": ["open"]}], [{"action_id": {}}]]


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_odd_shapes_that_were_errors(value: Any) -> None:
    assert updated_confirmation([{"type": "actions", "elements": value}], "line", is_done=True) is None
    assert isinstance(describe({"blocks": [{"type": "new kind", "elements": value, "body": {"type": value}}]}, Names()), str)
    assert known_zone(value) is None


def test_a_value_that_is_too_long_for_slack_is_not_sent_back() -> None:
    text, blocks = task_created(TaskSummary(id=uuid4(), title="t", customer="c", url="https://a.example"), by="U1")
    shown = [block.to_dict() for block in blocks]
    assert text and updated_confirmation(shown, "line", is_done=True) is not None
    for element in shown[1]["elements"]:
        element |= {"value": "v" * 3_000}
    assert updated_confirmation(shown, "line", is_done=True) is None


EMPTY_STATES: list[Any] = [{"values": []}, {"values": {}}, {"values": {"title": []}}, {}, None]


@pytest.mark.parametrize("state", EMPTY_STATES, ids=range(len(EMPTY_STATES)))
def test_a_form_without_values_is_read(state: Any) -> None:
    """Slack sends a list where an object has no fields."""
    assert View.model_validate({"id": "V1", "state": state}).field("title") == ("title", None)
    pressed = {
        "type": "block_actions", "team": {"id": "T1"}, "user": {"id": "U1"}, "trigger_id": "1",
        "actions": [{"action_id": "x"}], "view": {"id": "V1", "state": state},
    }  # fmt: skip
    assert INTERACTION.validate_python(pressed)


def test_a_button_in_a_message_of_odd_shape_is_answered(member: Member) -> None:
    trigger = member.slack.trigger()
    for value in ODD:
        pressed = {
            "type": "block_actions", "team": {"id": TEAM_ID}, "user": {"id": member.id},
            "channel": {"id": member.channel}, "trigger_id": member.slack.trigger()["triggerId"],
            "response_url": member.slack.url + trigger["path"], "actions": [{"action_id": "start_timer", "value": "none"}],
            "message": {"blocks": [{"type": "actions", "elements": value}]}, "container": value,
            "view": {"id": "V1", "state": {"values": []}},
        }  # fmt: skip
        assert member.send(requests.form(INTERACTIVITY, {"payload": json.dumps(pressed)})) is None
        shown = {"type": "message_action", "callback_id": "create_task", "message": {"ts": "1.2", "text": "t", "blocks": value},
                 "channel": {"id": member.channel}}  # fmt: skip
        sent = {name: pressed[name] for name in ("team", "user", "response_url")} | shown
        sent["trigger_id"] = member.slack.trigger()["triggerId"]
        assert member.send(requests.form(INTERACTIVITY, {"payload": json.dumps(sent)})) is None

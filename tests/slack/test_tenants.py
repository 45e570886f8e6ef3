"""Promise 3 in Slack, against requests that no honest client sends: ids of another customer in every value that comes back to
us, from a channel that is a customer's, and from people who are a customer's."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from ops.sandbox import slack_app
from tests.given import Given, Json, Person
from tests.installation import Installation
from tests.slack.test_tasks import mapped
from tests.workspace import Member, SlackSandbox, texts

WRITTEN = """
    SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM timers), (SELECT count(*) FROM stops),
           (SELECT count(*) FROM messages WHERE actor <> 'answer_slack'), (SELECT count(*) FROM tasks WHERE status = 'done')
"""
BUTTONS = ["start_timer", "finish_task", "stop_timer", "keep_running", "task"]


@dataclass(frozen=True)
class Other:
    """Another customer, with names that would be noticed."""

    customer: Json
    pillar: Json
    task: Json

    def is_told_in(self, seen: Any) -> bool:
        secrets = [self.customer["name"], self.pillar["name"], self.task["title"]]
        return any(secret in texts(seen) for secret in secrets)


@pytest.fixture
def other(person: Person, given: Given) -> Other:
    customer = given.customer(person, name=f"Hidden customer {given.new_id()}")
    pillar = person.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hidden pillar"})
    return Other(customer, pillar, given.task(person, customer, title="Hidden title", assigneeId=person.id))


def view_with(other: Other, channel: str, **metadata: Any) -> Json:
    """A form that says of itself whatever it likes."""
    blocks = [
        {"type": "input", "block_id": name, "element": {"type": "plain_text_input", "action_id": name}}
        for name in ("title", "description")
    ] + [
        {"type": "input", "block_id": name, "element": {"type": "external_select", "action_id": name}}
        for name in ("customer", "pillar")
    ]
    kept = json.dumps({"channel_id": channel, "customer_id": other.customer["id"]} | metadata)
    return {"id": f"V{other.task['id'][:8].upper()}", "callback_id": "create_task", "private_metadata": kept, "blocks": blocks}


def tries_everything(member: Member, other: Other, channel: str) -> list[Any]:
    """All that somebody in that channel can name of another customer; what they are told, at once and afterwards."""
    since, view = len(member.slack.answers()), view_with(other, channel)
    presses = [(action, value) for action in BUTTONS for value in (other.task["id"], other.customer["id"], other.pillar["id"])]
    told: list[Any] = [member.is_told(member.presses(*pressed, channel)) for pressed in presses]
    told += [member.types(f"{word} {other.task['id']}", channel) for word in ("start", "stop", "status", "list")]
    told += [
        member.is_offered(name, typed, view=view, customer=other.customer["id"], pillar=other.pillar["id"])
        for name in ("task", "customer", "pillar")
        for typed in ("", "Hidden")
    ]
    told += [
        member.submits(view, title="Mine", customer=other.customer["id"], pillar=pillar)
        for pillar in (None, other.pillar["id"])
    ]
    picked = {"type": "external_select", "action_id": "customer", "block_id": "customer", "action_ts": "1.1"}
    picked["selected_option"] = {"text": {"type": "plain_text", "text": "picked"}, "value": other.customer["id"]}
    member.sends(slack_app.interaction("block_actions", user=member.id, trigger_id="1.1.a", view=view, actions=[picked]))
    return [told, member.slack.answers()[since:], member.slack.messages(channel), member.slack.views()]


def test_a_customers_channel_neither_shows_nor_changes_what_is_anothers(
    member: Member, person: Person, stint: Installation, customer: Json, other: Other
) -> None:
    mapped(person, member.channel, customer)
    before, views = stint.rows(WRITTEN), len(member.slack.views())

    told, answers, messages, shown = tries_everything(member, other, member.channel)

    assert not other.is_told_in([told, answers, messages, shown[views:]])
    assert stint.rows(WRITTEN) == before


def test_a_running_timer_on_anothers_task_is_not_named_in_a_customers_channel(
    member: Member, person: Person, stint: Installation, customer: Json, other: Other
) -> None:
    mapped(person, member.channel, customer)
    timer = person.post(f"/api/tasks/{other.task['id']}/start")
    said = [member.is_told(member.presses(action, timer["id"])) for action in ("keep_running", "stop_timer")]
    said += [member.types(word) for word in ("status", "stop", "list")]
    assert not other.is_told_in([said, member.slack.messages(member.channel)])
    assert "goes on" in said[0] and "is stopped" in said[1]  # one's own timer, whatever it is on


@pytest.mark.parametrize("role", ["customer_admin", "customer_user"])
@pytest.mark.parametrize("whose", ["their own channel", "another customer's channel", "nobody's channel"])
def test_a_customers_user_gets_nowhere_from_any_channel(
    role: str, whose: str, slack: SlackSandbox, stint: Installation, person: Person, customer: Json, other: Other, given: Given
) -> None:
    theirs = given.person(role, customer["id"])
    member = Member(slack, stint, slack.user(theirs.email), slack.channel())
    if whose != "nobody's channel":
        mapped(person, member.channel, customer if whose == "their own channel" else other.customer)
    before, views = stint.rows(WRITTEN), len(slack.views())

    told, answers, messages, shown = tries_everything(member, other, member.channel)

    assert not other.is_told_in([told, answers, messages, shown[views:]])
    assert messages == [] and stint.rows(WRITTEN) == before

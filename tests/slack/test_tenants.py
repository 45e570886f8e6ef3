"""Promise 3 in Slack, against forged requests: ids of another customer in each value of a request, sent from a customer's
channel and by a customer's users.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from ops.sandbox.slack import requests
from tests.slack.test_tasks import mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation
from tests.support.slack_sandbox import Member, SlackSandbox, texts

WRITTEN = """
    SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM timers), (SELECT count(*) FROM stops),
           (SELECT count(*) FROM messages WHERE actor NOT IN ('answer_slack', 'publish_home')),
           (SELECT count(*) FROM tasks WHERE status = 'done')
"""
BUTTONS = ["start_timer", "finish_task", "stop_timer", "keep_running", "task", "approve_bills", "reject_bills"]


@dataclass(frozen=True)
class Other:
    """Another customer, with names that are easy to find in a response."""

    customer: Json
    pillar: Json
    task: Json

    def is_shown_in(self, seen: Any) -> bool:
        secrets = [self.customer["name"], self.pillar["name"], self.task["title"]]
        return any(secret in texts(seen) for secret in secrets)


@pytest.fixture
def other(person: Person, given: Given) -> Other:
    customer = given.customer(person, name=f"Hidden customer {given.new_id()}")
    pillar = person.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hidden pillar"})
    return Other(customer, pillar, given.task(person, customer, title="Hidden title", assigneeId=person.id))


def view_with(other: Other, channel: str, **metadata: Any) -> Json:
    """A form with forged metadata."""
    blocks = [
        {"type": "input", "block_id": name, "element": {"type": "plain_text_input", "action_id": name}}
        for name in ("title", "description")
    ] + [
        {"type": "input", "block_id": name, "element": {"type": "external_select", "action_id": name}}
        for name in ("customer", "pillar")
    ]
    private_metadata = json.dumps({"channel_id": channel, "customer_id": other.customer["id"]} | metadata)
    return {
        "id": f"V{other.task['id'][:8].upper()}",
        "callback_id": "create_task",
        "private_metadata": private_metadata,
        "blocks": blocks,
    }


def send_all_forged_requests(member: Member, other: Other, channel: str) -> list[Any]:
    """Sends each kind of request with ids of another customer; returns all that Stint answered and showed."""
    since, view = len(member.slack.answers()), view_with(other, channel)
    presses = [(action, value) for action in BUTTONS for value in (other.task["id"], other.customer["id"], other.pillar["id"])]
    seen: list[Any] = [member.wait_for_answer(member.press(*pressed, channel)) for pressed in presses]
    seen += [member.run_command(f"{word} {other.task['id']}", channel) for word in ("start", "stop", "status", "list")]
    seen += [
        member.get_options(name, typed, view=view, customer=other.customer["id"], pillar=other.pillar["id"])
        for name in ("task", "customer", "pillar")
        for typed in ("", "Hidden")
    ]
    seen += [
        member.submit(view, title="Mine", customer=other.customer["id"], pillar=pillar) for pillar in (None, other.pillar["id"])
    ]
    action: Json = {"type": "external_select", "action_id": "customer", "block_id": "customer", "action_ts": "1.1"}
    action["selected_option"] = {"text": {"type": "plain_text", "text": "picked"}, "value": other.customer["id"]}
    member.send(requests.interaction("block_actions", user=member.id, trigger_id="1.1.a", view=view, actions=[action]))

    return [seen, member.slack.answers()[since:], member.slack.messages(channel), member.slack.views()]


def test_a_customers_channel_neither_shows_nor_changes_another_customers_data(
    member: Member, person: Person, stint: Installation, customer: Json, other: Other
) -> None:
    mapped(person, member.channel, customer)
    before, views = stint.rows(WRITTEN), len(member.slack.views())

    seen, answers, messages, shown = send_all_forged_requests(member, other, member.channel)

    assert not other.is_shown_in([seen, answers, messages, shown[views:]])
    assert stint.rows(WRITTEN) == before


def test_a_running_timers_task_is_not_named_in_another_customers_channel(
    member: Member, person: Person, stint: Installation, customer: Json, other: Other
) -> None:
    mapped(person, member.channel, customer)
    timer = person.post(f"/api/tasks/{other.task['id']}/start")
    answers = [member.wait_for_answer(member.press(action, timer["id"])) for action in ("keep_running", "stop_timer")]
    answers += [member.run_command(word) for word in ("status", "stop", "list")]
    assert not other.is_shown_in([answers, member.slack.messages(member.channel)])
    assert "goes on" in answers[0] and "is stopped" in answers[1]  # the user's own timer, whatever its task


@pytest.mark.parametrize("role", ["customer_admin", "customer_user"])
@pytest.mark.parametrize("whose", ["their own channel", "another customer's channel", "an unmapped channel"])
def test_a_customers_user_can_do_nothing_from_any_channel(
    role: str, whose: str, slack: SlackSandbox, stint: Installation, person: Person, customer: Json, other: Other, given: Given
) -> None:
    theirs = given.person(role, customer["id"])
    member = Member(slack, stint, slack.user(theirs.email), slack.channel())
    if whose != "an unmapped channel":
        mapped(person, member.channel, customer if whose == "their own channel" else other.customer)
    before, views = stint.rows(WRITTEN), len(slack.views())

    seen, answers, messages, shown = send_all_forged_requests(member, other, member.channel)

    assert not other.is_shown_in([seen, answers, messages, shown[views:]])
    assert messages == [] and stint.rows(WRITTEN) == before

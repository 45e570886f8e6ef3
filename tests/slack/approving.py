"""An admin who approves time bills in Slack, as a person sees and presses."""

import json
from typing import Any

from tests.slack.test_tasks import mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, SlackSandbox


def shown(blocks: list[Json]) -> str:
    """The texts of the blocks, a line each."""
    return "\n".join(block["text"]["text"] for block in blocks if block["type"] == "section")


def button(blocks: list[Json], label: str, *, nth: int = 0) -> Json:
    """The nth button with that label."""
    elements = [element for block in blocks if block["type"] == "actions" for element in block["elements"]]
    found: Json = [element for element in elements if element["text"]["text"] == label][nth]
    return found


def pressed(member: Member, blocks: list[Json], label: str, *, channel: str | None = None, nth: int = 0) -> str:
    """Presses the button, and returns the path of the response_url that gets the answer."""
    found = button(blocks, label, nth=nth)
    return member.press(found["action_id"], found["value"], channel)


def updated(member: Member, path: str) -> list[Json]:
    """The blocks that replace the pressed message."""
    [answer] = eventually(lambda: member.slack.answers(path), why=member.stint.log("work")[-1500:])
    assert answer["replace_original"] is True, answer
    blocks: list[Json] = answer["blocks"]
    return blocks


def admin_in(channel: str, slack: SlackSandbox, stint: Installation, given: Given) -> tuple[Person, Member]:
    """A new admin, and the same person in Slack in that channel."""
    admin = given.admin()
    return admin, Member(slack, stint, slack.user(admin.email), channel)


def channel_of(customer: Json, by: Person, slack: SlackSandbox) -> str:
    """A new channel that is mapped to the customer: a list there has only its bills."""
    channel = slack.channel()
    mapped(by, channel, customer)
    return channel


def opened(member: Member, blocks: list[Json], *, nth: int = 0) -> Json:
    """The form that *Reject…* opens."""
    before = {view["id"] for view in member.slack.views()}
    pressed(member, blocks, "Reject…", nth=nth)
    [view] = [view for view in member.slack.views() if view["id"] not in before]
    return view


def statuses(by: Person, ids: list[str]) -> list[str]:
    return [by.get(f"/api/time-bills/{bill_id}")["status"] for bill_id in ids]


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

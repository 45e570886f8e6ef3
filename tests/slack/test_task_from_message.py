"""*Create task* in a message's menu: the form has what a person sees in the message."""

import json
from typing import Any

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import INTERACTIVITY
from tests.slack.test_tasks import mapped
from tests.support.answers import problem
from tests.support.given import Given, Json, Person
from tests.support.slack_sandbox import Member


def create_task(member: Member, **message: Any) -> tuple[str, str]:
    """Chooses *Create task* on the message, and returns title and description of the form that opens."""
    trigger = member.slack.trigger()
    before = {view["id"] for view in member.slack.views()}
    sent = requests.interaction(
        "message_action",
        user=member.id,
        callback_id="create_task_from_message",
        trigger_id=trigger["triggerId"],
        response_url=member.slack.url + trigger["path"],
        channel={"id": member.channel, "name": "general"},
        message={"type": "message", "user": "U1", "ts": "1700000000.000100", **message},
    )
    assert member.send(sent) is None
    [view] = [view for view in member.slack.views() if view["id"] not in before]
    values = requests.state(view, {})
    return values["title"]["title"]["value"] or "", values["description"]["description"]["value"] or ""


def test_the_form_has_what_a_person_sees_in_the_message(member: Member, person: Person, given: Given, customer: Json) -> None:
    link = f"https://sandbox.slack.com/archives/{member.channel}/p1700000000000100"
    own, other = member.slack.channel(), member.slack.channel()
    mapped(person, own, customer)
    mapped(person, other, given.customer(person))
    member.run_command("status")  # Stint knows this member's profile now
    name = person.get("/api/me")["name"]
    section = {"type": "section", "text": {"type": "mrkdwn", "text": f"<@{member.id}> and <@U404> in <#{own}>, <#{other}|>"}}

    assert create_task(member, text="", blocks=[section])[0] == f"@{name} and @someone in #acme, #acme"
    mapped(person, member.channel, customer)
    # in a customer's channel, no channel of another customer has its name
    assert create_task(member, text="", blocks=[section])[0] == f"@{name} and @someone in #acme, #some-channel"
    assert create_task(member, text="```\n<https://a.example|x> = 1\n```") == (
        "x (https://a.example) = 1", f"x (https://a.example) = 1\n\n{link}"
    )  # fmt: skip
    assert create_task(member, text="", files=[{"name": "plan.pdf", "permalink": "https://a.example/p"}]) == (
        "plan.pdf (https://a.example/p)", f"plan.pdf (https://a.example/p)\n\n{link}"
    )  # fmt: skip
    assert create_task(member, text=None, blocks=None, attachments=None, files="odd") == ("", link)


def test_the_longest_message_of_slacks_fits(member: Member) -> None:
    """In a request, each character of it is sent twice, and escaped twice: more than a megabyte."""
    text = "サーバーが落ちた。" * 4_400
    block = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}]}

    title, description = create_task(member, text=text, blocks=[block])

    assert title == f"{text[:199]}…" and len(description) == 3_000 and description.startswith(text[:2_000])
    assert create_task(member, text="&amp;" * 40_000)[0] == "&" * 199 + "…"
    large = requests.form(INTERACTIVITY, {"payload": json.dumps({"type": "x" * 2_100_000})})
    problem(member.post_request(large), 413)


def test_what_slack_escapes_in_a_command_is_read_as_it_was_typed(member: Member) -> None:
    view = member.open_form("R&amp;D &lt;urgent&gt; &amp;amp;")
    assert requests.state(view, {})["title"]["title"]["value"] == "R&D <urgent> &amp;"

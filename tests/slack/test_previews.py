"""Links to tasks get a preview, but only where everybody may see the task."""

import secrets
from uuid import UUID

import pytest

from ops.sandbox.slack import requests
from schemas.settings import Settings
from schemas.slack.commands import previews
from tests.slack.test_tasks import mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import SECRET_KEY, Installation, eventually
from tests.support.slack_sandbox import Member, texts

TASK = "0b7fbd4e-26e4-4a8e-9f0e-6a3f7c1d2b5a"
APP = "https://app.example"


@pytest.mark.parametrize(
    ("url", "is_task"),
    [
        (f"{APP}/tasks/{TASK}", True),
        (f"{APP}/tasks/{TASK}/", True),
        (f"{APP}/tasks/{TASK}?tab=hours#notes", True),
        (f"HTTPS://APP.example/tasks/{TASK.upper()}", True),
        (f"{APP}/tasks/{TASK}/hours", False),
        (f"{APP}/tasks/", False),
        (f"{APP}/tasks/{TASK}x", False),
        (f"{APP}/customers/{TASK}", False),
        (f"http://app.example/tasks/{TASK}", False),
        (f"https://app.example.evil/tasks/{TASK}", False),
        (f"https://app.example:8443/tasks/{TASK}", False),
        (f"https://app.example@evil.example/tasks/{TASK}", False),
        (f"https://[::1/tasks/{TASK}", False),
        (f"https://app.example:x/tasks/{TASK}", False),
        ("", False),
    ],
)
def test_which_links_lead_to_a_task(url: str, is_task: bool) -> None:
    settings = Settings.model_validate({"database_url": "", "secret_key": SECRET_KEY, "app_url": APP})
    assert previews.task_of(url, settings) == (UUID(TASK) if is_task else None)


def share(member: Member, *urls: str, channel: str | None = None, **more: str) -> str:
    """Posts a message with these links, and returns its unfurl_id. Slack sends the event twice."""
    unfurl_id = f"C1.{secrets.token_hex(8)}"
    event: Json = {
        "type": "link_shared",
        "channel": channel or member.channel,
        "user": member.id,
        "message_ts": "1700000000.000100",
        "unfurl_id": unfurl_id,
        "source": "conversations_history",
        "links": [{"domain": "app.example", "url": url} for url in urls],
    }
    sent = requests.event(event | more, event_id=f"Ev{unfurl_id}")
    assert member.send(sent) is None and member.send(sent) is None
    return unfurl_id


def is_settled(stint: Installation) -> bool:
    """Whether all previews are done."""
    query = "SELECT count(*) = 0 FROM messages WHERE actor = 'preview_links' AND state NOT IN ('done', 'dead')"
    return bool(stint.value(query))


def test_a_preview_is_shown_in_the_customers_channel_only(
    member: Member, person: Person, customer: Json, given: Given, stint: Installation
) -> None:
    mapped(person, member.channel, customer)
    task = given.task(person, customer, title="Migrate <the> mail & server")
    other = given.task(person, title="Hidden")
    own, hidden = f"{APP}/tasks/{task['id']}?a=1", f"{APP}/tasks/{other['id']}"
    customers = given.person("customer_user", customer_id=customer["id"])
    theirs = Member(member.slack, stint, member.slack.user(customers.email), member.channel)
    nobody = Member(member.slack, stint, member.slack.user("unknown@example.com"), member.channel)

    shown = share(member, own, hidden, f"{APP}/tasks/{given.new_id()}", "https://other.example/")
    [preview] = eventually(lambda: member.slack.unfurls(shown), why=stint.log("work")[-1500:])
    assert list(preview) == [own]
    assert "Migrate &lt;the&gt; mail &amp; server" in texts(preview) and customer["name"] in texts(preview)

    not_shown = [
        share(member, hidden),
        share(member, own, channel=member.slack.channel()),
        share(member, own, channel="D0123"),
        share(member, own, channel="COMPOSER", source="composer"),
        share(theirs, own),
        share(nobody, own),
        share(Member(member.slack, stint, "U0NOBODY", member.channel), own),
    ]
    eventually(lambda: is_settled(stint))
    assert [member.slack.unfurls(unfurl_id) for unfurl_id in not_shown] == [[]] * len(not_shown)
    assert len(member.slack.unfurls(shown)) == 1


def test_a_preview_waits_while_slack_is_away(
    member: Member, person: Person, customer: Json, given: Given, stint: Installation
) -> None:
    mapped(person, member.channel, customer)
    url = f"{APP}/tasks/{given.task(person, customer)['id']}"
    member.slack.inject_fault("status", path="chat.unfurl", status=503, count=1)
    unfurl_id = share(member, url)
    eventually(lambda: member.slack.unfurls(unfurl_id))


def test_an_event_that_is_no_link_shared_changes_nothing(member: Member, stint: Installation) -> None:
    for event in ({}, {"links": "x"}, {"channel": "C1", "user": "U1", "source": "x", "unfurl_id": "y", "links": [{"url": 1}]}):
        sent = requests.event({"type": "link_shared", **event}, event_id=f"Ev{secrets.token_hex(8)}")
        assert member.send(sent) is None

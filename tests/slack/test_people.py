"""Who is let in, and what is shown where."""

from pathlib import Path
from typing import Any

import pytest

from ops.sandbox import slack_app
from tests.given import Given, Json, Person
from tests.installation import Installation, eventually
from tests.slack.test_tasks import mapped, tasks_of
from tests.workspace import Member, SlackSandbox, texts

WRITTEN = "SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM timers), (SELECT count(*) FROM messages)"

Stranger = dict[str, Any]
STRANGERS: dict[str, Stranger] = {
    "nobody of Stint's": {"email": "stranger@example.com"},
    "without an address": {"email": None},
    "a bot": {"bot": True},
    "deactivated": {"deleted": True},
    "of another workspace": {"teamId": "T0ELSEWHERE"},
}


def nothing_is_possible(member: Member, stint: Installation, task: Json) -> None:
    """Everything that one could try is refused, politely, in private, and writes nothing."""
    member_view = {"id": "V0", "callback_id": "create_task", "private_metadata": f'{{"channel_id": "{member.channel}"}}'}
    view = member_view | {"blocks": [{"type": "input", "block_id": "title", "element": {"type": "text", "action_id": "title"}}]}
    before = stint.rows(WRITTEN)
    opened = len(member.slack.views())

    said = [member.types(text) for text in ("", "start", "stop", "status", "list")]
    refused = member.submits(view, title="Mine", customer=task["customerId"])["errors"]["title"]
    told = [member.is_told(member.presses(action, task["id"])) for action in ("start_timer", "finish_task")]

    assert {answer["response_type"] for answer in said} == {"ephemeral"}
    assert {answer["text"] for answer in said} == {refused, *told}  # the same sentence each time
    assert len(refused) > 20 and task["title"] not in refused
    assert member.is_offered("task") == []
    assert stint.rows(WRITTEN) == before and len(member.slack.views()) == opened


@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_are_refused(who: str, slack: SlackSandbox, stint: Installation, person: Person, given: Given) -> None:
    task = given.task(person)
    slack_id = slack.user(**({"email": person.email} | STRANGERS[who]))
    nothing_is_possible(Member(slack, stint, slack_id, slack.channel()), stint, task)


def test_somebody_whom_slack_does_not_know_is_refused(
    slack: SlackSandbox, stint: Installation, person: Person, given: Given
) -> None:
    nothing_is_possible(Member(slack, stint, "U0NOBODY", slack.channel()), stint, given.task(person))


@pytest.mark.parametrize("role", ["customer_admin", "customer_user"])
def test_a_customers_users_are_refused(
    role: str, slack: SlackSandbox, stint: Installation, person: Person, given: Given
) -> None:
    task = given.task(person)
    theirs = given.person(role, task["customerId"])
    nothing_is_possible(Member(slack, stint, slack.user(theirs.email), slack.channel()), stint, task)


def test_an_address_that_a_customers_user_has_too_is_refused(
    slack: SlackSandbox, stint: Installation, person: Person, given: Given
) -> None:
    task = given.task(person)
    stint.rows(
        """
        INSERT INTO users (id, email, name, role, customer_id) VALUES (gen_random_uuid(), %s, 'A', 'customer_user', %s)
        RETURNING 1
        """,
        person.email.upper(), task["customerId"],
    )  # fmt: skip
    nothing_is_possible(Member(slack, stint, slack.user(person.email), slack.channel()), stint, task)


def test_who_is_removed_from_stint_is_refused_at_once(
    member: Member, person: Person, stint: Installation, given: Given
) -> None:
    task = given.task(person)
    assert "Open tasks of yours: 1" in member.types("status")["text"]

    stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING 1", person.id)

    nothing_is_possible(member, stint, task)


def test_another_workspaces_requests_are_refused(member: Member, stint: Installation) -> None:
    opened = len(member.slack.views())
    for text in ("", "status"):
        assert "another workspace" in member.sends(member.typing(text, team_id="T0ELSEWHERE"))["text"]
    assert len(member.slack.views()) == opened


def test_slack_is_asked_once_who_somebody_is(member: Member, person: Person, stint: Installation) -> None:
    for _ in range(5):
        member.types("status")
    asked = [call for call in member.slack.calls("users.info") if call["query"]["user"] == member.id]
    assert len(asked) == 1

    old = "UPDATE slack_users SET asked_at = asked_at - interval '2 hours' WHERE slack_id = %s RETURNING 1"
    stint.rows(old, member.id)
    member.slack.fails("status", path="users.info", status=500)
    assert "No timer" in member.types("status")["text"]  # what it said today still holds
    member.slack.recovers()
    stint.rows(old, member.id)
    member.slack.user(person.email, id=member.id, deleted=True)
    assert "deactivated" in member.types("status")["text"]


def test_a_profile_that_changes_is_asked_for_again(member: Member, person: Person) -> None:
    assert "No timer" in member.types("status")["text"]
    member.slack.user("new@example.com", id=member.id)

    assert member.sends(slack_app.event({"type": "user_change", "user": {"id": member.id}}, event_id="EvChange")) is None

    assert "does not know you" in member.types("status")["text"]


# what is shown where


def test_a_channel_shows_nothing_of_another_customer(member: Member, person: Person, given: Given, customer: Json) -> None:
    """Not in public, and not to the person alone either."""
    other = given.customer(person, name="The other customer")
    secret = given.task(person, other, title="The other title")
    given.task(person, customer, title="This one's title")
    mapped(person, member.channel, customer)
    person.post(f"/api/tasks/{secret['id']}/start")
    since = len(member.slack.answers())

    view = member.opens()
    seen = [
        *[member.types(text) for text in ("status", "list", "start")],
        view,
        member.is_offered("task"),
        member.is_offered("customer", view=view),
        member.is_offered("pillar", view=view, customer=other["id"]),
        member.submits(view, title="A", customer=other["id"]),
        member.is_told(member.presses("start_timer", secret["id"])),
        member.is_told(member.presses("finish_task", secret["id"])),
        member.types("stop"),
        member.slack.messages(member.channel),
        member.slack.answers()[since:],
    ]

    assert "other title" not in texts(seen) and other["name"] not in texts(seen) and other["id"] not in texts(seen)
    assert "This one's title" in texts(seen)
    assert tasks_of(person, other)[0]["status"] == "open" and len(tasks_of(person, other)) == 1


def test_a_confirmation_goes_to_its_customers_channel_or_to_its_creator_alone(
    member: Member, person: Person, given: Given, customer: Json
) -> None:
    elsewhere, theirs = member.slack.channel(), member.slack.channel()
    mapped(person, theirs, given.customer(person))
    view = member.opens("Nobody's channel", channel=elsewhere)
    assert member.submits(view, customer=customer["id"]) is None

    view = member.opens("Of a channel that changes hands", channel=elsewhere)
    mapped(person, elsewhere, given.customer(person))  # between the command and the form
    assert "This channel is" in texts(member.submits(view, customer=customer["id"]))

    # the form says that it was opened elsewhere
    forged = member.opens("Forged", channel=member.channel)
    forged["private_metadata"] = f'{{"channel_id": "{theirs}"}}'
    assert "This channel is" in texts(member.submits(forged, customer=customer["id"]))

    [told] = eventually(lambda: member.slack.messages(member.id))
    assert "Nobody's channel" in texts(told)
    assert member.slack.messages(elsewhere) == member.slack.messages(theirs) == []


def test_a_channel_that_changes_hands_before_the_confirmation_does_not_see_it(
    member: Member, person: Person, stint: Installation, given: Given, customer: Json
) -> None:
    mapping = mapped(person, member.channel, customer)
    stint.kill("work")
    member.submits(member.opens("Confidential"))
    person.put(f"/api/slack/channel-mappings/{mapping['id']}", {"customerId": given.customer(person)["id"]})
    stint.start("work")

    [told] = eventually(lambda: member.slack.messages(member.id))

    assert "Confidential" in texts(told) and member.slack.messages(member.channel) == []


def test_a_channel_that_takes_no_posts_leaves_it_to_a_direct_message(member: Member, person: Person, customer: Json) -> None:
    mapped(person, "C0NOTIN", customer)
    assert member.submits(member.opens("Somewhere", channel="C0NOTIN")) is None

    [told] = eventually(lambda: member.slack.messages(member.id))

    assert "Somewhere" in texts(told)
    recorded = "SELECT channel_id FROM slack_posts WHERE ts = %s"
    eventually(lambda: member.stint.rows(recorded, told["ts"]) == [(member.id,)])


def test_a_form_of_nobodys_is_refused(member: Member, customer: Json) -> None:
    view = member.opens("A")
    for changes in ({"private_metadata": ""}, {"private_metadata": "[" * 2000}, {"callback_id": "other"}):
        answer = member.hand_over(member.submission(view | changes, customer=customer["id"]))
        assert answer.status_code == 400, changes


def test_without_a_configured_workspace_it_is_the_tokens_own(
    member: Member, person: Person, slack: SlackSandbox, stint: Installation, tmp_path: Path
) -> None:
    environment = slack.environment | {"SLACK_TEAM_ID": ""}
    other = Installation(stint.database_url, stint.amqp_url, tmp_path, **environment)
    here = Member(slack, other, member.id, member.channel)
    try:
        other.start("api").wait_until_ready()
        slack.fails("status", path="auth.test", status=500)
        assert "Slack does not tell" in here.types("status")["text"]
        slack.recovers()
        before = len(slack.calls("auth.test"))
        for _ in range(3):
            assert "No timer" in here.types("status")["text"]
            assert "another workspace" in here.sends(here.typing("status", team_id="T0ELSEWHERE"))["text"]
        assert len(slack.calls("auth.test")) == before + 1
    finally:
        other.stop()


def test_what_was_received_is_forgotten_after_two_days(stint: Installation) -> None:
    stint.rows("INSERT INTO slack_receipts (key, at) VALUES ('event:EvOld', now() - interval '49 hours') RETURNING 1")
    stint.rows("INSERT INTO slack_receipts (key, at) VALUES ('event:EvNew', now() - interval '47 hours') RETURNING 1")
    kept = "SELECT key FROM slack_receipts WHERE key IN ('event:EvOld', 'event:EvNew')"
    eventually(lambda: stint.rows(kept) == [("event:EvNew",)])

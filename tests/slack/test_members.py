"""Which Slack users may use Stint, and what is shown in which channel."""

from pathlib import Path
from typing import Any

import pytest

from ops.sandbox.slack import requests
from tests.slack.test_tasks import mapped, tasks_of
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, SlackSandbox, texts

# Homes that other tests have opened are published meanwhile
WRITTEN = """
    SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM timers),
           (SELECT count(*) FROM messages WHERE actor <> 'publish_home')
"""

REFUSED_USERS: dict[str, dict[str, Any]] = {
    "with an unknown address": {"email": "unknown@example.com"},
    "without an address": {"email": None},
    "a bot": {"bot": True},
    "deactivated": {"deleted": True},
    "of another workspace": {"teamId": "T0ELSEWHERE"},
}


def assert_all_is_refused(member: Member, stint: Installation, task: Json) -> None:
    """Each kind of request gets the same refusal, which only the user sees, and writes nothing."""
    member_view = {"id": "V0", "callback_id": "create_task", "private_metadata": f'{{"channel_id": "{member.channel}"}}'}
    view = member_view | {"blocks": [{"type": "input", "block_id": "title", "element": {"type": "text", "action_id": "title"}}]}
    before = stint.rows(WRITTEN)
    opened = len(member.slack.views())

    answers = [member.run_command(text) for text in ("", "start", "stop", "status", "list")]
    refused = member.submit(view, title="Mine", customer=task["customerId"])["errors"]["title"]
    later_answers = [member.wait_for_answer(member.press(action, task["id"])) for action in ("start_timer", "finish_task")]

    assert {answer["response_type"] for answer in answers} == {"ephemeral"}
    assert {answer["text"] for answer in answers} == {refused, *later_answers}  # the same sentence each time
    assert len(refused) > 20 and task["title"] not in refused
    assert member.get_options("task") == []
    assert stint.rows(WRITTEN) == before and len(member.slack.views()) == opened


@pytest.mark.parametrize("who", REFUSED_USERS)
def test_other_slack_users_are_refused(
    who: str, slack: SlackSandbox, stint: Installation, person: Person, given: Given
) -> None:
    task = given.task(person)
    slack_id = slack.user(**({"email": person.email} | REFUSED_USERS[who]))
    assert_all_is_refused(Member(slack, stint, slack_id, slack.channel()), stint, task)


def test_a_user_without_a_profile_in_slack_is_refused(
    slack: SlackSandbox, stint: Installation, person: Person, given: Given
) -> None:
    assert_all_is_refused(Member(slack, stint, "U0NOBODY", slack.channel()), stint, given.task(person))


@pytest.mark.parametrize("role", ["customer_admin", "customer_user"])
def test_a_customers_users_are_refused(
    role: str, slack: SlackSandbox, stint: Installation, person: Person, given: Given
) -> None:
    task = given.task(person)
    theirs = given.person(role, task["customerId"])
    assert_all_is_refused(Member(slack, stint, slack.user(theirs.email), slack.channel()), stint, task)


def test_an_address_that_also_a_customers_user_has_is_refused(
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
    assert_all_is_refused(Member(slack, stint, slack.user(person.email), slack.channel()), stint, task)


def test_a_user_who_is_removed_from_stint_is_refused_immediately(
    member: Member, person: Person, stint: Installation, given: Given
) -> None:
    task = given.task(person)
    assert "Open tasks of yours: 1" in member.run_command("status")["text"]

    stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING 1", person.id)

    assert_all_is_refused(member, stint, task)


def test_another_workspaces_requests_are_refused(member: Member, stint: Installation) -> None:
    opened = len(member.slack.views())
    for text in ("", "status"):
        assert "another workspace" in member.send(member.command_request(text, team_id="T0ELSEWHERE"))["text"]
    assert len(member.slack.views()) == opened


def test_a_profile_is_fetched_once_an_hour(member: Member, person: Person, stint: Installation) -> None:
    for _ in range(5):
        member.run_command("status")
    fetched = [call for call in member.slack.calls("users.info") if call["query"]["user"] == member.id]
    assert len(fetched) == 1

    old = "UPDATE slack_users SET fetched_at = fetched_at - interval '2 hours' WHERE slack_id = %s RETURNING 1"
    stint.rows(old, member.id)
    member.slack.inject_fault("status", path="users.info", status=500)
    assert "No timer" in member.run_command("status")["text"]  # the cached profile is used, because it is less than a day old
    member.slack.clear_faults()
    stint.rows(old, member.id)
    member.slack.user(person.email, id=member.id, deleted=True)
    assert "deactivated" in member.run_command("status")["text"]


def test_the_form_does_not_wait_for_the_profile_of_a_known_member(member: Member, stint: Installation) -> None:
    member.run_command("status")
    old = "UPDATE slack_users SET fetched_at = fetched_at - interval '2 hours' WHERE slack_id = %s RETURNING 1"
    stint.rows(old, member.id)
    updated = len(member.slack.calls("views.update"))
    member.slack.inject_fault("stall", path="users.info", seconds=0.7)  # longer than Stint waits before an empty modal opens
    assert "Migrate it" in texts(member.open_form("Migrate it"))
    member.slack.clear_faults()

    member.open_form()  # in case that the machine was so slow that the first call has timed out

    is_fresh = "SELECT fetched_at > clock_timestamp() - interval '1 hour' FROM slack_users WHERE slack_id = %s"
    eventually(lambda: stint.value(is_fresh, member.id), why="the profile is fetched in the background")
    assert len(member.slack.calls("views.update")) == updated


def test_a_changed_profile_is_fetched_again(member: Member, person: Person) -> None:
    assert "No timer" in member.run_command("status")["text"]
    member.slack.user("new@example.com", id=member.id)

    assert member.send(requests.event({"type": "user_change", "user": {"id": member.id}}, event_id="EvChange")) is None

    assert "does not know the e-mail address" in member.run_command("status")["text"]


# what is shown in which channel


def test_a_channel_shows_nothing_of_another_customer(member: Member, person: Person, given: Given, customer: Json) -> None:
    """Not in public, and not in answers that only one user sees either."""
    other = given.customer(person, name="The other customer")
    secret = given.task(person, other, title="The other title")
    given.task(person, customer, title="This one's title")
    mapped(person, member.channel, customer)
    person.post(f"/api/tasks/{secret['id']}/start")
    since = len(member.slack.answers())

    view = member.open_form()
    seen = [
        *[member.run_command(text) for text in ("status", "list", "start")],
        view,
        member.get_options("task"),
        member.get_options("customer", view=view),
        member.get_options("pillar", view=view, customer=other["id"]),
        member.submit(view, title="A", customer=other["id"]),
        member.wait_for_answer(member.press("start_timer", secret["id"])),
        member.wait_for_answer(member.press("finish_task", secret["id"])),
        member.run_command("stop"),
        member.slack.messages(member.channel),
        member.slack.answers()[since:],
    ]

    assert "other title" not in texts(seen) and other["name"] not in texts(seen) and other["id"] not in texts(seen)
    assert "This one's title" in texts(seen)
    assert tasks_of(person, other)[0]["status"] == "open" and len(tasks_of(person, other)) == 1


def test_a_confirmation_goes_to_its_customers_channel_or_only_to_its_creator(
    member: Member, person: Person, given: Given, customer: Json
) -> None:
    elsewhere, theirs = member.slack.channel(), member.slack.channel()
    mapped(person, theirs, given.customer(person))
    view = member.open_form("Unmapped channel", channel=elsewhere)
    assert member.submit(view, customer=customer["id"]) is None

    view = member.open_form("Of a channel that is mapped meanwhile", channel=elsewhere)
    mapped(person, elsewhere, given.customer(person))  # between the command and the form
    assert "This channel belongs to" in texts(member.submit(view, customer=customer["id"]))

    # the form's metadata names another channel
    forged = member.open_form("Forged", channel=member.channel)
    forged["private_metadata"] = f'{{"channel_id": "{theirs}"}}'
    assert "This channel belongs to" in texts(member.submit(forged, customer=customer["id"]))

    [posted] = eventually(lambda: member.slack.messages(member.id))
    assert "Unmapped channel" in texts(posted)
    assert member.slack.messages(elsewhere) == member.slack.messages(theirs) == []


def test_a_channel_that_is_mapped_to_another_customer_does_not_get_the_confirmation(
    member: Member, person: Person, stint: Installation, given: Given, customer: Json
) -> None:
    mapping = mapped(person, member.channel, customer)
    stint.kill("work")
    member.submit(member.open_form("Confidential"))
    person.put(f"/api/slack/channel-mappings/{mapping['id']}", {"customerId": given.customer(person)["id"]})
    stint.start("work")

    [posted] = eventually(lambda: member.slack.messages(member.id))

    assert "Confidential" in texts(posted) and member.slack.messages(member.channel) == []


def test_if_the_channel_refuses_the_post_it_becomes_a_direct_message(member: Member, person: Person, customer: Json) -> None:
    mapped(person, "C0NOTIN", customer)
    assert member.submit(member.open_form("Somewhere", channel="C0NOTIN")) is None

    [posted] = eventually(lambda: member.slack.messages(member.id))

    assert "Somewhere" in texts(posted)
    recorded = "SELECT channel_id FROM slack_posts WHERE ts = %s"
    eventually(lambda: member.stint.rows(recorded, posted["ts"]) == [(member.id,)])


def test_a_form_that_is_not_stints_is_refused(member: Member, customer: Json) -> None:
    view = member.open_form("A")
    for changes in ({"private_metadata": ""}, {"private_metadata": "[" * 2000}, {"callback_id": "other"}):
        answer = member.post_request(member.submit_request(view | changes, customer=customer["id"]))
        assert answer.status_code == 400, changes


def test_without_a_configured_workspace_the_bot_tokens_is_used(
    member: Member, person: Person, slack: SlackSandbox, stint: Installation, tmp_path: Path
) -> None:
    environment = slack.environment | {"SLACK_TEAM_ID": ""}
    other = Installation(stint.database_url, stint.amqp_url, tmp_path, **environment)
    here = Member(slack, other, member.id, member.channel)
    try:
        other.start("api").wait_until_ready()
        slack.inject_fault("status", path="auth.test", status=500)
        assert "Slack does not answer" in here.run_command("status")["text"]
        slack.clear_faults()
        before = len(slack.calls("auth.test"))
        for _ in range(3):
            assert "No timer" in here.run_command("status")["text"]
            assert "another workspace" in here.send(here.command_request("status", team_id="T0ELSEWHERE"))["text"]
        assert len(slack.calls("auth.test")) == before + 1
    finally:
        other.stop()


def sent_by(member: Member, *, team: str | None, organization: str | None) -> Any:
    """The answer to *Start timer* on no task, as the member sees it. The request names this workspace and organization."""
    path = member.slack.trigger()["path"]
    pressed = requests.interaction(
        "block_actions",
        user=member.id,
        trigger_id=member.slack.trigger()["triggerId"],
        response_url=member.slack.url + path,
        channel={"id": member.channel},
        actions=[{"action_id": "start_timer", "value": "none"}],
        team={"id": team, "domain": "other"} if team else None,
        enterprise={"id": organization, "name": "Org"} if organization else None,
        is_enterprise_install=team is None,
    )
    answer = member.post_request(pressed)
    return member.wait_for_answer(path) if answer.status_code == 200 else answer.status_code


def test_in_an_organization_the_members_of_the_workspace_may_use_stint(
    slack: SlackSandbox, stint: Installation, given: Given
) -> None:
    """Enterprise Grid: a user's `team_id` is any of their workspaces, and a request may name only the organization."""
    ours = given.person()
    user = slack.user(ours.email, teamId="T0OTHER", teams=["T0OTHER", "T0SANDBOX"])
    member = Member(slack, stint, user, slack.channel())
    assert "No timer" in member.run_command("status")["text"]
    assert "No timer" in member.send(member.command_request("status", enterprise_id="E0ORG"))["text"]
    for team, organization, expected in (
        ("T0SANDBOX", "E0ORG", "no such task"),
        (None, "E0ORG", "no such task"),
        ("T0OTHER", "E0ORG", "another workspace"),
        ("T0OTHER", None, "another workspace"),
    ):
        assert expected in sent_by(member, team=team, organization=organization)
    assert sent_by(member, team=None, organization=None) == 400

    other = given.person()  # of another workspace of the organization
    elsewhere = Member(slack, stint, slack.user(other.email, teamId="T0OTHER", teams=["T0OTHER"]), slack.channel())
    assert "own workspace" in elsewhere.run_command("status")["text"]
    assert "own workspace" in sent_by(elsewhere, team=None, organization="E0ORG")


def test_an_app_in_a_whole_organization_is_for_all_its_workspaces(
    member: Member, person: Person, slack: SlackSandbox, stint: Installation, tmp_path: Path, given: Given
) -> None:
    slack.configure(organization="E0ORG")
    other = Installation(stint.database_url, stint.amqp_url, tmp_path, **slack.environment | {"SLACK_TEAM_ID": ""})
    try:
        other.start("api").wait_until_ready()
        colleague = given.person()
        user = slack.user(colleague.email, teamId="T0OTHER", teams=["T0OTHER"])
        here = Member(slack, other, user, member.channel)
        command = here.command_request("status", team_id="T0OTHER", enterprise_id="E0ORG", is_enterprise_install="true")
        assert "No timer" in here.send(command)["text"]
        assert "no such task" in sent_by(here, team=None, organization="E0ORG")
        for organization in ("E0ELSE", ""):
            command = here.command_request("status", team_id="T0OTHER", enterprise_id=organization)
            assert "another workspace" in here.send(command)["text"]
        outside = slack.user(given.person().email, teamId="T0FAR", teams=["T0FAR"], enterpriseId="E0FAR")
        command = Member(slack, other, outside, member.channel).command_request("status", enterprise_id="E0ORG")
        assert "own workspace" in here.send(command)["text"]
        # an event of the organization
        mapped(person, member.channel, given.customer(person))
        renamed = {"type": "channel_rename", "channel": {"id": member.channel, "name": "renamed"}}
        event = requests.event(renamed, event_id="EvOrganization", team="T0OTHER", enterprise_id="E0ORG")
        assert here.send(event) is None
        names = [row["channelName"] for row in person.get("/api/slack/channel-mappings")["items"]]
        assert "renamed" in names
    finally:
        other.stop()


def test_deduplication_keys_are_deleted_after_two_days(stint: Installation) -> None:
    stint.rows("INSERT INTO slack_deduplication (key, at) VALUES ('event:EvOld', now() - interval '49 hours') RETURNING 1")
    stint.rows("INSERT INTO slack_deduplication (key, at) VALUES ('event:EvNew', now() - interval '47 hours') RETURNING 1")
    keys = "SELECT key FROM slack_deduplication WHERE key IN ('event:EvOld', 'event:EvNew')"
    eventually(lambda: stint.rows(keys) == [("event:EvNew",)])

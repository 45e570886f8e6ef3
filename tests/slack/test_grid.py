"""Commands, interactions and events with the fields that Slack sends in an organization (Enterprise Grid): right answers, and
nothing is written that should not be."""

import json
import secrets
import time
from typing import Any

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import EVENTS
from ops.sandbox.slack.workspace import TEAM_ID
from tests.slack.test_mutated_requests import WRITTEN
from tests.slack.test_previews import APP
from tests.slack.test_tasks import mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member

OTHER_TEAM = "T0OTHERTEAM"
ORGANIZATION = {"id": "E0ORG", "name": "Org"}
MEMBERSHIP = {
    "id": "W0MEMBER", "enterprise_id": "E0ORG", "enterprise_name": "Org", "is_admin": False, "is_owner": False,
    "is_primary_owner": False, "teams": [TEAM_ID, OTHER_TEAM],
}  # fmt: skip


def grid(team: str = TEAM_ID) -> Json:
    """The fields of an interaction that name the workspace and its organization."""
    return {
        "team": {"id": team, "domain": "sandbox", "enterprise_id": "E0ORG", "enterprise_name": "Org"},
        "enterprise": ORGANIZATION,
        "is_enterprise_install": False,
    }


def send_event(member: Member, event: Json, *, team: str = TEAM_ID, external: bool = False) -> None:
    """Sends an event in the envelope that an app in an organization gets. `external`: of a channel shared with others."""
    authorization = {
        "enterprise_id": "E0ORG", "team_id": team, "user_id": "U0STINT", "is_bot": True, "is_enterprise_install": False,
    }  # fmt: skip
    envelope = {
        "token": "deprecated", "team_id": team, "enterprise_id": "E0ORG", "context_team_id": team,
        "context_enterprise_id": "E0ORG", "api_app_id": "A0STINT", "event": {"event_ts": f"{time.time():.6f}", **event},
        "type": "event_callback", "event_id": f"Ev{secrets.token_hex(5).upper()}", "event_time": int(time.time()),
        "authorizations": [authorization], "is_ext_shared_channel": external, "event_context": f"4-{secrets.token_hex(20)}",
    }  # fmt: skip
    assert member.send(requests.signed(EVENTS, json.dumps(envelope).encode(), content_type="application/json")) is None


def test_commands_and_interactions_of_an_organization(
    member: Member, person: Person, given: Given, customer: Json, stint: Installation
) -> None:
    mapped(person, member.channel, customer)
    user = {"id": member.id, "username": "ada", "name": "ada", "team_id": OTHER_TEAM}  # the member's first workspace
    member.slack.user(person.email, id=member.id, teamId=OTHER_TEAM, enterpriseId="E0ORG", teams=[TEAM_ID, OTHER_TEAM])
    where: Json = {"enterprise_id": "E0ORG", "enterprise_name": "Org", "is_enterprise_install": "false"}
    assert "No timer" in member.send(member.command_request("status", **where))["text"]

    def interact(kind: str, **more: Any) -> Any:
        trigger = member.slack.trigger()
        fields: Json = grid() | {"user": user, "trigger_id": trigger["triggerId"]} | more
        return member.send(requests.interaction(kind, **({"user": member.id} | {"user": fields.pop("user")["id"]}), **fields))

    channel = {"id": member.channel, "name": "acme"}
    hook = member.slack.trigger()["path"]
    message = {"type": "message", "user": "W0SOMEBODY", "team": OTHER_TEAM, "ts": "1700000000.000100", "text": "Fix the lift"}
    assert interact("message_action", callback_id="create_task_from_message", channel=channel, message=message,
                    message_ts=message["ts"], response_url=member.slack.url + hook) is None  # fmt: skip
    view = member.slack.views()[-1]
    found = interact("block_suggestion", action_id="customer", block_id="customer", value="", api_app_id="A0STINT",
                     container={"type": "view", "view_id": view["id"]}, view=view)  # fmt: skip
    assert [option["value"] for option in found["options"]] == [customer["id"]]
    opened = view | {
        "state": {"values": requests.state(view, {})}, "hash": "1.abc", "root_view_id": view["id"], "previous_view_id": None,
        "app_installed_team_id": TEAM_ID, "external_id": "", "bot_id": "B0STINT", "clear_on_close": False,
    }  # fmt: skip
    assert interact("view_submission", view=opened, response_urls=[]) is None
    [posted] = eventually(lambda: member.slack.messages(member.channel))
    assert "Fix the lift" in posted["text"]
    [task] = [row for row in person.get("/api/tasks", customerId=customer["id"])["items"] if row["title"] == "Fix the lift"]

    before = stint.rows(WRITTEN)
    assert interact("view_closed", view=opened, is_cleared=False) is None
    # a member of another workspace of the organization, who is not in ours
    elsewhere = member.slack.user(given.person().email, teamId=OTHER_TEAM, enterpriseId="E0ORG", teams=[OTHER_TEAM])
    outside = Member(member.slack, stint, elsewhere, member.channel)
    assert "only for members" in outside.send(outside.command_request("log 1h", **where))["text"]
    assert stint.rows(WRITTEN) == before

    action = {"type": "button", "action_id": "finish_task", "block_id": "b", "value": task["id"], "action_ts": "1.1"}
    assert interact("block_actions", channel=channel, actions=[action], response_url=member.slack.url + hook, message=posted,
                    container={"type": "message", "message_ts": posted["ts"], "channel_id": member.channel,
                               "is_ephemeral": False}) is None  # fmt: skip
    assert "is done" in member.wait_for_answer(hook)
    assert person.get(f"/api/tasks/{task['id']}")["status"] == "done"


def test_events_of_an_organization(member: Member, person: Person, given: Given, customer: Json, stint: Installation) -> None:
    mapping = mapped(person, member.channel, customer)
    task = given.task(person, customer)
    member.run_command("status")

    def shown() -> Json:
        [row] = [row for row in person.get("/api/slack/channel-mappings")["items"] if row["id"] == mapping["id"]]
        found: Json = row
        return found

    link = {"domain": "app.example", "url": f"{APP}/tasks/{task['id']}"}
    renamed = {"type": "channel_rename", "channel": {"id": member.channel, "name": "renamed", "created": 1, "is_channel": True}}
    user = {"id": member.id, "team_id": OTHER_TEAM, "deleted": False, "profile": {"email": person.email, "team": TEAM_ID},
            "enterprise_user": MEMBERSHIP, "is_bot": False, "updated": 1}  # fmt: skip
    events: list[Json] = [
        renamed,
        {"type": "channel_archive", "channel": member.channel, "user": "W0ADMIN", "is_moved": 0},
        {"type": "user_change", "user": user, "cache_ts": 1},
        {"type": "link_shared", "user": member.id, "channel": member.channel, "message_ts": "1.1", "unfurl_id": "C1.grid",
         "source": "conversations_history", "links": [link], "is_bot_user_member": True},
        {"type": "tokens_revoked", "tokens": {"oauth": ["W0MEMBER"], "bot": []}},
    ]  # fmt: skip
    others: list[Json] = [
        {"type": "message", "channel": member.channel, "user": member.id, "text": "/task stop", "ts": "1.1", "team": TEAM_ID},
        {"type": "team_access_granted", "team_ids": [TEAM_ID]},
        {"type": "team_access_revoked", "team_ids": [OTHER_TEAM]},
        {"type": "channel_shared", "connected_team_id": "E0ELSEWHERE", "channel": member.channel},
        {"type": "user_profile_changed", "user": user},
    ]
    before = stint.rows(WRITTEN)
    for event in others:
        send_event(member, event)
    for event in events:  # those of another workspace of the organization concern nobody here
        send_event(member, event, team=OTHER_TEAM)
    assert stint.rows(WRITTEN) == before and shown()["channelName"] == "acme" and not shown()["archived"]

    for event in events[:2]:
        send_event(member, event, external=True)
    assert shown()["channelName"] == "renamed" and shown()["archived"]
    send_event(member, {"type": "channel_unarchive", "channel": member.channel, "user": "W0ADMIN"})
    assert not shown()["archived"]
    known = "SELECT count(*) FROM slack_users WHERE slack_id = %s"
    assert stint.value(known, member.id) == 1
    for event in events[2:]:
        send_event(member, event)
    assert stint.value("SELECT count(*) FROM slack_access_losses WHERE problem IN ('token_revoked', 'account_inactive')") == 0
    eventually(lambda: member.slack.unfurls("C1.grid"))

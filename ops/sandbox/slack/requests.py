"""Requests that Slack sends to an app, with Slack's signature: for tests, and for the sandbox's page."""

import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from slack_sdk.signature import SignatureVerifier

from ops.sandbox.slack.workspace import SIGNING_SECRET, TEAM_ID

Json = dict[str, Any]
EVENTS, INTERACTIVITY = "/api/slack/events", "/api/slack/interactivity"


@dataclass(frozen=True)
class SignedRequest:
    """One request from Slack."""

    path: str
    body: bytes
    headers: dict[str, str]


def signed(
    path: str, body: bytes, *, content_type: str, secret: str = SIGNING_SECRET, at: float | None = None
) -> SignedRequest:
    """A request with the signature of Slack's own library."""
    timestamp = str(int(time.time() if at is None else at))
    signature = SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body)
    assert signature is not None
    headers = {"Content-Type": content_type, "X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": signature}
    return SignedRequest(path, body, headers)


def form(path: str, fields: Json, **how: Any) -> SignedRequest:
    return signed(path, urlencode(fields).encode(), content_type="application/x-www-form-urlencoded", **how)


def command(*, user: str, channel: str, text: str, trigger_id: str, response_url: str, **more: Any) -> SignedRequest:
    """A user typed `/task …`."""
    fields = {
        "token": "deprecated",
        "team_id": TEAM_ID,
        "team_domain": "sandbox",
        "channel_id": channel,
        "channel_name": "general",
        "user_id": user,
        "user_name": "somebody",
        "command": "/task",
        "text": text,
        "api_app_id": "A0STINT",
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": trigger_id,
    }
    return form(EVENTS, fields | more)


def interaction(kind: str, *, user: str, **more: Any) -> SignedRequest:
    """A user used a button, field or form of the app."""
    payload = {
        "type": kind,
        "team": {"id": TEAM_ID, "domain": "sandbox"},
        "user": {"id": user, "username": "somebody", "name": "somebody", "team_id": TEAM_ID},
        "api_app_id": "A0STINT",
        "token": "deprecated",
        "enterprise": None,
        "is_enterprise_install": False,
    }
    return form(INTERACTIVITY, {"payload": json.dumps(payload | more)})


def submission(view: Json, values: dict[str, str | None], *, user: str, trigger_id: str) -> SignedRequest:
    """A user submitted a form. `values` are its fields by their action ids."""
    return interaction(
        "view_submission", user=user, view={**view, "state": {"values": state(view, values)}}, trigger_id=trigger_id
    )


def state(view: Json, values: dict[str, str | None]) -> Json:
    """The values of a form's fields: those entered or selected, or the initial ones."""
    found: Json = {}
    for block in view["blocks"]:
        element = block.get("element")
        if element is None:
            continue
        name = element["action_id"]
        if element["type"] == "multi_static_select":
            chosen = values.get(name, " ".join(option["value"] for option in element.get("initial_options", ())))
            options = [{"text": {"type": "plain_text", "text": "picked"}, "value": value} for value in (chosen or "").split()]
            content: Json = {"type": "multi_static_select", "selected_options": options}
        elif element["type"] == "external_select":
            picked = values.get(name, (element.get("initial_option") or {}).get("value"))
            option = {"text": {"type": "plain_text", "text": "picked"}, "value": picked} if picked else None
            content = {"type": "external_select", "selected_option": option}
        elif element["type"] == "datetimepicker":
            seconds = values.get(name, element.get("initial_date_time"))
            content = {"type": "datetimepicker", "selected_date_time": int(seconds) if seconds else None}
        else:
            content = {"type": "plain_text_input", "value": values.get(name, element.get("initial_value"))}
        found[block["block_id"]] = {name: content}
    return found


def event(
    content: Json,
    *,
    event_id: str,
    team: str = TEAM_ID,
    enterprise_id: str = "",
    event_time: int | None = None,
    **how: Any,
) -> SignedRequest:
    """An event of the workspace, which happened at `event_time` (seconds since 1970); None: now."""
    body = {
        "type": "event_callback",
        "token": "deprecated",
        "team_id": team,
        "enterprise_id": enterprise_id,
        "api_app_id": "A0STINT",
        "event": content,
        "event_id": event_id,
        "event_time": int(time.time()) if event_time is None else event_time,
        "authorizations": [{"team_id": team, "user_id": "U0STINT", "is_bot": True}],
    }
    return signed(EVENTS, json.dumps(body).encode(), content_type="application/json", **how)

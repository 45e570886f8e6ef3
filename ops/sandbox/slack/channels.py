"""The channels of the stand-in for Slack, and how Slack lists them: in pages, with a cursor."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from ops.sandbox.slack.checks import Refused

Json = dict[str, Any]

SCOPES = {"public_channel": "channels:read", "private_channel": "groups:read"}


def described(body: Mapping[str, Any]) -> Json:
    """A channel as Slack describes it."""
    is_private = bool(body.get("private"))
    return {
        "id": body["id"],
        "name": body.get("name", "general"),
        "is_channel": not is_private,
        "is_private": is_private,
        "is_archived": bool(body.get("archived")),
        "is_member": bool(body.get("member", True)),
    }


def page(channels: list[Json], arguments: Json, *, scopes: list[str] | None) -> Json:
    """The answer to conversations.list: public channels, and private ones that the app is in. As in Slack, archived channels
    are left out of a page after it was cut, so a page can have fewer than `limit` though others follow. Raises Refused."""
    types = arguments.get("types", "public_channel").split(",")
    if unknown := set(types) - set(SCOPES):
        raise Refused("invalid_types", why=repr(unknown))
    for needed in (SCOPES[kind] for kind in types):
        if scopes is not None and needed not in scopes:
            raise Refused("missing_scope", needed=needed, provided=",".join(scopes))
    if not 1 <= (limit := int(arguments.get("limit", 100))) < 1_000:
        raise Refused("invalid_limit")
    start = _start(arguments.get("cursor", ""))
    visible = [each for each in channels if _kind(each) in types and (each["is_member"] or not each["is_private"])]
    end, leaves_out = start + limit, arguments.get("exclude_archived") in ("1", "true", True)
    cut = [each for each in visible[start:end] if not (leaves_out and each["is_archived"])]
    cursor = b64encode(f"channel:{end}".encode()).decode() if end < len(visible) else ""
    return {"channels": cut, "response_metadata": {"next_cursor": cursor}}


def _kind(channel: Json) -> str:
    return "private_channel" if channel["is_private"] else "public_channel"


def _start(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        return int(b64decode(cursor, validate=True).decode().removeprefix("channel:"))
    except ValueError:
        raise Refused("invalid_cursor") from None

"""Slack's event subscriptions: the events that Stint acts on. All others are only acknowledged."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Response
from pydantic import ValidationError

from api.slack.responder import PROFILE_SECONDS, Responder, empty_response
from schemas.customers import channel_mappings
from schemas.errors import RetryAfter, Unavailable
from schemas.messages import PreviewLinks
from schemas.names import clean_name, name_key
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.slack import deduplication, members
from schemas.slack.access import loss
from schemas.slack.client import SlackAccessLost, SlackRefused, SlackUnavailable
from schemas.slack.commands import previews
from schemas.slack.home import homes
from schemas.slack.payloads import EventCallback, LinkShared

EventHandler = Callable[[Connection, Responder, EventCallback], Awaitable[None]]


async def receive_event(responder: Responder, callback: EventCallback) -> Response[Any]:
    """Handles an event once: its id is stored in the transaction of its effect. After an error Slack sends the event again, so
    an error must not be answered with 200. Raises Unavailable."""
    handler = EVENT_HANDLERS.get(str(callback.event.get("type")))
    if handler is None:
        return empty_response()
    try:
        if await responder.slack.team(seconds=PROFILE_SECONDS) not in (callback.team_id, callback.enterprise_id):
            return empty_response()
    except (SlackUnavailable, SlackRefused, RetryAfter):
        raise Unavailable("Slack did not return the id of our workspace; send this again.") from None

    async def handle() -> None:
        async with responder.transaction() as conn:
            if await deduplication.record_once(conn, f"event:{callback.event_id}"):
                await handler(conn, responder, callback)

    await responder.database.with_deadline(handle())
    return empty_response()


async def _app_uninstalled(conn: Connection, responder: Responder, _: EventCallback) -> None:
    await loss.record_loss(conn, _revoked("account_inactive"), responder.settings)
    await members.delete_profiles(conn)
    await homes.delete(conn)


async def _tokens_revoked(conn: Connection, responder: Responder, callback: EventCallback) -> None:
    tokens = callback.event.get("tokens")
    if isinstance(tokens, dict) and tokens.get("bot"):
        await loss.record_loss(conn, _revoked("token_revoked"), responder.settings)


def _revoked(code: str) -> SlackAccessLost:
    """What Slack's calls will fail with."""
    return SlackAccessLost(code, method=loss.CHECK, needed="")


async def _app_home_opened(conn: Connection, _: Responder, callback: EventCallback) -> None:
    slack_id = callback.event.get("user")
    if callback.event.get("tab") == "home" and isinstance(slack_id, str) and re.fullmatch(r"[A-Z0-9]{1,40}", slack_id):
        await homes.open_home(conn, slack_id)


async def _user_change(conn: Connection, _: Responder, callback: EventCallback) -> None:
    # the e-mail address, the time zone, or whether the account is active, may have changed
    user = callback.event.get("user")
    slack_id = user.get("id") if isinstance(user, dict) else None
    if isinstance(slack_id, str):
        await members.delete_profiles(conn, slack_id)
        await homes.request(conn, [slack_id])


async def _channel_rename(conn: Connection, _: Responder, callback: EventCallback) -> None:
    channel = callback.event.get("channel")
    name = channel.get("name") if isinstance(channel, dict) else None
    name = name[:1_000] if isinstance(name, str) else ""  # normalizing a text of combining marks takes quadratic time
    if (channel_id := _channel_id(channel)) is not None and name_key(name):
        await channel_mappings.rename_channel(conn, channel_id, clean_name(name)[:200], at=callback.happened_at)


async def _channel_archive(conn: Connection, _: Responder, callback: EventCallback) -> None:
    if (channel_id := _channel_id(callback.event.get("channel"))) is not None:
        archived = str(callback.event["type"]) not in UNARCHIVE
        await channel_mappings.set_archived(conn, channel_id, archived=archived, at=callback.happened_at)


async def _channel_id_changed(conn: Connection, _: Responder, callback: EventCallback) -> None:
    old_id, new_id = (_channel_id(callback.event.get(name)) for name in ("old_channel_id", "new_channel_id"))
    if old_id is not None and new_id is not None:
        await channel_mappings.change_channel_id(conn, old_id, new_id, at=callback.happened_at)


def _channel_id(channel: Any) -> str | None:
    """The id of an event's channel, which some events describe as an object. None if there is none."""
    channel_id = channel.get("id") if isinstance(channel, dict) else channel
    return channel_id if isinstance(channel_id, str) and re.fullmatch(r"[A-Z0-9]{1,40}", channel_id) else None


# "group" stands for a private channel
UNARCHIVE = ("channel_unarchive", "group_unarchive")


async def _link_shared(conn: Connection, responder: Responder, callback: EventCallback) -> None:
    try:
        shared = LinkShared.model_validate(callback.event)
    except ValidationError:
        return
    urls = [link.url for link in shared.links if previews.task_of(link.url, responder.settings) is not None]
    if urls and await previews.is_mapped(conn, shared.channel):
        message = PreviewLinks(
            channel_id=shared.channel,
            slack_user_id=shared.user,
            source=shared.source,
            unfurl_id=shared.unfurl_id,
            urls=tuple(urls[: previews.MOST_LINKS]),
        )
        await outbox.enqueue(conn, message)


EVENT_HANDLERS: dict[str, EventHandler] = {
    "app_uninstalled": _app_uninstalled,
    "tokens_revoked": _tokens_revoked,
    "user_change": _user_change,
    "app_home_opened": _app_home_opened,
    "channel_id_changed": _channel_id_changed,
    "link_shared": _link_shared,
    **dict.fromkeys(("channel_rename", "group_rename"), _channel_rename),
    **dict.fromkeys(("channel_archive", "channel_deleted", "group_archive", "group_deleted", *UNARCHIVE), _channel_archive),
}

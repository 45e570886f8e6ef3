"""What happens in the workspace, as far as Stint cares. Everything else, and what Stint says there itself, is just received."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Response

from api.slack_desk import PROFILE_SECONDS, Desk, nothing
from schemas import channel_mappings, slack_people, slack_posts, slack_receipts
from schemas.clients.slack import SlackAway, SlackRefuses
from schemas.database import Connection
from schemas.errors import RetryLater, Unavailable
from schemas.slack_payloads import EventCallback

Effect = Callable[[Connection, Desk, dict[str, Any]], Awaitable[None]]


async def receive(desk: Desk, callback: EventCallback) -> Response[Any]:
    """Takes in an event, once: its id is kept in the transaction of its effect. An error is an error to Slack, too, which then
    sends it again: it would be lost if we said that all is well. Raises Unavailable."""
    effect = EFFECTS.get(str(callback.event.get("type")))
    if effect is None:
        return nothing()
    try:
        if callback.team_id != await desk.slack.team(seconds=PROFILE_SECONDS):
            return nothing()
    except (SlackAway, SlackRefuses, RetryLater):
        raise Unavailable("Slack does not say which workspace is ours; send this again.") from None

    async def take_in() -> None:
        async with desk.transaction() as conn:
            if await slack_receipts.first_time(conn, f"event:{callback.event_id}"):
                await effect(conn, desk, callback.event)

    await desk.database.promptly(take_in())
    return nothing()


async def _app_uninstalled(conn: Connection, desk: Desk, _: dict[str, Any]) -> None:
    await slack_posts.note_removal(conn, "the app was removed from the workspace", settings=desk.settings)
    await slack_people.forget(conn)


async def _tokens_revoked(conn: Connection, desk: Desk, event: dict[str, Any]) -> None:
    tokens = event.get("tokens")
    if isinstance(tokens, dict) and tokens.get("bot"):
        await slack_posts.note_removal(conn, "the bot token was revoked", settings=desk.settings)


async def _user_change(conn: Connection, _: Desk, event: dict[str, Any]) -> None:
    """Their address, or whether they are still there, may have changed."""
    user = event.get("user")
    slack_id = user.get("id") if isinstance(user, dict) else None
    if isinstance(slack_id, str):
        await slack_people.forget(conn, slack_id)


async def _channel_rename(conn: Connection, _: Desk, event: dict[str, Any]) -> None:
    channel = event.get("channel")
    channel_id, name = (channel.get("id"), channel.get("name")) if isinstance(channel, dict) else (None, None)
    if isinstance(channel_id, str) and isinstance(name, str) and name.strip():
        await channel_mappings.rename_channel(conn, channel_id, name.strip()[:200])


EFFECTS: dict[str, Effect] = {
    "app_uninstalled": _app_uninstalled,
    "tokens_revoked": _tokens_revoked,
    "user_change": _user_change,
    "channel_rename": _channel_rename,
    "group_rename": _channel_rename,  # a private channel
}

"""What the app may do in Slack, as Slack says now, and which channels belong to which customers."""

from typing import Any

from litestar import Response, get

from api.auth.auth import require_admin
from api.console.connections.overview import PATH
from api.console.pages import page
from api.dependencies import ApiRequest
from schemas.customers import channel_mappings
from schemas.slack.access.scopes import SCOPES
from schemas.slack.access.words import words
from schemas.slack.client_errors import SlackAccessLost, SlackRefused, SlackUnavailable

CALL_SECONDS = 3.0


@get(f"{PATH}/slack", guards=[require_admin])
async def show_slack(request: ApiRequest) -> Response[bytes]:
    """The scopes of the bot token, and the channels."""
    granted, problem = await _granted(request)
    async with request.database.connection() as conn:
        channels = await channel_mappings.with_customers(conn)
    values: dict[str, Any] = {"granted": granted, "problem": problem, "scopes": SCOPES, "channels": channels}
    return page(request, "connections/slack.html", **values)


async def _granted(request: ApiRequest) -> tuple[set[str], str]:
    """The scopes that Slack names; none, and why, if it does not answer or refuses."""
    if request.settings.slack_bot_token is None:
        return set(), "Slack is not set up here: set SLACK_BOT_TOKEN and SLACK_SIGNING_SECRET to those of your app."
    try:
        return await request.responder.slack.scopes(seconds=CALL_SECONDS), ""
    except SlackAccessLost as error:
        lost = words(error.code, error.needed)
        return set(), f"Slack refuses: {lost.text}. What to do: {lost.cure}"
    except (SlackRefused, SlackUnavailable):
        return set(), "Slack does not answer just now. Open this page again in a moment."

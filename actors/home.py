"""App Home: publishes a person's view. Whatever has changed meanwhile is in it: it is read when the message starts."""

import logging
from typing import Any

from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from actors.slack import CALL_SECONDS, LOOKUP_SECONDS, access_lost, non_retryable
from schemas import rate_limits
from schemas.errors import RetryAfter
from schemas.messages import PublishHome
from schemas.postgres.connection import Connection
from schemas.settings import settings
from schemas.slack import client, members
from schemas.slack.access import loss
from schemas.slack.client import Slack, SlackAccessLost, SlackRefused
from schemas.slack.home import content, homes, view
from schemas.slack.home.homes import Home
from schemas.slack.members import Caller

logger = logging.getLogger(__name__)

PUBLISH, USERS_INFO = "views.publish", "users.info"
NOTE_SECONDS = 600  # the result of a press is shown for that long
BUSY_SECONDS, LIMITED_SECONDS = 0.3, 2.0


@handles(PublishHome, calls_out=True)
async def publish_home(call: ExternalCall) -> None:
    """Shows a person's App Home, unless Slack shows the same already."""
    known, shown, before = settings(), None, None
    async with call.start() as (conn, message):
        slack_id: str = message.slack_id
        home = await homes.lock(conn, slack_id)
        if home is None:
            call.skip()
        elif await homes.is_published_by_another(conn, home, call.id):
            call.reschedule(BUSY_SECONDS)
        else:
            before = home.content_hash
            caller = await members.find_caller(conn, slack_id, None, settings=known)
            methods = (PUBLISH,) if caller.fresh else (PUBLISH, USERS_INFO)
            wait = await loss.wait_seconds(conn, methods, known)
            if wait is None and caller.fresh:
                shown = await _read(conn, home, caller)
            if wait is not None:
                call.reschedule(wait)
            elif shown is not None and view.content_hash(shown) == before:
                call.skip()
            elif not await rate_limits.try_consume(conn, homes.LIMIT):
                call.reschedule(LIMITED_SECONDS)
            else:
                await homes.mark_running(conn, home, call.id)
    assert home is not None
    async with call.timeout(), client.open_client(known) as slack:
        if shown is None:
            home, caller, shown = await _read_with_profile(call, slack, slack_id)
        is_same = view.content_hash(shown) == before
        view_hash = home.view_hash if is_same else await _publish(call, slack, home, caller, shown)
    async with call.complete() as conn:
        if not is_same:
            await loss.record_found(conn, PUBLISH, known)
        await homes.mark_shown(conn, slack_id, content_hash=view.content_hash(shown), view_hash=view_hash)


async def _read(conn: Connection, home: Home, caller: Caller) -> dict[str, Any]:
    """The view of the locked Home, as its person sees it."""
    known, user = settings(), caller.user
    await homes.mark_read(conn, home, user_id=user.id if user else None, is_admin=user is not None and user.is_admin)
    if user is None:
        return view.refusal(caller.refusal or "")
    found = await content.read(conn, user, known)
    is_recent = home.noted_at is not None and (found.now - home.noted_at).total_seconds() < NOTE_SECONDS
    return view.home(found, app_url=known.app_url, note=home.note if is_recent else "", noted_at=home.noted_at)


async def _read_with_profile(call: ExternalCall, slack: Slack, slack_id: str) -> tuple[Home, Caller, dict[str, Any]]:
    """The view, after the person's profile was requested from Slack."""
    known = settings()
    try:
        team = await slack.team(seconds=LOOKUP_SECONDS)
        profile = await slack.user(slack_id, team=team, seconds=LOOKUP_SECONDS)
    except SlackAccessLost as error:
        raise await access_lost(call, error) from error
    except SlackRefused as error:
        raise non_retryable(error) from error
    except RetryAfter as error:
        await _pause(call, error)
        raise
    async with call.record_under_lease() as conn:
        await members.save_profile(conn, profile)
        await loss.record_found(conn, USERS_INFO, known)
        home = await homes.lock(conn, slack_id) or Home(slack_id, None, None, None, "", None)
        caller = await members.find_caller(conn, slack_id, None, settings=known)
        return home, caller, await _read(conn, home, caller)


async def _publish(call: ExternalCall, slack: Slack, home: Home, caller: Caller, shown: dict[str, Any]) -> str | None:
    """Publishes, and returns Slack's hash of the view."""
    try:
        return await slack.publish_home(home.slack_id, shown, view_hash=home.view_hash, seconds=CALL_SECONDS)
    except SlackAccessLost as error:
        raise await access_lost(call, error) from error
    except SlackRefused as error:
        if error.code == "hash_conflict":  # the response to an earlier publish was lost
            async with call.record_under_lease() as conn:
                await homes.forget_view_hash(conn, home.slack_id)
            raise RetryAfter(BUSY_SECONDS, "Slack shows a view that Stint does not know") from error
        if caller.user is not None:
            raise non_retryable(error) from error
        logger.info("Slack refused the Home of a person who may not use Stint code=%s", error.code)
        return None
    except RetryAfter as error:
        await _pause(call, error)
        raise


async def _pause(call: ExternalCall, error: RetryAfter) -> None:
    """Lets no Home be published until Slack takes calls again."""
    async with call.record_under_lease() as conn:
        await rate_limits.pause(conn, homes.LIMIT, seconds=error.seconds)

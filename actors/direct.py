"""Direct messages in Slack, of which each is posted once.

Stint cannot read direct messages. So if the response to one is lost, it is not sent again: its outbox message becomes a dead
letter, and a person decides whether to replay it.
"""

import random
from collections.abc import Awaitable, Callable

from actors.runtime.external_calls import ExternalCall
from actors.slack import LOOK_UP, MAX_SLEEP_SECONDS, POST, find_profile, mark_not_posted, post_once
from schemas import rate_limits
from schemas.errors import NonRetryable, RetryAfter
from schemas.postgres.connection import Connection
from schemas.rate_limits import Limit
from schemas.settings import settings
from schemas.slack import client, members, posts
from schemas.slack.access import loss
from schemas.slack.approvals.direct import DirectMessage, Wait
from schemas.slack.client import Slack, SlackUnavailable
from schemas.slack.posts import Post, Slot

OUTCOME_UNKNOWN = (
    "the response to a direct message was lost, so that it may have arrived: replay this message to send it again, or "
    "discard it"
)
Built = DirectMessage | Wait | None
# Messages for everybody become due at the same time. Slack allows "50+ per minute" of users.lookupByEmail; the messages that
# wait for that come back at different times.
LOOK_UPS = Limit("slack-look-ups", burst=40, seconds=1.3)
LOOK_UP_AGAIN_SECONDS = (5.0, 60.0)


async def prepare(conn: Connection, call: ExternalCall, built: Built) -> tuple[DirectMessage, str | None] | None:
    """Within `call.start`: the message, and the id of its recipient in Slack if it is known. None if there is nothing to send,
    or if the message waits, also until Slack gives access, or takes more look-ups."""
    if built is None:
        call.skip()
        return None
    if isinstance(built, Wait):
        call.reschedule(built.seconds)
        return None
    member = await members.find_member(conn, built.email)
    wait = await loss.wait_seconds(conn, (POST,) if member is not None else (POST, LOOK_UP), settings())
    if wait is not None:
        call.reschedule(wait)
        return None
    if member is None and not await rate_limits.try_consume(conn, LOOK_UPS):
        call.reschedule(random.uniform(*LOOK_UP_AGAIN_SECONDS))  # noqa: S311 - not a secret
        return None
    return built, member.slack_id if member is not None else None


async def post(
    call: ExternalCall,
    direct: DirectMessage,
    slack_id: str | None,
    *,
    again: Callable[[Connection], Awaitable[Built]] | None = None,
) -> None:
    """Posts a direct message, unless nobody in our workspace has that e-mail address. `again` builds it once more after its
    recipient was found in Slack, whose time zone is known then."""
    built: Built = direct
    async with call.timeout(), client.open_client(settings()) as slack:
        if slack_id is None:
            slack_id = await _find_slack_id(call, slack, direct.email)
            if slack_id is not None and again is not None:
                async with call.record_under_lease() as conn:
                    built = await again(conn)
        slot = posted = None
        if slack_id is not None and isinstance(built, DirectMessage):
            slot = await _reserve_slot(call, slack_id)
            if slot.wait_seconds <= MAX_SLEEP_SECONDS:
                posted = await _post(call, slack, Post(slack_id, built.text, built.blocks), slot)
    async with call.complete() as conn:
        if posted is not None:
            await posts.mark_posted(conn, call.id, *posted)
            await loss.record_found(conn, POST, settings())
        elif slot is not None:
            call.reschedule(slot.wait_seconds)
        elif isinstance(built, Wait):
            call.reschedule(built.seconds)


async def _find_slack_id(call: ExternalCall, slack: Slack, email: str) -> str | None:
    try:
        profile = await find_profile(slack, call, email)
    except RetryAfter as error:
        async with call.record_under_lease() as conn:
            await rate_limits.pause(conn, LOOK_UPS, seconds=error.seconds)
        raise
    async with call.record_under_lease() as conn:
        await loss.record_found(conn, LOOK_UP, settings())
        if profile is not None:
            await members.save_profile(conn, profile)
    return profile.slack_id if profile is not None and profile.refusal is None else None


async def _reserve_slot(call: ExternalCall, slack_id: str) -> Slot:
    async with call.record_under_lease() as conn:
        return await posts.reserve_slot(conn, call.id, slack_id, max_wait_seconds=MAX_SLEEP_SECONDS)


async def _post(call: ExternalCall, slack: Slack, post: Post, slot: Slot) -> tuple[str, str]:
    if slot.unknown_since is not None:
        raise NonRetryable(OUTCOME_UNKNOWN)
    try:
        return await post_once(slack, call, post, slot)
    except SlackUnavailable as error:
        if error.answered:
            await mark_not_posted(call, post)
        raise

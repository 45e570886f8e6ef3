"""Messages in Slack about time bills to approve: the message of the day to admins, the list after a decision, and to a bill's
owner, who rejected it.

Stint cannot read direct messages. So if the response to one is lost, it is not sent again: its outbox message becomes a dead
letter, and a person decides whether to replay it.
"""

from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from actors.slack import (
    CALL_SECONDS,
    LOOK_UP,
    MAX_SLEEP_SECONDS,
    POST,
    find_profile,
    ignore_expired,
    mark_not_posted,
    post_once,
)
from schemas.errors import NonRetryable
from schemas.messages import PostApprovals, ShowApprovals, TellRejection
from schemas.postgres.connection import Connection
from schemas.settings import settings
from schemas.slack import client, members, posts
from schemas.slack.access import loss
from schemas.slack.approvals import blocks, daily, pending, people, rejections
from schemas.slack.approvals.direct import DirectMessage
from schemas.slack.client import Slack, SlackUnavailable
from schemas.slack.posts import Post, Slot

OUTCOME_UNKNOWN = (
    "the response to a direct message was lost, so that it may have arrived: replay this message to send it again, or "
    "discard it"
)


@handles(PostApprovals, calls_out=True)
async def post_approvals(call: ExternalCall) -> None:
    """Sends an admin the time bills to approve, if there are any."""
    async with call.start() as (conn, message):
        ready = await _prepare(conn, call, await daily.build(conn, message, settings=settings()))
    assert ready is not None
    await _send(call, *ready)


@handles(TellRejection, calls_out=True)
async def tell_rejection(call: ExternalCall) -> None:
    """Sends the owner of a rejected time bill who rejected it, and why."""
    async with call.start() as (conn, message):
        ready = await _prepare(conn, call, await rejections.build(conn, message, settings=settings()))
    assert ready is not None
    await _send(call, *ready)


@handles(ShowApprovals, calls_out=True)
async def show_approvals(call: ExternalCall) -> None:
    """Replaces an admin's list by the present one, with the result of a decision above it."""
    known = settings()
    async with call.start() as (conn, message):
        shown: ShowApprovals = message
        heading, listed = "", [blocks.section(shown.text)]
        if await people.find_admin(conn, shown.user_id, settings=known) is not None:
            bills = await pending.list_pending(conn, zone=known.stint_timezone, only_customer=shown.customer_id)
            heading, listed = blocks.bill_list(bills, note=shown.text, app_url=known.app_url)
    content = {"text": f"{shown.text}\n{heading}".strip(), "blocks": listed, "replace_original": True}
    async with call.timeout(), client.open_client(known) as slack:
        await ignore_expired(slack.respond(shown.response_url, content, seconds=CALL_SECONDS))
    async with call.complete():
        pass


async def _prepare(
    conn: Connection, call: ExternalCall, direct: DirectMessage | None
) -> tuple[DirectMessage, str | None] | None:
    """The message, and the id of its recipient in Slack if it is known. None if there is nothing to send, or if the message
    waits until Slack gives access."""
    if direct is None:
        call.skip()
        return None
    member = await members.find_member(conn, direct.email)
    wait = await loss.wait_seconds(conn, (POST,) if member is not None else (POST, LOOK_UP), settings())
    if wait is not None:
        call.reschedule(wait)
        return None
    return direct, member.slack_id if member is not None else None


async def _send(call: ExternalCall, direct: DirectMessage, slack_id: str | None) -> None:
    """Sends a direct message, unless nobody in our workspace has that e-mail address."""
    async with call.timeout(), client.open_client(settings()) as slack:
        if slack_id is None:
            slack_id = await _find_slack_id(call, slack, direct.email)
        slot = await _reserve_slot(call, slack_id) if slack_id is not None else None
        posted = None
        if slot is not None and slack_id is not None and slot.wait_seconds <= MAX_SLEEP_SECONDS:
            posted = await _post(call, slack, Post(slack_id, direct.text, direct.blocks), slot)
    async with call.complete() as conn:
        if posted is not None:
            await posts.mark_posted(conn, call.id, *posted)
            await loss.record_found(conn, POST, settings())
        elif slot is not None:
            call.reschedule(slot.wait_seconds)


async def _find_slack_id(call: ExternalCall, slack: Slack, email: str) -> str | None:
    profile = await find_profile(slack, call, email)
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

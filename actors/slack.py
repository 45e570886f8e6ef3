"""Calls to Slack that are not part of an HTTP request: confirmations, answers, updates of modals, and nudges.

If the response to a post is lost, Stint does not know whether Slack has the post. In a channel whose history the app may read,
Stint searches for the outbox message's id in the posts' metadata. Elsewhere it posts again and logs that.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import handles
from schemas.errors import NonRetryable, RetryAfter
from schemas.messages import AnswerSlack, CheckSlackAccess, NudgeOwner, PostTaskCreated, PreviewLinks, UpdateView
from schemas.postgres.connection import Connection
from schemas.settings import settings
from schemas.slack import client, members, nudges, posts, updates
from schemas.slack.access import loss
from schemas.slack.access.words import OF_A_CHANNEL
from schemas.slack.client import Profile, Slack, SlackAccessLost, SlackRefused, SlackUnavailable
from schemas.slack.commands import previews
from schemas.slack.commands.previews import Previews
from schemas.slack.members import Caller
from schemas.slack.posts import Post, Slot

logger = logging.getLogger(__name__)

MAX_SLEEP_SECONDS = 1.0  # a worker sleeps at most this long until a slot; for a later slot the message is rescheduled
CALL_SECONDS = updates.CALL_SECONDS
LOOKUP_SECONDS = 3.0
POST, LOOK_UP, UNFURL = "chat.postMessage", "users.lookupByEmail", "chat.unfurl"
# the modal was closed, or the response_url has expired: the user does not wait for this any more
EXPIRED_CODES = {"not_found", "expired_trigger_id", "hash_conflict", "status_404", "status_410"}
EXPIRED_CODES |= {"cannot_find_message", "cannot_unfurl_message", "cannot_unfurl_url"}  # the message with the links is gone


@handles(AnswerSlack, calls_out=True)
async def answer_slack(call: ExternalCall) -> None:
    """Answers a button or a message action at its response_url."""
    async with call.start() as (conn, message):
        answer: AnswerSlack = message
        if answer.message_key is not None and not await updates.is_latest(conn, answer.message_key, answer.version):
            call.skip()
    content: dict[str, Any] = {"text": answer.text, "replace_original": answer.replace}
    if answer.blocks is not None:
        content["blocks"] = answer.blocks
    if not answer.replace:
        content |= {"response_type": "ephemeral"}
    async with call.timeout(), client.open_client(settings()) as slack:
        await ignore_expired(slack.respond(answer.response_url, content, seconds=CALL_SECONDS))
    async with call.complete():
        pass


@handles(UpdateView, calls_out=True)
async def update_view(message: UpdateView) -> None:
    """Replaces the content of an open modal."""
    async with client.open_client(settings()) as slack:
        await ignore_expired(slack.update_view(message.view_id, message.view, seconds=CALL_SECONDS))


@handles(PostTaskCreated, calls_out=True)
async def post_task_created(call: ExternalCall) -> None:
    """Posts the confirmation of a task that was created in Slack."""
    async with call.start() as (conn, message):
        post = await posts.build_confirmation(conn, message, settings=settings())
        if post is None:
            call.skip()
        elif (wait := await loss.wait_seconds(conn, (POST,), settings())) is not None:
            call.reschedule(wait)
        else:
            slot = await reserve_slot(conn, call, post.channel_id)
    assert post is not None
    async with call.timeout(), client.open_client(settings()) as slack:
        posted = await post_once(slack, call, post, slot)
    async with call.complete() as conn:
        await posts.mark_posted(conn, call.id, *posted)
        await loss.record_found(conn, POST, settings())


@handles(PreviewLinks, calls_out=True)
async def preview_links(call: ExternalCall) -> None:
    """Shows what links to tasks lead to, in the channel of their customer."""
    known = settings()

    async def build(conn: Connection, message: PreviewLinks) -> tuple[Caller, Previews]:
        caller = await members.find_caller(conn, message.slack_user_id, message.channel_id, settings=known)
        return caller, await previews.build(conn, message, caller, settings=known)

    async with call.start() as (conn, message):
        caller, found = await build(conn, message)
        if caller.is_known and not found:
            call.skip()
        elif (wait := await loss.wait_seconds(conn, (UNFURL,), known)) is not None:
            call.reschedule(wait)
    async with call.timeout(), client.open_client(known) as slack:
        try:
            if not caller.is_known:
                team = await slack.team(seconds=LOOKUP_SECONDS)
                profile = await slack.user(message.slack_user_id, team=team, seconds=LOOKUP_SECONDS)
                async with call.record_under_lease() as conn:
                    await members.save_profile(conn, profile)
                    _, found = await build(conn, message)
            if found:
                await slack.unfurl(message.unfurl_id, message.source, found, seconds=CALL_SECONDS)
                async with call.record_under_lease() as conn:
                    await loss.record_found(conn, UNFURL, known)
        except SlackAccessLost as error:
            raise await access_lost(call, error) from error
        except SlackRefused as error:
            if error.code not in EXPIRED_CODES:
                raise non_retryable(error) from error
    async with call.complete():
        pass


@handles(NudgeOwner, calls_out=True)
async def nudge_owner(call: ExternalCall) -> None:
    """Asks a user whose timer has run for hours whether it should go on."""
    known, ready, posted = settings(), None, None
    async with call.start() as (conn, message):
        nudge: NudgeOwner = message
        overdue = await nudges.get_timer(conn, nudge, hours=known.stint_nudge_hours)
        if overdue is not None and not overdue.due:
            await nudges.postpone(conn, overdue, nudge, hours=known.stint_nudge_hours)
        elif overdue is not None:
            ready = await posts.build_nudge(conn, nudge, overdue, settings=known)
        if overdue is None or ready is None:
            call.skip()
        else:
            member = await members.find_member(conn, overdue.email)
            wait = await loss.wait_seconds(conn, (POST,) if member is not None else (POST, LOOK_UP), known)
            if wait is not None:
                call.reschedule(wait)
                return
            slot = await reserve_slot(conn, call, member.slack_id if member else overdue.email)
    assert overdue is not None and ready is not None
    async with call.timeout(), client.open_client(known) as slack:
        owner = member or await find_profile(slack, call, overdue.email)
        if owner is not None and owner.refusal is None:
            posted = await post_once(slack, call, ready.post(owner, known), slot)
    async with call.complete() as conn:
        if member is None:
            await loss.record_found(conn, LOOK_UP, known)
            if owner is not None:
                await members.save_profile(conn, owner)
        if posted is not None:
            await posts.mark_posted(conn, call.id, *posted)
            await loss.record_found(conn, POST, known)


@handles(CheckSlackAccess, calls_out=True)
async def check_slack_access(call: ExternalCall) -> None:
    """Asks Slack about the bot token, if Slack has refused a call to it. Runs again until access is there."""
    async with call.start() as (conn, _):
        if not await loss.is_lost(conn):
            call.skip()
    answer: set[str] | SlackAccessLost | None = None
    try:
        async with call.timeout(), client.open_client(settings()) as slack:
            answer = await slack.scopes(seconds=CALL_SECONDS)
    except SlackAccessLost as error:
        answer = error
    except (SlackRefused, SlackUnavailable, RetryAfter, TimeoutError) as error:
        logger.info("Slack did not answer the check of access error=%s", type(error).__name__)
    async with call.complete() as conn:
        seconds = await loss.record_check(conn, answer, settings())
        if seconds is not None:
            call.reschedule(max(1.0, seconds))


async def find_profile(slack: Slack, call: ExternalCall, email: str) -> Profile | None:
    try:
        return await slack.user_by_email(email, team=await slack.team(seconds=LOOKUP_SECONDS), seconds=LOOKUP_SECONDS)
    except SlackAccessLost as error:
        raise await access_lost(call, error) from error
    except SlackRefused as error:
        raise non_retryable(error) from error


async def reserve_slot(conn: Connection, call: ExternalCall, channel_id: str) -> Slot:
    """The message's slot in the channel. If it is more than MAX_SLEEP_SECONDS away, the message is rescheduled."""
    slot = await posts.reserve_slot(conn, call.id, channel_id, max_wait_seconds=MAX_SLEEP_SECONDS)
    if slot.wait_seconds > MAX_SLEEP_SECONDS:
        call.reschedule(slot.wait_seconds)
    return slot


async def post_once(slack: Slack, call: ExternalCall, post: Post, slot: Slot) -> tuple[str, str]:
    """Posts, unless an earlier attempt's post is found. Returns the channel and the ts of the post."""
    if slot.unknown_since is not None:
        channel_id = slot.unknown_channel_id
        found = await slack.find_posted(channel_id, message_id=call.id, since=slot.unknown_since, seconds=LOOKUP_SECONDS)
        if found is not None:
            return channel_id, found
        logger.warning("posting this again: the response to the last attempt was lost, so it may be posted twice")
    await asyncio.sleep(slot.wait_seconds)
    try:
        try:
            ts = await slack.post(post.channel_id, post.text, post.blocks, message_id=call.id, seconds=CALL_SECONDS)
        except SlackRefused as error:
            if post.fallback_user_id is None or (isinstance(error, SlackAccessLost) and error.code not in OF_A_CHANNEL):
                raise
            logger.info("the channel refused the post code=%s; sending a direct message to the task's creator", error.code)
            ts = await slack.post(post.fallback_user_id, post.text, post.blocks, message_id=call.id, seconds=CALL_SECONDS)
            return post.fallback_user_id, ts
        return post.channel_id, ts
    except SlackAccessLost as error:
        await mark_not_posted(call, post)
        raise await access_lost(call, error) from error
    except SlackRefused as error:
        await mark_not_posted(call, post)
        raise non_retryable(error) from error
    except RetryAfter as error:
        await mark_not_posted(call, post, pause_seconds=error.seconds)
        raise
    except SlackUnavailable as error:
        if error.not_sent:
            await mark_not_posted(call, post)
        raise


async def mark_not_posted(call: ExternalCall, post: Post, *, pause_seconds: float = 0) -> None:
    async with call.record_under_lease() as conn:
        await posts.mark_not_posted(conn, call.id, post.channel_id, pause_seconds=pause_seconds)


async def access_lost(call: ExternalCall, error: SlackAccessLost) -> RetryAfter:
    """Records that Slack refuses the method. The message waits, and no attempt is counted."""
    async with call.record_under_lease() as conn:
        await loss.record_loss(conn, error, settings())
    return RetryAfter(settings().stint_slack_access_seconds, str(error))


async def ignore_expired(request: Awaitable[None]) -> None:
    try:
        await request
    except SlackRefused as error:
        if error.code not in EXPIRED_CODES:
            raise non_retryable(error) from error
        logger.info("the user does not wait for this answer any more code=%s", error.code)


def non_retryable(error: SlackRefused) -> NonRetryable:
    return NonRetryable(
        f"Slack refused the call: {error.code}. docs/slack.md lists what the app needs; fix that, then replay this message."
    )

"""What happens behind the queue in Slack: confirmations, answers, and nudges.

Slack cannot tell whether a message whose answer was lost has arrived, but in channels that we may read we can look: it carries
our message's id. Elsewhere it is posted again, and that is logged.
"""

import asyncio
import logging
from collections.abc import Awaitable

from actors.calling import CallOut
from actors.deliveries import handles
from schemas import nudges, slack_people, slack_posts
from schemas.clients import slack
from schemas.clients.slack import Profile, Slack, SlackAway, SlackRefuses
from schemas.database import Connection
from schemas.errors import Permanent, RetryLater
from schemas.messages import AnswerSlack, NudgeOwner, PostTaskCreated, UpdateView
from schemas.settings import settings
from schemas.slack_posts import Post, Turn

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
CALL_SECONDS = 4.0
LOOK_SECONDS = 3.0
# the person went on meanwhile: there is nothing left to answer, or to fill in
OVER = {"not_found", "expired_trigger_id", "hash_conflict", "status_404", "status_410"}


@handles(AnswerSlack, calls_out=True)
async def answer_slack(work: CallOut) -> None:
    """Says something to whoever pressed a button or chose an action."""
    async with work.begin() as (_, message):
        answer: AnswerSlack = message
    content = {"text": answer.text, "replace_original": answer.replace}
    if not answer.replace:
        content |= {"response_type": "ephemeral"}
    async with work.calling(), slack.connected(settings()) as api:
        await _unless_over(api.answer(answer.response_url, content, seconds=CALL_SECONDS))
    async with work.settle():
        pass


@handles(UpdateView, calls_out=True)
async def update_view(work: CallOut) -> None:
    """Fills a modal that is open."""
    async with work.begin() as (_, message):
        wanted: UpdateView = message
    async with work.calling(), slack.connected(settings()) as api:
        await _unless_over(api.update_view(wanted.view_id, wanted.view, seconds=CALL_SECONDS))
    async with work.settle():
        pass


@handles(PostTaskCreated, calls_out=True)
async def post_task_created(work: CallOut) -> None:
    """Confirms a task that was created in Slack."""
    async with work.begin() as (conn, message):
        post = await slack_posts.confirmation(conn, message, settings=settings())
        if post is None:
            work.finish()
        else:
            turn = await _turn(conn, work, post.channel_id)
    assert post is not None
    async with work.calling(), slack.connected(settings()) as api:
        posted = await _post(api, work, post, turn)
    async with work.settle() as conn:
        await slack_posts.went_out(conn, work.id, *posted)


@handles(NudgeOwner, calls_out=True)
async def nudge_owner(work: CallOut) -> None:
    """Asks whose timer still runs whether that is right."""
    known, post, posted = settings(), None, None
    async with work.begin() as (conn, message):
        asked: NudgeOwner = message
        overdue = await nudges.look(conn, asked, hours=known.stint_nudge_hours)
        if overdue is not None and not overdue.due:
            await nudges.plan(conn, asked.timer_id, user_id=asked.user_id, start_time=overdue.start_time)
        elif overdue is not None:
            post = await slack_posts.nudge(conn, asked, overdue, settings=known)
        if overdue is None or post is None:
            work.finish()
        else:
            slack_id = await slack_people.slack_id_of(conn, overdue.email)
            turn = await _turn(conn, work, slack_id or overdue.email)
    assert overdue is not None and post is not None
    async with work.calling(), slack.connected(known) as api:
        owner = await _owner(api, overdue.email) if slack_id is None else Profile(slack_id, overdue.email, None)
        if owner is not None and owner.refusal is None:
            posted = await _post(api, work, Post(owner.slack_id, post.text, post.blocks), turn)
    async with work.settle() as conn:
        if owner is not None and slack_id is None:
            await slack_people.remember(conn, owner)
        if posted is not None:
            await slack_posts.went_out(conn, work.id, *posted)


async def _owner(api: Slack, email: str) -> Profile | None:
    try:
        return await api.user_by_email(email, team=await api.team(seconds=LOOK_SECONDS), seconds=LOOK_SECONDS)
    except SlackRefuses as error:
        raise _hopeless(error) from error


async def _turn(conn: Connection, work: CallOut, channel_id: str) -> Turn:
    """The message's turn in the channel; one that is far away is waited for in the ledger."""
    turn = await slack_posts.take_turn(conn, work.id, channel_id, patience_seconds=PATIENCE_SECONDS)
    if turn.wait_seconds > PATIENCE_SECONDS:
        work.put_off(turn.wait_seconds)
    return turn


async def _post(api: Slack, work: CallOut, post: Post, turn: Turn) -> tuple[str, str]:
    """Posts once, as far as anybody can know; returns in which channel that is, and the ts."""
    if turn.unsure_since is not None:
        found = await api.find_posted(turn.unsure_in, message_id=work.id, since=turn.unsure_since, seconds=LOOK_SECONDS)
        if found is not None:
            return turn.unsure_in, found
        logger.warning("posting this again; should the attempt before have arrived, it is there twice")
    await asyncio.sleep(turn.wait_seconds)
    try:
        try:
            ts = await api.post(post.channel_id, post.text, post.blocks, message_id=work.id, seconds=CALL_SECONDS)
        except SlackRefuses as error:
            if post.else_to is None:
                raise
            logger.info("the channel does not take it (%s); telling its creator alone", error.code)
            ts = await api.post(post.else_to, post.text, post.blocks, message_id=work.id, seconds=CALL_SECONDS)
            return post.else_to, ts
        return post.channel_id, ts
    except SlackRefuses as error:
        await _did_not_go(work, post)
        raise _hopeless(error) from error
    except RetryLater as error:
        await _did_not_go(work, post, held_back_seconds=error.seconds)
        raise
    except SlackAway as error:
        if error.unsent:
            await _did_not_go(work, post)
        raise


async def _did_not_go(work: CallOut, post: Post, *, held_back_seconds: float = 0) -> None:
    async with work.noting() as conn:
        await slack_posts.did_not_go(conn, work.id, post.channel_id, held_back_seconds=held_back_seconds)


async def _unless_over(call: Awaitable[None]) -> None:
    try:
        await call
    except SlackRefuses as error:
        if error.code not in OVER:
            raise _hopeless(error) from error
        logger.info("nobody waits for this any more: %s", error.code)


def _hopeless(error: SlackRefuses) -> Permanent:
    return Permanent(f"Slack refuses it: {error.code}. docs/slack.md says what the app needs; mend that, then replay this.")

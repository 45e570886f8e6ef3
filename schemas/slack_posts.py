"""What is posted into Slack: where it may be seen, when its turn comes, and whether it went out already.

Slack takes about one message a second for a channel. Each message reserves the next place of its channel, so that all workers
together keep to that, and none of them waits for more than its own.
"""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from schemas import limits, nudges, slack_tasks
from schemas.clients import slack_views
from schemas.clients.slack_views import Blocks
from schemas.database import Connection
from schemas.errors import Permanent
from schemas.limits import Limit
from schemas.messages import NudgeOwner, PostTaskCreated
from schemas.settings import Settings

PACE = Limit("slack-channel", burst=1, seconds=1)
GONE = "Slack took our bot token back: install the app again, set the new SLACK_BOT_TOKEN, restart, and replay this message."


@dataclass(frozen=True)
class Post:
    """A message to a channel, or to a person when the channel is a user's id; `else_to` is who gets it when the channel does
    not take it."""

    channel_id: str
    text: str
    blocks: Blocks
    else_to: str | None = None


@dataclass(frozen=True)
class Turn:
    """When a post may go out, and since when (seconds since 1970) an earlier one may be there, in which channel."""

    wait_seconds: float
    unsure_since: float | None = None
    unsure_in: str = ""


async def confirmation(conn: Connection, message: PostTaskCreated, *, settings: Settings) -> Post | None:
    """The confirmation of a task: into the channel if that belongs to the task's customer, else to its creator alone. None when
    the task is gone. Raises Permanent when our token is of no use."""
    cursor = await conn.execute(
        """
        SELECT EXISTS (SELECT FROM slack_channel_mappings m
                       WHERE m.channel_id = %s AND m.customer_id = t.customer_id AND m.deleted_at IS NULL)
        FROM tasks t WHERE t.id = %s
        """,
        (message.channel_id, message.task_id),
    )
    row = await cursor.fetchone()
    task = await slack_tasks.shown(conn, message.task_id, settings=settings, only=None)
    if row is None or task is None:
        return None
    if await is_removed(conn, settings):
        raise Permanent(GONE)
    text, blocks = slack_views.created(task, by=message.slack_user_id)
    if row[0]:
        return Post(message.channel_id, text, blocks, else_to=message.slack_user_id)
    return Post(message.slack_user_id, text, blocks)


async def nudge(conn: Connection, message: NudgeOwner, overdue: nudges.Overdue, *, settings: Settings) -> Post | None:
    """The nudge, without knowing yet who its owner is in Slack. None when there is nobody to ask, or nowhere."""
    task = await slack_tasks.shown(conn, overdue.task_id, settings=settings, only=None)
    if task is None or await is_removed(conn, settings):
        return None
    text, blocks = slack_views.nudge(task, timer_id=message.timer_id, hours=slack_tasks.spoken(overdue.seconds))
    return Post("", text, blocks)


async def take_turn(conn: Connection, message_id: UUID, channel_id: str, *, patience_seconds: float) -> Turn:
    """The message's turn in the channel. Within the patience it is noted as begun, and has to be followed by the call."""
    cursor = await conn.execute(
        """
        SELECT due_at, channel_id, extract(epoch FROM begun_at)::float FROM slack_posts WHERE message_id = %s
        """,
        (message_id,),
    )
    row = await cursor.fetchone()
    due_at, begun_in, begun_at = row if row is not None else (None, "", None)
    if due_at is None:
        due_at = await limits.reserve(conn, PACE, channel_id)
    cursor = await conn.execute(
        """
        WITH turn AS (SELECT extract(epoch FROM %(due)s - clock_timestamp())::float AS wait)
        INSERT INTO slack_posts AS p (message_id, channel_id, due_at, begun_at)
        SELECT %(id)s, %(channel)s, CASE WHEN wait > %(patience)s THEN %(due)s END,
               CASE WHEN wait <= %(patience)s THEN clock_timestamp() END FROM turn
        ON CONFLICT (message_id) DO UPDATE
        SET due_at = excluded.due_at, begun_at = coalesce(p.begun_at, excluded.begun_at),
            -- where an earlier attempt may have arrived is known until the next one begins
            channel_id = CASE WHEN p.begun_at IS NULL OR excluded.due_at IS NULL THEN excluded.channel_id ELSE p.channel_id END
        RETURNING (SELECT wait FROM turn)
        """,
        {"id": message_id, "channel": channel_id, "due": due_at, "patience": patience_seconds},
    )
    row = await cursor.fetchone()
    assert row is not None
    return Turn(max(0.0, row[0]), begun_at, begun_in)


async def did_not_go(conn: Connection, message_id: UUID, channel_id: str, *, held_back_seconds: float = 0) -> None:
    """Slack did not take it, and said so, perhaps with how long nothing is to come."""
    await conn.execute("UPDATE slack_posts SET begun_at = NULL WHERE message_id = %s", (message_id,))
    if held_back_seconds:
        await limits.hold_back(conn, PACE, channel_id, seconds=held_back_seconds)
        await conn.execute("DELETE FROM slack_posts WHERE message_id = %s", (message_id,))


async def went_out(conn: Connection, message_id: UUID, channel_id: str, ts: str) -> None:
    """It is there."""
    await conn.execute("UPDATE slack_posts SET channel_id = %s, ts = %s WHERE message_id = %s", (channel_id, ts, message_id))


async def is_removed(conn: Connection, settings: Settings) -> bool:
    """Whether Slack has told us that our token is of no use any more."""
    cursor = await conn.execute("SELECT 1 FROM slack_removals WHERE token_hash = %s", (_hash(settings),))
    return await cursor.fetchone() is not None


async def note_removal(conn: Connection, reason: str, *, settings: Settings) -> None:
    """Remembers that our token is of no use any more."""
    await conn.execute(
        "INSERT INTO slack_removals (token_hash, reason) VALUES (%s, %s) ON CONFLICT (token_hash) DO NOTHING",
        (_hash(settings), reason),
    )


def _hash(settings: Settings) -> bytes:
    token = settings.slack_bot_token
    return hashlib.sha256(token.get_secret_value().encode() if token else b"").digest()

"""Posts to Slack: to which channel, at what time, and whether Slack accepted them.

Slack accepts about one post a second in a channel. Each post reserves the channel's next free slot, so that all workers
together stay within that rate.
"""

from dataclasses import dataclass
from uuid import UUID

from schemas import rate_limits
from schemas.messages import NudgeOwner, PostTaskCreated
from schemas.postgres.connection import Connection
from schemas.rate_limits import Limit
from schemas.settings import Settings
from schemas.slack import task_actions, views
from schemas.slack.client import Profile
from schemas.slack.commands import likely_ends
from schemas.slack.commands import views as command_views
from schemas.slack.commands.likely_ends import RunningSince
from schemas.slack.nudges import LongRunningTimer
from schemas.slack.typed import times
from schemas.slack.views import AnyBlocks, TaskSummary

CHANNEL_LIMIT = Limit("slack-channel", burst=1, seconds=1)


@dataclass(frozen=True)
class Post:
    """A post to a channel, or to a user if `channel_id` is a user's id. If the channel refuses it, it goes to
    `fallback_user_id`."""

    channel_id: str
    text: str
    blocks: AnyBlocks
    fallback_user_id: str | None = None


@dataclass(frozen=True)
class Slot:
    """When a post may be sent. `unknown_since` (seconds since 1970): an earlier attempt at that time, in the channel
    `unknown_channel_id`, may have succeeded."""

    wait_seconds: float
    unknown_since: float | None = None
    unknown_channel_id: str = ""


async def build_confirmation(conn: Connection, message: PostTaskCreated, *, settings: Settings) -> Post | None:
    """The confirmation of a new task: to the channel if that is mapped to the task's customer and not archived, else to the
    task's creator as a direct message. None if the task was deleted."""
    is_mapped = await conn.value(
        """
        SELECT EXISTS (SELECT FROM slack_channel_mappings m
                       WHERE m.channel_id = %s AND m.customer_id = t.customer_id AND m.deleted_at IS NULL
                         AND NOT m.archived)
        FROM tasks t WHERE t.id = %s
        """,
        (message.channel_id, message.task_id),
    )
    task = await task_actions.get_task(conn, message.task_id, settings=settings, only_customer=None)
    if is_mapped is None or task is None:
        return None
    text, blocks = views.task_created(task, by=message.slack_user_id)
    if is_mapped:
        return Post(message.channel_id, text, blocks, fallback_user_id=message.slack_user_id)
    return Post(message.slack_user_id, text, blocks)


@dataclass(frozen=True)
class Nudge:
    """What a nudge says; it becomes a post once its owner's Slack user is known."""

    task: TaskSummary
    timer: RunningSince
    hours: str

    def post(self, owner: Profile, settings: Settings) -> Post:
        """The nudge as a direct message, with times in the owner's time zone."""
        ends = command_views.stop_buttons(self.timer, times.zone_of(owner.tz, settings))
        text, blocks = views.timer_nudge(self.task, timer_id=self.timer.timer_id, hours=self.hours, ends=ends)
        return Post(owner.slack_id, text, blocks)


async def build_nudge(conn: Connection, message: NudgeOwner, overdue: LongRunningTimer, *, settings: Settings) -> Nudge | None:
    """The nudge for a timer that has run for hours. None if the task was deleted."""
    task = await task_actions.get_task(conn, overdue.task_id, settings=settings, only_customer=None)
    if task is None:
        return None
    timer = await likely_ends.read(conn, message.user_id, message.timer_id, settings=settings)
    return None if timer is None else Nudge(task, timer, task_actions.format_duration(overdue.seconds))


async def reserve_slot(conn: Connection, message_id: UUID, channel_id: str, *, max_wait_seconds: float) -> Slot:
    """The message's slot in the channel. If the wait is at most `max_wait_seconds`, the slot is used up and the post counts as
    started: the caller must make the call. Otherwise the message keeps the slot for its next attempt."""
    earlier = await conn.maybe(
        """
        SELECT slot_at, channel_id, extract(epoch FROM post_started_at)::float FROM slack_posts WHERE message_id = %s
        """,
        (message_id,),
    )
    slot_at, earlier_channel_id, started_at = earlier or (None, "", None)
    if slot_at is None:
        slot_at = await rate_limits.reserve(conn, CHANNEL_LIMIT, channel_id)
    wait_seconds = await conn.value(
        """
        WITH slot AS (SELECT extract(epoch FROM %(slot_at)s - clock_timestamp())::float AS wait)
        INSERT INTO slack_posts AS p (message_id, channel_id, slot_at, post_started_at)
        SELECT %(id)s, %(channel)s, CASE WHEN wait > %(max_wait)s THEN %(slot_at)s END,
               CASE WHEN wait <= %(max_wait)s THEN clock_timestamp() END FROM slot
        ON CONFLICT (message_id) DO UPDATE
        SET slot_at = excluded.slot_at, post_started_at = coalesce(p.post_started_at, excluded.post_started_at),
            -- the channel of an earlier attempt with an unknown outcome is kept until the next attempt starts
            channel_id = CASE WHEN p.post_started_at IS NULL OR excluded.slot_at IS NULL THEN excluded.channel_id
                              ELSE p.channel_id END
        RETURNING (SELECT wait FROM slot)
        """,
        {"id": message_id, "channel": channel_id, "slot_at": slot_at, "max_wait": max_wait_seconds},
    )
    return Slot(max(0.0, wait_seconds), started_at, earlier_channel_id)


async def mark_not_posted(conn: Connection, message_id: UUID, channel_id: str, *, pause_seconds: float = 0) -> None:
    """Records that Slack refused the post. With `pause_seconds`, nothing is posted to the channel for that long."""
    await conn.execute("UPDATE slack_posts SET post_started_at = NULL WHERE message_id = %s", (message_id,))
    if pause_seconds:
        await rate_limits.pause(conn, CHANNEL_LIMIT, channel_id, seconds=pause_seconds)
        await conn.execute("DELETE FROM slack_posts WHERE message_id = %s", (message_id,))


async def mark_posted(conn: Connection, message_id: UUID, channel_id: str, ts: str) -> None:
    """Records that Slack accepted the post."""
    await conn.execute("UPDATE slack_posts SET channel_id = %s, ts = %s WHERE message_id = %s", (channel_id, ts, message_id))

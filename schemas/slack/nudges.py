"""Nudges: reminders in Slack of timers that have run for hours. The owner is asked whether that is intended.

The rescuer of each relay finds the timers whose nudge is due. `slack_nudges` has a row for the person's timer, written in the
transaction that enqueues the message, so that several relays enqueue each nudge once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from schemas.messages import NudgeOwner
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings

MOST = 100  # in one transaction: the timers are locked meanwhile, and their owners' stops wait

# Whether the timer `t` has a nudge in the outbox that the version before has enqueued. One EXISTS for each partial index of
# `messages`: a single one with all conditions would read the whole table, once for each timer.
_IN_OUTBOX = " OR ".join(
    f"""EXISTS (SELECT FROM messages m WHERE m.actor = 'nudge_owner' AND m.body->>'timer_id' = t.id::text AND {condition})"""
    for condition in (
        "m.queue = 'slack' AND m.state = 'ready'",
        "m.queue = 'slack' AND m.state = 'sent'",
        "m.state = 'calling'",
        "m.state = 'dead'",
        "m.state = 'discarded'",
        "m.state = 'done' AND m.done_at >= t.start_time + make_interval(secs => %(seconds)s)",
    )
)


async def plan(conn: Connection, settings: Settings) -> int:
    """Enqueues the nudges that are due. Returns how many."""
    if settings.slack_bot_token is None:
        return 0
    count, may_be_more = 0, True
    while may_be_more:
        async with conn.transaction():
            # a plan that reads the whole outbox seems cheaper to Postgres: it cannot know how few messages are so recent
            await conn.execute("SET LOCAL enable_seqscan = off")
            claimed = await _claim(conn, hours=settings.stint_nudge_hours)
            due = [NudgeOwner(timer_id=timer, user_id=user) for timer, user, is_in_outbox in claimed if not is_in_outbox]
            if due:
                await outbox.enqueue_many(conn, due)
        count, may_be_more = count + len(due), len(claimed) == MOST
    return count


async def _claim(conn: Connection, *, hours: float) -> list[tuple[UUID, UUID, bool]]:
    """Records that up to MOST nudges which are due are enqueued. Returns the ids of their timers and owners, and whether a
    message is in the outbox already.

    The timers are locked, so that none is stopped meanwhile; those that another relay has locked are skipped. The version
    before enqueued a message when a timer started, and when its owner let it run on: such a message remains the only nudge.
    """
    return await conn.all(
        f"""
        WITH due AS (
            SELECT t.user_id, t.id AS timer_id, n.timer_id IS NULL AND ({_IN_OUTBOX}) AS is_in_outbox
            FROM timers t
            JOIN users u ON u.id = t.user_id
            LEFT JOIN slack_nudges n ON n.user_id = t.user_id AND n.timer_id = t.id
            WHERE t.start_time <= now() - make_interval(secs => %(seconds)s) AND u.revoked_at IS NULL
              AND (n.timer_id IS NULL OR n.next_at <= now())
            LIMIT %(most)s
            FOR NO KEY UPDATE OF t SKIP LOCKED
        ), claimed AS (
            INSERT INTO slack_nudges AS n (user_id, timer_id) SELECT user_id, timer_id FROM due ORDER BY user_id
            ON CONFLICT (user_id) DO UPDATE SET timer_id = excluded.timer_id, next_at = NULL
            WHERE n.timer_id <> excluded.timer_id OR n.next_at <= now()
            RETURNING user_id, timer_id
        )
        SELECT timer_id, user_id, is_in_outbox FROM claimed JOIN due USING (user_id, timer_id)
        """,
        {"seconds": hours * 3600, "most": MOST},
    )


async def ask_again(conn: Connection, timer_id: UUID, *, user_id: UUID, hours: float) -> None:
    """Has the owner nudged again, that many hours from now, if the timer still runs then."""
    await _set_next(conn, timer_id, user_id, await conn.value("SELECT now() + make_interval(secs => %s)", (hours * 3600,)))


async def postpone(conn: Connection, timer: "LongRunningTimer", message: NudgeOwner, *, hours: float) -> None:
    """Has the nudge planned again for when the timer will have run that many hours: its start was changed."""
    await _set_next(conn, message.timer_id, message.user_id, timer.start_time + timedelta(hours=hours))


async def _set_next(conn: Connection, timer_id: UUID, user_id: UUID, next_at: datetime) -> None:
    """Nothing, if the timer runs no more: the row may be that of the person's next one."""
    await conn.execute(
        """
        INSERT INTO slack_nudges (user_id, timer_id, next_at)
        SELECT user_id, id, %s FROM timers WHERE user_id = %s AND id = %s FOR NO KEY UPDATE
        ON CONFLICT (user_id) DO UPDATE SET timer_id = excluded.timer_id, next_at = excluded.next_at
        """,
        (next_at, user_id, timer_id),
    )


@dataclass(frozen=True)
class LongRunningTimer:
    """A timer that is still running; `email` is its owner's. It is not `due` yet if its start was changed to a later time."""

    email: str
    task_id: UUID
    start_time: datetime
    seconds: int
    due: bool


async def get_timer(conn: Connection, message: NudgeOwner, *, hours: float) -> LongRunningTimer | None:
    """The timer that the nudge is about. None when it is not running any more, or its owner's access is revoked."""
    return await conn.maybe(
        """
        SELECT u.email, r.task_id, r.start_time, extract(epoch FROM now() - r.start_time)::bigint AS seconds,
               r.start_time + make_interval(secs => %(seconds)s) <= now() AS due
        FROM timers r JOIN users u ON u.id = r.user_id
        WHERE r.user_id = %(user)s AND r.id = %(timer)s AND u.revoked_at IS NULL
        """,
        {"user": message.user_id, "timer": message.timer_id, "seconds": hours * 3600},
        row=LongRunningTimer,
    )

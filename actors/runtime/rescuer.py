"""The rescuer, which each relay runs. It finds messages that have stopped moving, and makes them ready again.

It also does other work that has to be done from time to time:

- It starts the checks of entries in Xero, and of access to Xero and Slack.
- It plans the messages to admins about bills to approve, the nudges about timers, and the reminders of hours.
- It enqueues messages that publish the App Homes that have changed.
- It records the position in the WAL, for sync cursors, and the numbers of messages in the queues, for the console.
- It prunes: it deletes rows that are not needed any more, so that tables do not grow without limit.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from actors.runtime.failures import record_failure
from schemas.identity import user_pool
from schemas.outbox import outbox, queue_samples
from schemas.outbox.dead_letters import discarded, groups, replays
from schemas.outbox.failed_attempts import Failure
from schemas.outbox.heartbeats import process_name
from schemas.outbox.outbox import Record
from schemas.postgres import sync_epochs
from schemas.postgres.connection import Connection, connect, is_unreachable
from schemas.postgres.sync_start import TOMBSTONE_DAYS
from schemas.settings import Settings
from schemas.slack import nudges
from schemas.slack.access import loss as slack_loss
from schemas.slack.approvals import planning
from schemas.slack.home import changes
from schemas.slack.home.changes import Snapshot
from schemas.slack.home.homes import KEPT_DAYS
from schemas.slack.reminders import planning as reminder_planning
from schemas.xero.access import loss
from schemas.xero.checks import chain

logger = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
REGROUPINGS = 10  # of groups.REGROUPED dead letters, in one round
LOG_INTERVAL_SECONDS = 20  # between two errors of the same job
PRUNE_SECONDS = 10.0  # nothing waits for it
REMINDERS_SECONDS = 10.0  # they are planned minutes ahead, and the working hours of all people are read for that


_logged_at: dict[str, float] = {}  # when the failure of a job was last logged, by time.monotonic()


async def rescue(settings: Settings) -> None:
    """Runs a round every two seconds, until the connection to Postgres is lost."""
    async with await connect(settings) as conn:
        await sync_epochs.adopt(conn)  # also if the server has an epoch: a table may have been restored from a dump since then
        seen: Snapshot | None = None
        plan_at = prune_at = 0.0
        while True:
            prunes = time.monotonic() >= prune_at
            if not await rescue_once(conn, settings, prunes=prunes) and prunes:
                prune_at = time.monotonic() + PRUNE_SECONDS
            with logged("App Homes"):
                seen = await changes.publish_changed(conn, seen, settings)
            if time.monotonic() >= plan_at:
                with logged("reminders"):
                    await reminder_planning.plan(conn, settings)
                plan_at = time.monotonic() + REMINDERS_SECONDS
            await asyncio.sleep(EVERY_SECONDS)


@contextmanager
def logged(job: str) -> Iterator[None]:
    """Logs an exception of the job in the block, so that the other jobs still run. An error that means that Postgres cannot be
    reached is raised."""
    try:
        yield
    except Exception as error:
        if is_unreachable(error):
            raise
        if time.monotonic() - _logged_at.get(job, float("-inf")) > LOG_INTERVAL_SECONDS:
            _logged_at[job] = time.monotonic()
            frames = "".join(traceback.format_tb(error.__traceback__))  # without the text, which may have values of a row
            what = f"job={job} error={type(error).__name__} sqlstate={getattr(error, 'sqlstate', '')}"
            logger.error("a job of the rescuer failed and is tried again: %s", what, extra={"traceback": frames})


async def rescue_once(conn: Connection, settings: Settings, *, prunes: bool = True) -> bool:
    """One round of the jobs that remember nothing between two rounds. Without `prunes`, nothing is pruned.

    Returns whether there may be more to prune.
    """
    is_unfinished = False
    with logged("positions"):
        await sync_epochs.record_position(conn)
    with logged("unpublished messages"):
        if count := await requeue_unpublished(conn):
            logger.warning("requeued messages of a relay that has ended: count=%d", count)
    with logged("stale messages"):
        if count := await requeue_stale(conn, seconds=settings.stint_sent_seconds):
            logger.warning("requeued messages that were sent and not handled in time: count=%d", count)
    with logged("leases"):
        if count := await expire_leases(conn, base_seconds=settings.stint_retry_base_seconds):
            logger.warning("leases of external calls expired: count=%d", count)
    with logged("checks"):
        await chain.ensure_started(conn)
        await loss.ensure_checked(conn)
        await slack_loss.ensure_checked(conn)
        if settings.uses_external_identity:
            await user_pool.ensure_started(conn)
    with logged("approvals"):
        await planning.plan(conn, settings)
    with logged("nudges"):
        await nudges.plan(conn, settings)
    with logged("groups of dead letters"):
        for _ in range(REGROUPINGS):
            if not await groups.regroup(conn):
                break
    with logged("queue samples"):
        await queue_samples.record(conn)
    if prunes:
        with logged("pruning"):
            is_unfinished = await prune(conn, days=settings.stint_prune_days)
            if settings.stint_discarded_days is not None:
                is_unfinished |= await discarded.prune(conn, days=settings.stint_discarded_days)
    return is_unfinished


async def requeue_unpublished(conn: Connection) -> int:
    """Makes the messages ready that were claimed by a relay that has ended. Returns their number.

    The advisory lock of a relay is free when its connection is closed. Messages that the relay had published arrive twice: only
    the later delivery is handled.
    """
    count = 0
    for relay in await conn.values("SELECT DISTINCT sent_by FROM messages WHERE state = 'sent' AND sent_by IS NOT NULL"):
        async with conn.transaction():
            if await conn.value("SELECT pg_try_advisory_xact_lock(%s)", (relay,)):
                cursor = await conn.execute(
                    """
                    UPDATE messages SET state = 'ready' WHERE id IN (
                        SELECT id FROM messages WHERE state = 'sent' AND sent_by = %s FOR UPDATE SKIP LOCKED)
                    """,
                    (relay,),
                )
                count += cursor.rowcount
    return count


async def requeue_stale(conn: Connection, *, seconds: float) -> int:
    """Makes the messages ready that were sent `seconds` ago and that no worker has handled. Returns their number.

    RabbitMQ may have lost them. But the queue may also be long. So the time doubles with each delivery: otherwise RabbitMQ
    would get copies faster than workers handle them.
    """
    cursor = await conn.execute(
        """
        UPDATE messages SET state = 'ready' WHERE id IN (
            SELECT id FROM messages
            WHERE state = 'sent'
              AND sent_at < statement_timestamp() - make_interval(secs => %s * power(2, least(delivery_number - 1, 7)))
            FOR UPDATE SKIP LOCKED)
        """,
        (seconds,),
    )
    return cursor.rowcount


async def expire_leases(conn: Connection, *, base_seconds: float) -> int:
    """Records a failed attempt for each message whose lease has expired. Returns their number.

    The worker of such a message died or hung during the external call.
    """
    count = 0
    while (record := await _expire_one_lease(conn, base_seconds=base_seconds)) is not None:
        logger.info("the lease of a message expired: actor=%s message_id=%s", record.actor, record.id)
        count += 1
    return count


async def _expire_one_lease(conn: Connection, *, base_seconds: float) -> Record | None:
    async with conn.transaction():
        message_id = await conn.value(
            """
            SELECT id FROM messages WHERE state = 'calling' AND lease_until < statement_timestamp()
            ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED
            """
        )
        record = await outbox.lock(conn, message_id) if message_id is not None else None
        if record is not None:
            failure = Failure(
                error_class="LeaseExpired",
                error="the worker died or hung during the external call; it is unknown whether the call succeeded",
                traceback="",
                worker=process_name(),
                crash=True,
            )
            await record_failure(conn, record, failure, base_seconds=base_seconds)
        return record


@dataclass(frozen=True)
class PruneRule:
    """Each round deletes at most `limit` rows of `table` that meet `condition`, in this `order`. `key` is the primary key.

    In a condition, `%(days)s` is the setting STINT_PRUNE_DAYS. The present time is `statement_timestamp()`. With
    `clock_timestamp()` Postgres cannot search an index, so each round would read all rows that are kept.
    """

    table: str
    key: str
    condition: str
    order: str
    limit: int = 5_000

    @property
    def statement(self) -> str:
        """The DELETE. Relays prune at the same time, so each skips the rows that another one has locked."""
        return f"""
            DELETE FROM {self.table} WHERE ({self.key}) IN (
                SELECT {self.key} FROM {self.table} WHERE {self.condition}
                ORDER BY {self.order} LIMIT {self.limit} FOR UPDATE SKIP LOCKED)
        """


PRUNE_RULES = (
    # a message whose body a person has changed is kept, with what was changed
    PruneRule(
        "messages",
        "id",
        "state = 'done' AND done_at < statement_timestamp() - make_interval(secs => %(days)s * 86400)"
        " AND (replays = 0 OR NOT EXISTS ("
        "SELECT FROM message_events e WHERE e.message_id = messages.id AND e.action = 'edit'))",
        "done_at",
    ),
    # one job per round: its rows in recompute_changes, up to one per bill, are deleted with it
    PruneRule(
        "recompute_jobs",
        "id",
        "finished_at < statement_timestamp() - make_interval(secs => %(days)s * 86400)",
        "finished_at",
        1,
    ),
    PruneRule("queue_samples", "at, queue", "at < statement_timestamp() - interval '1 day'", "at"),
    PruneRule("rate_limits", "key", "refilled_at < statement_timestamp()", "refilled_at"),
    PruneRule("sign_in_codes", "id", "expires_at < statement_timestamp()", "expires_at"),
    PruneRule("sign_in_links", "token_hash", "expires_at < statement_timestamp()", "expires_at"),
    PruneRule("console_sessions", "token_hash", "expires_at < statement_timestamp()", "expires_at"),
    # Slack repeats a request for up to 24 hours
    PruneRule("slack_deduplication", "key", "at < statement_timestamp() - interval '48 hours'", "at"),
    # the Home of somebody with access is shown the refusal when that ends
    PruneRule(
        "slack_homes",
        "slack_id",
        f"user_id IS NULL AND opened_at < statement_timestamp() - interval '{KEPT_DAYS} days'",
        "opened_at",
    ),
    PruneRule("slack_approval_days", "day", "day < current_date - 30", "day"),
    PruneRule("slack_reminder_days", "user_id, day", "day < current_date - 30", "day"),
    # a client that was offline for longer has to start again, without its old operations
    PruneRule(
        "sync_operations",
        "user_id, op_id",
        f"created_at < statement_timestamp() - interval '{TOMBSTONE_DAYS} days'",
        "created_at",
    ),
    # a client whose cursor was issued in a pruned epoch has to start again
    PruneRule("sync_epochs", "id", f"ended_at < statement_timestamp() - interval '{TOMBSTONE_DAYS} days'", "ended_at"),
    PruneRule("xero_oauth_states", "state_hash", "expires_at < statement_timestamp()", "expires_at"),
    # Xero's longest rate limit counts the calls of one day
    PruneRule("xero_calls", "id", "ends_at < statement_timestamp() - interval '2 days'", "ends_at"),
)


async def prune(conn: Connection, *, days: float) -> bool:
    """One round of pruning. Returns whether there may be more to delete.

    Messages, recompute jobs and replays are kept for `days` after their end. Dead messages are never deleted.
    """
    deleted = [(await conn.execute(rule.statement, {"days": days})).rowcount for rule in PRUNE_RULES]
    one_more = await replays.prune(conn, days=days)
    return one_more or any(count == rule.limit for count, rule in zip(deleted, PRUNE_RULES, strict=True))

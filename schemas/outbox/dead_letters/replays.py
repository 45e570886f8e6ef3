"""Replays: dead letters are sent again, optionally at a limited rate, and their outcomes are recorded.

The selection is fixed when the replay is started. From then on the relays advance it (`advance`), so nothing is lost and
nothing is replayed twice if the client or a relay dies. With a canary, some messages are replayed first; if one of them dies
again, the replay stops, and the others stay dead.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Flag, Row, Whole
from schemas.errors import Conflict, NotFound
from schemas.outbox.dead_letters.actions import MAX_IDS, Reason, Select, replay, selection_sql
from schemas.postgres.connection import Connection

BATCH = 500  # messages in one transaction
LISTED = 100  # replays in the list
BURST_SECONDS = 0.25  # one step sends at most what the rate allows in this time; steps are 0.1 s apart, or more under load


_COLUMNS = """
    r.id, r.state, r.stopped_because, r.who, r.reason, r.rate_per_second, r.canary, r.total AS selected,
    l.sent, l.succeeded, l.failed AS failed_again, l.sent - l.succeeded - l.failed AS running, l.skipped,
    r.created_at, r.ended_at
"""
_OUTCOMES = """
    LATERAL (
        SELECT count(*) FILTER (WHERE sent_at IS NOT NULL) AS sent,
               count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded,
               count(*) FILTER (WHERE outcome = 'failed') AS failed,
               count(*) FILTER (WHERE outcome = 'skipped') AS skipped
        FROM replay_messages WHERE replay_id = r.id
    ) l
"""


class NewReplay(Body):
    """A replay to start, or with `dryRun` only to preview."""

    select: Select
    reason: Reason
    rate_per_second: Annotated[
        float | None, Field(gt=0, le=10_000, description="the highest rate; without it, all are sent at once")
    ] = None
    canary: Annotated[
        Whole | None,
        Field(ge=1, le=MAX_IDS, description="this many are sent first; if one dies again, the replay stops"),
    ] = None
    dry_run: Annotated[Flag, Field(description="send nothing, only return what would be sent")] = False


class ReplayInList(Row):
    """A replay and its progress."""

    id: Annotated[UUID | None, Field(description="null for a dry run")]
    state: Annotated[
        Literal["dry_run", "running", "stopped", "cancelled", "done"],
        Field(description="stopped: a message of the canary died again, and the others were not sent"),
    ]
    stopped_because: str | None
    who: str
    reason: str
    rate_per_second: float | None
    canary: int | None
    selected: Annotated[int, Field(description="dead letters, fixed when it was started")]
    sent: int
    succeeded: int
    failed_again: int
    running: Annotated[int, Field(description="sent, without an outcome yet")]
    skipped: Annotated[int, Field(description="not sent, because they were not dead any more")]
    created_at: datetime
    ended_at: datetime | None


class Replay(ReplayInList):
    """A replay, its progress, and what else has died meanwhile."""

    new_since: Annotated[int, Field(description="other messages that have died since it was started")]


class Replays(Row):
    """The replays that run, then those that have ended, the latest first; at most 100."""

    items: list[ReplayInList]


async def start_replay(conn: Connection, new: NewReplay, *, who: str) -> Replay:
    """Stores the replay and its selection. The relays send the messages."""
    condition = selection_sql(new.select)
    if new.dry_run:
        count, now = await conn.one(
            f"SELECT count(*), now() FROM messages m WHERE m.state = 'dead' AND {condition.text}", condition.parameters
        )
        return Replay(
            id=None, state="dry_run", stopped_because=None, who=who, reason=new.reason, rate_per_second=new.rate_per_second,
            canary=new.canary, selected=count, sent=0, succeeded=0, failed_again=0, running=0, skipped=0, new_since=0,
            created_at=now, ended_at=now,
        )  # fmt: skip
    replay_id: UUID = await conn.value(
        "INSERT INTO replays (who, reason, rate_per_second, canary) VALUES (%s, %s, %s, %s) RETURNING id",
        (who, new.reason, new.rate_per_second, new.canary),
    )
    cursor = await conn.execute(
        f"""
        INSERT INTO replay_messages (replay_id, n, message_id)
        SELECT %(replay)s, row_number() OVER (ORDER BY m.died_at, m.id), m.id
        FROM messages m WHERE m.state = 'dead' AND {condition.text}
        """,
        condition.parameters | {"replay": replay_id},
    )
    await conn.execute("UPDATE replays SET total = %s WHERE id = %s", (cursor.rowcount, replay_id))
    return await get_replay(conn, replay_id)


async def get_replay(conn: Connection, replay_id: UUID) -> Replay:
    """A replay and its progress. Raises NotFound."""
    found = await conn.maybe(
        f"""
        SELECT {_COLUMNS},
               (SELECT count(*) FROM messages m WHERE m.state = 'dead' AND m.died_at > r.created_at
                  AND NOT EXISTS (SELECT FROM replay_messages o WHERE o.replay_id = r.id AND o.message_id = m.id)) AS new_since
        FROM replays r, {_OUTCOMES} WHERE r.id = %s
        """,
        (replay_id,),
        row=Replay,
    )
    if found is None:
        raise NotFound("There is no such replay.")
    return found


async def list_replays(conn: Connection) -> Replays:
    """The replays that run, then those that have ended, the latest first; at most LISTED."""
    by = "(r.state = 'running') DESC, r.created_at DESC, r.id"
    return Replays(
        items=await conn.all(
            f"SELECT {_COLUMNS} FROM (SELECT * FROM replays r ORDER BY {by} LIMIT %s) r, {_OUTCOMES} ORDER BY {by}",
            (LISTED,),
            row=ReplayInList,
        )
    )


async def cancel(conn: Connection, replay_id: UUID) -> None:
    """Ends a running replay; messages that were not sent stay dead. Raises NotFound, and Conflict if the replay has ended."""
    state = await conn.value("SELECT state FROM replays WHERE id = %s FOR UPDATE", (replay_id,))
    if state is None:
        raise NotFound("There is no such replay.")
    if state != "running":
        raise Conflict(f"The replay has ended already: it is {state}.")
    await _end(conn, replay_id, "cancelled")


async def advance(conn: Connection) -> bool:
    """Advances each running replay by one step, in a transaction of its own. Returns whether any is running. A replay that
    another relay is advancing is skipped."""
    running = await conn.values("SELECT id FROM replays WHERE state = 'running' ORDER BY created_at")
    for replay_id in running:
        async with conn.transaction():
            await _advance_one(conn, replay_id)
    # a replay that has ended may have messages that were sent and have no outcome yet
    unfinished = "SELECT DISTINCT replay_id FROM replay_messages WHERE sent_at IS NOT NULL AND outcome IS NULL"
    for replay_id in await conn.values(unfinished):
        if replay_id not in running:
            await _record_outcomes(conn, replay_id)
    return bool(running)


async def prune(conn: Connection, *, days: float) -> bool:
    """Deletes a replay that ended that long ago, and returns whether there was one. How many messages had which outcome is
    added to replay_totals, and each message keeps the replay in its own history."""
    found: bool = await conn.value(
        """
        WITH deleted AS (
            DELETE FROM replays WHERE id IN (
                SELECT id FROM replays WHERE ended_at < clock_timestamp() - make_interval(secs => %s) ORDER BY ended_at LIMIT 1
                FOR UPDATE SKIP LOCKED)
            RETURNING id
        ), added AS (
            INSERT INTO replay_totals AS t (outcome, messages)
            SELECT l.outcome, count(*) FROM deleted JOIN replay_messages l ON l.replay_id = deleted.id
            WHERE l.outcome IS NOT NULL GROUP BY l.outcome ORDER BY l.outcome
            ON CONFLICT (outcome) DO UPDATE SET messages = t.messages + excluded.messages
        )
        SELECT EXISTS (SELECT FROM deleted)
        """,
        (days * 86_400,),
    )
    return found


async def outcomes(conn: Connection) -> dict[str, int]:
    """How many messages of all replays, deleted ones too, succeeded, failed again, or were skipped. Never decreases."""
    return dict(
        await conn.all(
            """
            SELECT outcome, sum(messages)::bigint FROM (
                SELECT outcome, messages FROM replay_totals
                UNION ALL
                SELECT outcome, count(*) FROM replay_messages WHERE outcome IS NOT NULL GROUP BY outcome
            ) both_kinds GROUP BY outcome ORDER BY outcome
            """
        )
    )


async def _advance_one(conn: Connection, replay_id: UUID) -> None:
    row = await conn.maybe(
        """
        SELECT who, reason, canary, running_since IS NOT NULL, rate_per_second
        FROM replays WHERE id = %s AND state = 'running' FOR UPDATE SKIP LOCKED
        """,
        (replay_id,),
    )
    if row is None:
        return
    who, reason, canary, canary_succeeded, rate = row
    await _record_outcomes(conn, replay_id)
    sent, unsent, without_outcome, failed, idle_seconds = await _progress(conn, replay_id)
    # after a pause of the relay nothing is caught up: the rate is kept in any period of time, except for one step's burst
    allowed = BATCH if rate is None else int(rate * min(idle_seconds, max(BURST_SECONDS, 1 / rate)) + 1e-6)
    if canary is not None and not canary_succeeded:
        if sent >= canary and without_outcome == 0:
            if failed:
                because = f"{failed} of the {sent} sent first failed again; the cause is not fixed"
                return await _end(conn, replay_id, "stopped", because)
            await conn.execute("UPDATE replays SET running_since = clock_timestamp() WHERE id = %s", (replay_id,))
        allowed = min(allowed, canary - sent) if sent < canary else 0
    if unsent and allowed:
        await _send(conn, replay_id, min(allowed, BATCH), who=who, reason=reason)
    elif not unsent and not without_outcome:
        await _end(conn, replay_id, "done")


async def _record_outcomes(conn: Connection, replay_id: UUID) -> None:
    """A message that was sent has succeeded if it is done, or was pruned since, and failed if it is dead or discarded."""
    await conn.execute(
        """
        UPDATE replay_messages l SET outcome = CASE WHEN m.state IN ('dead', 'discarded') THEN 'failed' ELSE 'succeeded' END
        FROM (SELECT o.n, m.state FROM replay_messages o LEFT JOIN messages m ON m.id = o.message_id
              WHERE o.replay_id = %(id)s AND o.sent_at IS NOT NULL AND o.outcome IS NULL) m
        WHERE l.replay_id = %(id)s AND l.n = m.n AND (m.state IS NULL OR m.state IN ('done', 'dead', 'discarded'))
        """,
        {"id": replay_id},
    )


async def _progress(conn: Connection, replay_id: UUID) -> tuple[int, int, int, int, float]:
    """Counts of messages: sent, not sent yet, sent without an outcome, dead again; and the seconds since one was last sent."""
    sent, unsent, without_outcome, failed, idle_seconds = await conn.one(
        """
        SELECT count(*) FILTER (WHERE sent_at IS NOT NULL),
               count(*) FILTER (WHERE sent_at IS NULL AND outcome IS NULL),
               count(*) FILTER (WHERE sent_at IS NOT NULL AND outcome IS NULL),
               count(*) FILTER (WHERE outcome = 'failed'),
               coalesce(extract(epoch FROM clock_timestamp() - max(sent_at)), 1e6)::float
        FROM replay_messages WHERE replay_id = %s
        """,
        (replay_id,),
    )
    return sent, unsent, without_outcome, failed, idle_seconds


async def _send(conn: Connection, replay_id: UUID, count: int, *, who: str, reason: str) -> None:
    rows = await conn.all(
        """
        SELECT n, message_id FROM replay_messages WHERE replay_id = %s AND sent_at IS NULL AND outcome IS NULL
        ORDER BY n LIMIT %s
        """,
        (replay_id, count),
    )
    replayed = await replay(conn, [message_id for _, message_id in rows], who=who, reason=reason)
    await conn.execute(
        """
        UPDATE replay_messages SET sent_at = CASE WHEN message_id = ANY(%(sent)s) THEN clock_timestamp() END,
            outcome = CASE WHEN message_id = ANY(%(sent)s) THEN NULL ELSE 'skipped' END
        WHERE replay_id = %(id)s AND n = ANY(%(n)s)
        """,
        {"id": replay_id, "n": [n for n, _ in rows], "sent": list(replayed)},
    )


async def _end(conn: Connection, replay_id: UUID, state: str, because: str | None = None) -> None:
    await conn.execute(
        "UPDATE replays SET state = %s, stopped_because = %s, ended_at = clock_timestamp() WHERE id = %s",
        (state, because, replay_id),
    )

"""Replays: dead letters are sent again, at a limited rate, and their outcomes are recorded.

The selection is fixed when the replay is started. From then on the relays advance it (replay_steps.py), so nothing is lost and
nothing is replayed twice if the client or a relay dies. With a canary, some messages are replayed first; if one of them dies
again, the replay stops, and the others stay dead.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Flag, Number, Row, Whole
from schemas.errors import Conflict, NotFound
from schemas.outbox.dead_letters.actions import Reason
from schemas.outbox.dead_letters.selecting import MAX_IDS, Select, lock_replays, selection_sql
from schemas.postgres.connection import Connection

DEFAULT_RATE = 100.0  # messages a second
LISTED = 100  # replays in the list


_COLUMNS = """
    r.id, r.state, r.stopped_because, r.cancelled_by, r.cancelled_because, r.who,
    r.reason, r.rate_per_second, r.canary, r.total AS selected,
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
        Number | None,
        Field(
            gt=0,
            le=10_000,
            description="the highest rate; null: as fast as the workers handle them. At most 25 are under way at a time, so "
            "that other messages do not wait for them",
        ),
    ] = DEFAULT_RATE
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
    cancelled_by: Annotated[str | None, Field(description="who has cancelled it")]
    cancelled_because: Annotated[str | None, Field(description="the reason, if one was given")]
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
            id=None, state="dry_run", stopped_because=None, cancelled_by=None, cancelled_because=None, who=who,
            reason=new.reason, rate_per_second=new.rate_per_second,
            canary=new.canary, selected=count, sent=0, succeeded=0, failed_again=0, running=0, skipped=0, new_since=0,
            created_at=now, ended_at=now,
        )  # fmt: skip
    await lock_replays(conn)
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


async def cancel(conn: Connection, replay_id: UUID, *, who: str, reason: str | None) -> None:
    """Ends a running replay, and records who has done that, and why. Messages that were not sent stay dead. Raises NotFound,
    and Conflict if the replay has ended."""
    state = await conn.value("SELECT state FROM replays WHERE id = %s FOR UPDATE", (replay_id,))
    if state is None:
        raise NotFound("There is no such replay.")
    if state != "running":
        raise Conflict(f"The replay has ended already: it is {state}.")
    await conn.execute(
        """
        UPDATE replays SET state = 'cancelled', ended_at = clock_timestamp(), cancelled_by = %s, cancelled_because = %s
        WHERE id = %s
        """,
        (who, reason, replay_id),
    )


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

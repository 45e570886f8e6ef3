"""Replays: dead letters are sent again, some at a time, and what becomes of them is written down.

Which letters is decided, and frozen, when the replay is made; from there on the relays carry it (`carry`), whoever asked for
it: nothing is lost or doubled if any of them dies in between. A canary goes ahead, and should one of it die again, the
rest stays where it is.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Flag, Row, Whole
from schemas.database import Connection
from schemas.errors import Conflict, NotFound
from schemas.letter_moves import MOST_IDS, Reason, Select, chosen, replay

AT_ONCE = 500  # letters in one transaction
BURST_SECONDS = 0.25  # of a rate at one step at most: steps are a tenth of a second apart, or more on a busy machine


class NewReplay(Body):
    """A replay to begin, or with `dryRun` to look at."""

    select: Select
    reason: Reason
    rate_per_second: Annotated[float | None, Field(gt=0, le=10_000, description="at most so many; without it, all at once")] = (
        None
    )
    canary: Annotated[Whole | None, Field(ge=1, le=MOST_IDS, description="so many go ahead; should one die, the rest stay")] = (
        None
    )
    dry_run: Annotated[Flag, Field(description="send nothing; say what would be sent")] = False


class Replay(Row):
    """How far a replay is."""

    id: Annotated[UUID | None, Field(description="null for a dry run")]
    state: Annotated[
        Literal["dry_run", "running", "stopped", "cancelled", "done"],
        Field(description="stopped: the canary died again, and the rest was not sent"),
    ]
    stopped_because: str | None
    who: str
    reason: str
    rate_per_second: float | None
    canary: int | None
    selected: Annotated[int, Field(description="dead letters, frozen when it was made")]
    sent: int
    succeeded: int
    failed_again: int
    running: Annotated[int, Field(description="sent, and not ended yet")]
    skipped: Annotated[int, Field(description="were dead no more when their turn came: somebody else had seen to them")]
    new_since: Annotated[int, Field(description="other letters that died since it was made")]
    created_at: datetime
    ended_at: datetime | None


async def begin(conn: Connection, new: NewReplay, *, who: str) -> Replay:
    """Freezes the selection. The relays do the rest."""
    found = chosen(new.select)
    if new.dry_run:
        cursor = await conn.execute(
            f"SELECT count(*), now() FROM messages m WHERE m.state = 'dead' AND {found.text}".encode(), found.parameters
        )
        row = await cursor.fetchone()
        assert row is not None
        return Replay(
            id=None, state="dry_run", stopped_because=None, who=who, reason=new.reason, rate_per_second=new.rate_per_second,
            canary=new.canary, selected=row[0], sent=0, succeeded=0, failed_again=0, running=0, skipped=0, new_since=0,
            created_at=row[1], ended_at=row[1],
        )  # fmt: skip
    cursor = await conn.execute(
        """
        INSERT INTO replays (who, reason, rate_per_second, canary) VALUES (%s, %s, %s, %s) RETURNING id
        """,
        (who, new.reason, new.rate_per_second, new.canary),
    )
    row = await cursor.fetchone()
    assert row is not None
    replay_id: UUID = row[0]
    cursor = await conn.execute(
        f"""
        INSERT INTO replay_letters (replay_id, n, message_id)
        SELECT %(replay)s, row_number() OVER (ORDER BY m.died_at, m.id), m.id
        FROM messages m WHERE m.state = 'dead' AND {found.text}
        """.encode(),
        found.parameters | {"replay": replay_id},
    )
    await conn.execute("UPDATE replays SET total = %s WHERE id = %s", (cursor.rowcount, replay_id))
    return await read(conn, replay_id)


async def read(conn: Connection, replay_id: UUID) -> Replay:
    """How far it is. Raises NotFound."""
    cursor = await conn.execute(
        """
        SELECT r.id, r.state, r.stopped_because, r.who, r.reason, r.rate_per_second, r.canary, r.total,
               l.sent, l.succeeded, l.failed, l.sent - l.succeeded - l.failed, l.skipped,
               (SELECT count(*) FROM messages m WHERE m.state = 'dead' AND m.died_at > r.created_at
                  AND NOT EXISTS (SELECT FROM replay_letters o WHERE o.replay_id = r.id AND o.message_id = m.id)),
               r.created_at, r.ended_at
        FROM replays r, LATERAL (
            SELECT count(*) FILTER (WHERE sent_at IS NOT NULL) AS sent,
                   count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded,
                   count(*) FILTER (WHERE outcome = 'failed') AS failed,
                   count(*) FILTER (WHERE outcome = 'skipped') AS skipped
            FROM replay_letters WHERE replay_id = r.id
        ) l
        WHERE r.id = %s
        """,
        (replay_id,),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such replay.")
    return Replay(**dict(zip(Replay.model_fields, row, strict=True)))


async def cancel(conn: Connection, replay_id: UUID) -> None:
    """Leaves dead what was not sent yet. Raises NotFound, and Conflict for one that has ended."""
    cursor = await conn.execute("SELECT state FROM replays WHERE id = %s FOR UPDATE", (replay_id,))
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such replay.")
    if row[0] != "running":
        raise Conflict(f"The replay has ended already: it is {row[0]}.")
    await _end(conn, replay_id, "cancelled")


async def carry(conn: Connection) -> bool:
    """Takes every running replay one step further, each in a transaction of its own; whether there are any. Two relays never
    carry one at the same time."""
    cursor = await conn.execute("SELECT id FROM replays WHERE state = 'running' ORDER BY created_at")
    running = [row[0] for row in await cursor.fetchall()]
    for replay_id in running:
        async with conn.transaction():
            await _carry_one(conn, replay_id)
    # one that was cancelled or stopped may have letters on their way still
    cursor = await conn.execute("SELECT DISTINCT replay_id FROM replay_letters WHERE sent_at IS NOT NULL AND outcome IS NULL")
    for (replay_id,) in await cursor.fetchall():
        if replay_id not in running:
            await _note_outcomes(conn, replay_id)
    return bool(running)


async def prune(conn: Connection, *, days: float) -> None:
    """Forgets a replay that ended that long ago, but for how many letters succeeded and failed; what was done to each stands in
    the letter's own history."""
    await conn.execute(
        """
        WITH gone AS (
            DELETE FROM replays WHERE id IN (
                SELECT id FROM replays WHERE ended_at < clock_timestamp() - make_interval(secs => %s) ORDER BY ended_at LIMIT 1
                FOR UPDATE SKIP LOCKED)
            RETURNING id
        )
        INSERT INTO replay_totals AS t (outcome, letters)
        SELECT l.outcome, count(*) FROM gone JOIN replay_letters l ON l.replay_id = gone.id WHERE l.outcome IS NOT NULL
        GROUP BY l.outcome ORDER BY l.outcome
        ON CONFLICT (outcome) DO UPDATE SET letters = t.letters + excluded.letters
        """,
        (days * 86_400,),
    )


async def outcomes(conn: Connection) -> dict[str, int]:
    """How many letters of all replays there ever were succeeded, failed again, or were skipped. Never falls."""
    cursor = await conn.execute(
        """
        SELECT outcome, sum(letters)::bigint FROM (
            SELECT outcome, letters FROM replay_totals
            UNION ALL
            SELECT outcome, count(*) FROM replay_letters WHERE outcome IS NOT NULL GROUP BY outcome
        ) both_kinds GROUP BY outcome ORDER BY outcome
        """
    )
    return dict(await cursor.fetchall())


async def _carry_one(conn: Connection, replay_id: UUID) -> None:
    cursor = await conn.execute(
        """
        SELECT who, reason, canary, flows_since IS NOT NULL, rate_per_second
        FROM replays WHERE id = %s AND state = 'running' FOR UPDATE SKIP LOCKED
        """,
        (replay_id,),
    )
    if (row := await cursor.fetchone()) is None:
        return
    who, reason, canary, flows, rate = row
    await _note_outcomes(conn, replay_id)
    sent, unsent, unsettled, failed, quiet_seconds = await _counts(conn, replay_id)
    # a relay that stood still does not catch up: the rate is kept in any span of time, but for what goes at one step
    room = AT_ONCE if rate is None else int(rate * min(quiet_seconds, max(BURST_SECONDS, 1 / rate)) + 1e-6)
    if canary is not None and not flows:
        if sent >= canary and unsettled == 0:
            if failed:
                because = f"{failed} of the {sent} that went ahead died again; the cause is not mended"
                return await _end(conn, replay_id, "stopped", because)
            await conn.execute("UPDATE replays SET flows_since = clock_timestamp() WHERE id = %s", (replay_id,))
        room = min(room, canary - sent) if sent < canary else 0
    if unsent and room:
        await _send(conn, replay_id, min(room, AT_ONCE), who=who, reason=reason)
    elif not unsent and not unsettled:
        await _end(conn, replay_id, "done")


async def _note_outcomes(conn: Connection, replay_id: UUID) -> None:
    """A letter that was sent has succeeded when it is done, or so long ago that it is forgotten, and failed when it is dead."""
    await conn.execute(
        """
        UPDATE replay_letters l SET outcome = CASE WHEN m.state IN ('dead', 'discarded') THEN 'failed' ELSE 'succeeded' END
        FROM (SELECT o.n, m.state FROM replay_letters o LEFT JOIN messages m ON m.id = o.message_id
              WHERE o.replay_id = %(id)s AND o.sent_at IS NOT NULL AND o.outcome IS NULL) m
        WHERE l.replay_id = %(id)s AND l.n = m.n AND (m.state IS NULL OR m.state IN ('done', 'dead', 'discarded'))
        """,
        {"id": replay_id},
    )


async def _counts(conn: Connection, replay_id: UUID) -> tuple[int, int, int, int, float]:
    """Sent, not sent yet, sent and not ended yet, dead again; and for how many seconds nothing was sent."""
    cursor = await conn.execute(
        """
        SELECT count(*) FILTER (WHERE sent_at IS NOT NULL),
               count(*) FILTER (WHERE sent_at IS NULL AND outcome IS NULL),
               count(*) FILTER (WHERE sent_at IS NOT NULL AND outcome IS NULL),
               count(*) FILTER (WHERE outcome = 'failed'),
               coalesce(extract(epoch FROM clock_timestamp() - max(sent_at)), 1e6)::float
        FROM replay_letters WHERE replay_id = %s
        """,
        (replay_id,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1], row[2], row[3], row[4]


async def _send(conn: Connection, replay_id: UUID, count: int, *, who: str, reason: str) -> None:
    cursor = await conn.execute(
        """
        SELECT n, message_id FROM replay_letters WHERE replay_id = %s AND sent_at IS NULL AND outcome IS NULL
        ORDER BY n LIMIT %s
        """,
        (replay_id, count),
    )
    letters: dict[int, UUID] = dict(await cursor.fetchall())
    replayed = await replay(conn, list(letters.values()), who=who, reason=reason)
    await conn.execute(
        """
        UPDATE replay_letters SET sent_at = CASE WHEN message_id = ANY(%(sent)s) THEN clock_timestamp() END,
            outcome = CASE WHEN message_id = ANY(%(sent)s) THEN NULL ELSE 'skipped' END
        WHERE replay_id = %(id)s AND n = ANY(%(n)s)
        """,
        {"id": replay_id, "n": list(letters), "sent": list(replayed)},
    )


async def _end(conn: Connection, replay_id: UUID, state: str, because: str | None = None) -> None:
    await conn.execute(
        "UPDATE replays SET state = %s, stopped_because = %s, ended_at = clock_timestamp() WHERE id = %s",
        (state, because, replay_id),
    )

"""The steps of a replay, which the relays take.

A replay does not delay the work that people wait for: at most MOST_UNDER_WAY of its messages are due or being handled at a
time, so whatever is enqueued meanwhile waits for no more than these.
"""

from dataclasses import dataclass
from uuid import UUID

from schemas.outbox.dead_letters.actions import replay
from schemas.postgres.connection import Connection

MOST_UNDER_WAY = 25  # of one replay
BURST_SECONDS = 0.25  # one step sends at most what the rate allows in this time; steps are 0.1 s apart, or more under load


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


@dataclass(frozen=True)
class _Progress:
    """`next_n`: of the first message that was not sent; None: all were. `without_outcome`: sent, and neither done nor dead.
    `under_way`: of these, without those that wait for another attempt. `idle_seconds`: since one was last sent."""

    next_n: int | None
    without_outcome: int
    under_way: int
    idle_seconds: float


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
    now = await _progress(conn, replay_id)
    allowed = MOST_UNDER_WAY - now.under_way
    if rate is not None:
        # after a pause of the relay nothing is caught up: the rate is kept in any period, except for one step's burst
        allowed = min(allowed, int(rate * min(now.idle_seconds, max(BURST_SECONDS, 1 / rate)) + 1e-6))
    if canary is not None and not canary_succeeded:
        sent, failed = await _counts(conn, replay_id, now.next_n)
        if sent >= canary and now.without_outcome == 0:
            if failed:
                because = f"{failed} of the {sent} sent first failed again; the cause is not fixed"
                return await _end(conn, replay_id, "stopped", because)
            await conn.execute("UPDATE replays SET running_since = clock_timestamp() WHERE id = %s", (replay_id,))
        allowed = min(allowed, canary - sent) if sent < canary else 0
    if now.next_n is not None and allowed > 0:
        await _send(conn, replay_id, allowed, who=who, reason=reason)
    elif now.next_n is None and not now.without_outcome:
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


async def _progress(conn: Connection, replay_id: UUID) -> _Progress:
    """Each figure is read from an index: a replay may have a hundred thousand messages, and ten steps a second."""
    return await conn.one(
        """
        WITH next AS (
            SELECT min(n) AS n FROM replay_messages WHERE replay_id = %(id)s AND sent_at IS NULL AND outcome IS NULL
        ), sent AS (
            SELECT count(*) AS without_outcome,
                   count(*) FILTER (WHERE m.state <> 'ready' OR m.available_at <= statement_timestamp()) AS under_way
            FROM replay_messages o JOIN messages m ON m.id = o.message_id
            WHERE o.replay_id = %(id)s AND o.sent_at IS NOT NULL AND o.outcome IS NULL
        )
        SELECT next.n AS next_n, sent.without_outcome, sent.under_way,
               coalesce(extract(epoch FROM clock_timestamp() - (
                   SELECT sent_at FROM replay_messages
                   WHERE replay_id = %(id)s AND sent_at IS NOT NULL AND n < coalesce(next.n, 2147483647)
                   ORDER BY n DESC LIMIT 1)), 1e6)::float AS idle_seconds
        FROM next, sent
        """,
        {"id": replay_id},
        row=_Progress,
    )


async def _counts(conn: Connection, replay_id: UUID, next_n: int | None) -> tuple[int, int]:
    """How many were sent, and how many of these failed again. Messages are sent in the order of `n`."""
    sent, failed = await conn.one(
        """
        SELECT count(*) FILTER (WHERE sent_at IS NOT NULL), count(*) FILTER (WHERE outcome = 'failed')
        FROM replay_messages WHERE replay_id = %s AND n < coalesce(%s, 2147483647)
        """,
        (replay_id, next_n),
    )
    return sent, failed


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

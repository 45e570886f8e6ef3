"""Groups of dead letters: those that failed with the same error at the same place, and unrecognized messages of one kind."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from schemas.base import Row
from schemas.masking import Redactor
from schemas.outbox.dead_letters.fingerprints import fingerprint, message_of_group, normalized
from schemas.postgres.connection import Connection

REGROUPED = 500  # dead letters in one step of `regroup`


class Group(Row):
    """Dead letters with the same actor, class of error, frame and words of the error."""

    fingerprint: str
    actor: str
    error: Annotated[str, Field(description="the class of the error")]
    frame: Annotated[
        str, Field(description="the innermost stack frame in Stint's own code, as file:function; empty if there is none")
    ]
    message: Annotated[
        str, Field(description="the words of the error, without numbers, ids, quoted values and addresses; may be empty")
    ]
    count: Annotated[int, Field(description="dead letters now")]
    first: datetime
    last: datetime
    replayed: Annotated[int, Field(description="messages of this group that were replayed at least once, in any state now")]
    failed_again: Annotated[int, Field(description="of those, the ones that are dead now")]
    example: Annotated[str | None, Field(description="the whole error of the latest dead letter")]


class UnrecognizedGroup(Row):
    """Unrecognized messages that arrived in the same queue and were not accepted for the same reason."""

    fingerprint: str
    queue: str
    error: Annotated[str, Field(description="why they were not accepted")]
    count: Annotated[int, Field(description="unrecognized messages that were not discarded")]
    first: datetime
    last: datetime
    example: Annotated[UUID, Field(description="the id of the latest")]


class Groups(Row):
    """All groups, the latest death first, and totals."""

    items: list[Group]
    dead: Annotated[int, Field(description="dead letters in all groups")]
    unrecognized: Annotated[int, Field(description="unrecognized messages that were not discarded")]
    unrecognized_groups: list[UnrecognizedGroup]


async def list_groups(conn: Connection, redactor: Redactor) -> Groups:
    """All groups that have dead letters or unrecognized messages now."""
    items = await conn.all(
        """
        SELECT g.fingerprint, g.actor, g.error_class AS error, g.frame, coalesce(g.message, '') AS message,
               dead.count, dead.first, dead.last,
               (SELECT count(*) FROM messages r WHERE r.fingerprint = g.fingerprint AND r.replays > 0) AS replayed,
               (SELECT count(*) FROM messages r WHERE r.fingerprint = g.fingerprint AND r.replays > 0 AND r.state = 'dead')
                   AS failed_again,
               (SELECT error FROM messages l WHERE l.fingerprint = g.fingerprint AND l.state = 'dead'
                ORDER BY l.died_at DESC LIMIT 1) AS example
        FROM (
            SELECT fingerprint, count(*) AS count, min(died_at) AS first, max(died_at) AS last
            FROM messages WHERE state = 'dead' GROUP BY fingerprint
        ) dead JOIN failure_groups g ON g.fingerprint = dead.fingerprint
        ORDER BY dead.last DESC
        """,
        row=Group,
    )
    unrecognized = await conn.all(
        """
        SELECT left(md5(queue || ' ' || reason), 16) AS fingerprint, queue, reason AS error, kept.count, kept.first, kept.last,
               (SELECT m.id FROM unrecognized_messages m
                WHERE m.queue = kept.queue AND m.reason = kept.reason AND m.discarded_at IS NULL ORDER BY m.at DESC LIMIT 1)
                   AS example
        FROM (
            SELECT queue, reason, count(*) AS count, min(at) AS first, max(at) AS last
            FROM unrecognized_messages WHERE discarded_at IS NULL GROUP BY queue, reason
        ) kept
        ORDER BY kept.last DESC
        """,
        row=UnrecognizedGroup,
    )
    return await asyncio.to_thread(
        lambda: Groups(
            items=[
                group.model_copy(
                    update={"example": redactor.text(group.example or ""), "message": redactor.text(group.message)}
                )
                for group in items
            ],
            dead=sum(group.count for group in items),
            unrecognized=sum(group.count for group in unrecognized),
            unrecognized_groups=[group.model_copy(update={"error": redactor.text(group.error)}) for group in unrecognized],
        )
    )


async def regroup(conn: Connection) -> int:
    """Puts messages into groups that are in none, or in a group of the version before, which has no words of the error.

    Somebody may have made a message dead in SQL, so that it is in no group. At most REGROUPED messages are put into groups, in
    a transaction of its own. Returns their number.

    A new group counts as alerted if the old one does. A group of the version before is left for later if a process has recorded
    a death in it within two minutes: it may be recording another one.
    """
    async with conn.transaction():
        return await _regroup(conn) or await _group(conn)


async def _regroup(conn: Connection) -> int:
    old = await conn.maybe(
        """
        SELECT fingerprint, actor, first_at, last_at, alerted_at FROM failure_groups
        WHERE message IS NULL AND last_at < now() - interval '2 minutes' ORDER BY last_at LIMIT 1 FOR UPDATE SKIP LOCKED
        """
    )
    if old is None:
        return 0
    group, actor, first_at, last_at, alerted_at = old
    found = await conn.all(
        """
        SELECT m.id, coalesce(a.error_class, ''), coalesce(a.error, m.error, ''), coalesce(a.frame, '')
        FROM messages m LEFT JOIN message_attempts a ON a.message_id = m.id AND a.n = m.attempts
        WHERE m.id IN (
            SELECT id FROM messages WHERE fingerprint = %(group)s AND state = 'dead'
            UNION SELECT id FROM messages WHERE fingerprint = %(group)s AND replays > 0
            UNION SELECT id FROM messages WHERE fingerprint = %(group)s AND state = 'discarded'
            LIMIT %(most)s)
        ORDER BY m.id FOR UPDATE OF m
        """,
        {"group": group, "most": REGROUPED},
    )
    await _put(conn, [(actor, first_at, last_at, *row) for row in found], alerted_at)
    if len(found) < REGROUPED:
        await conn.execute("DELETE FROM failure_groups WHERE fingerprint = %s", (group,))
    return len(found)


async def _group(conn: Connection) -> int:
    found = await conn.all(
        """
        SELECT m.actor, m.died_at, m.died_at, m.id, coalesce(a.error_class, ''), coalesce(a.error, m.error, ''),
               coalesce(a.frame, '')
        FROM messages m LEFT JOIN message_attempts a ON a.message_id = m.id AND a.n = m.attempts
        WHERE m.state = 'dead' AND m.fingerprint IS NULL ORDER BY m.died_at, m.id LIMIT %s FOR UPDATE OF m SKIP LOCKED
        """,
        (REGROUPED,),
    )
    await _put(conn, found, None)
    return len(found)


async def _put(conn: Connection, found: Sequence[tuple[Any, ...]], alerted_at: datetime | None) -> None:
    """Puts messages into their groups. Each row of `found` has the actor, the first and the last time of a new group, the
    message's id, the class and the text of the error, and the frame."""
    kinds: dict[tuple[str, str, str, str], list[tuple[datetime, datetime, UUID]]] = {}
    for actor, first_at, last_at, message_id, error_class, error, frame in found:
        kinds.setdefault((actor, error_class, frame, normalized(error)), []).append((first_at, last_at, message_id))
    for (actor, error_class, frame, words), messages in kinds.items():
        message = await message_of_group(conn, actor, error_class, frame, words)
        new = fingerprint(actor, error_class, frame, message)
        firsts, lasts, message_ids = zip(*messages, strict=True)
        await conn.execute(
            """
            INSERT INTO failure_groups (fingerprint, actor, error_class, frame, message, first_at, last_at, alerted_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
            """,
            (new, actor, error_class, frame, message, min(firsts), max(lasts), alerted_at),
        )
        await conn.execute("UPDATE messages SET fingerprint = %s WHERE id = ANY(%s)", (new, list(message_ids)))

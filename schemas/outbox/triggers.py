"""Triggers: an admin has a piece of work done again for one thing, such as the sums of one time bill.

Only work whose effect is the same however often it is done can be triggered. A message that waits already is not doubled: it is
made due, and its history says who has asked for it. A dead letter of that work is replayed instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Row
from schemas.errors import Invalid
from schemas.messages import Message, MoveEntries, RecomputeBills, SyncBill
from schemas.outbox import outbox
from schemas.outbox.dead_letters.actions import Reason, record, replay
from schemas.outbox.outbox import CHANNEL
from schemas.postgres.connection import Connection

Kind = Literal["recompute_bill", "sync_bill", "move_entries"]


class Trigger(Body):
    """Which work, for which thing, and why."""

    kind: Annotated[
        Kind,
        Field(
            description="recompute_bill: the sums of a time bill that is not approved; sync_bill: a time bill to Xero, as it "
            "is now; move_entries: the entries of a task to the time bills of its customer and pillar"
        ),
    ]
    id: Annotated[UUID, Field(description="of the time bill or the task")]
    reason: Reason


class Triggered(Row):
    """The message that does the work; `GET /api/dead-letters/{id}` shows what has become of it."""

    id: UUID
    actor: str
    result: Annotated[
        Literal["enqueued", "replayed", "waiting"],
        Field(
            description="enqueued: a new message; replayed: its dead letter; waiting: a message for it was under way already"
        ),
    ]


@dataclass(frozen=True)
class _Work:
    """How a kind is done. `table`: that of the thing; `names`: SQL for whether the body of a message `m` names the thing."""

    table: str
    noun: str
    names: str
    message: Callable[[UUID], Message]


_WORK: dict[Kind, _Work] = {
    "recompute_bill": _Work(
        "time_bills", "time bill", "m.body->'bill_ids' ? %(id)s::text", lambda bill_id: RecomputeBills(bill_ids=(bill_id,))
    ),
    "sync_bill": _Work(
        "time_bills", "time bill", "m.body->>'bill_id' = %(id)s::text", lambda bill_id: SyncBill(bill_id=bill_id)
    ),
    "move_entries": _Work("tasks", "task", "m.body->>'task_id' = %(id)s::text", lambda task_id: MoveEntries(task_id=task_id)),
}


async def trigger(conn: Connection, request: Trigger, *, who: str, created_by: UUID | None = None) -> Triggered:
    """Has the work done, in the caller's transaction. Raises Invalid if there is no such thing."""
    work = _WORK[request.kind]
    message = work.message(request.id)
    # two triggers of the same work at the same time: the second one finds the message of the first one
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"trigger {request.kind} {request.id}",))
    query = f"SELECT EXISTS (SELECT FROM {work.table} WHERE id = %s AND deleted_at IS NULL)"
    if not await conn.value(query, (request.id,)):
        raise Invalid("id", f"There is no such {work.noun}.")
    found = await _unfinished(conn, message, work, request.id)
    waiting = [message_id for message_id, state in found if state != "dead"]
    if waiting:
        await conn.execute(
            f"""
            WITH due AS (
                UPDATE messages SET available_at = least(available_at, now()) WHERE id = ANY(%s) AND state = 'ready'
            )
            SELECT pg_notify('{CHANNEL}', '')
            """,
            (waiting,),
        )
        await record(conn, waiting[:1], "trigger", who=who, reason=request.reason)
        return Triggered(id=waiting[0], actor=message.actor, result="waiting")
    dead = [message_id for message_id, _ in found]
    if replayed := await replay(conn, dead[:1], who=who, reason=request.reason, max_attempts=message.max_attempts):
        return Triggered(id=replayed.pop(), actor=message.actor, result="replayed")
    message_id = await outbox.enqueue(conn, message, created_by=created_by)
    await record(conn, [message_id], "trigger", who=who, reason=request.reason)
    return Triggered(id=message_id, actor=message.actor, result="enqueued")


async def _unfinished(conn: Connection, message: Message, work: _Work, thing: UUID) -> list[tuple[UUID, str]]:
    """The messages of that work that are not done, with their states, locked, the oldest first. One SELECT for each state, so
    that each uses a partial index."""
    this = f"m.queue = %(queue)s AND m.actor = %(actor)s AND {work.names}"
    by_state = " UNION ALL ".join(
        f"SELECT m.id FROM messages m WHERE m.state = '{state}' AND {this}" for state in ("ready", "sent", "calling", "dead")
    )
    rows = await conn.all(
        f"""
        SELECT id, state FROM messages WHERE id IN ({by_state}) AND state IN ('ready', 'sent', 'calling', 'dead')
        ORDER BY id FOR UPDATE
        """,
        {"queue": message.queue, "actor": message.actor, "id": thing},
    )
    return [(message_id, state) for message_id, state in rows]

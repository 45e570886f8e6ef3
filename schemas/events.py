"""Live events: what changed, and who may hear of it. Kinds and ids only; what became of a row, its reader asks for.

The cursor is a snapshot of Postgres. Whatever was committed and so visible in it has been told; a row whose `changed_xid` it
does not show has not, also one whose transaction began long before the snapshot and commits long after it. So no change is
missed, and none is read twice while an old transaction stays open.
"""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from schemas.database import Connection

CHANNEL = "stint_changed"  # that the triggers notify
MOST_CHANGES = 1_000  # of one table, between two reads; whoever would have to hear of more does better to read all anew


class Kind(StrEnum):
    """What an event is about. Of an active timer and a focus the id is the user's."""

    task = "task"
    time_bill = "timeBill"
    active_timer = "activeTimer"
    focus = "focus"


@dataclass(frozen=True)
class Change:
    """A row that changed, as the firm's own people hear of it, and this customer's users, if any."""

    kind: Kind
    id: UUID
    customer_id: UUID | None


@dataclass(frozen=True)
class Changes:
    """What was committed between two snapshots. `too_many`: there is more than is listed. `users` are those whose rows changed,
    and so perhaps what they may do; None when those were too many."""

    snapshot: str
    changes: list[Change]
    too_many: bool
    users: frozenset[UUID] | None


# Where a change shows: its kind, the table, the column with the id, and the customer whose users may hear of it, too.
_SOURCES = [
    (Kind.task, "tasks", "id", "customer_id"),
    # a task that has left a customer is gone for that one's users
    (Kind.task, "task_moves", "task_id", "customer_id"),
    (Kind.time_bill, "time_bills", "id", "CASE WHEN status = 'approved' THEN customer_id END"),
    (Kind.time_bill, "bill_reopenings", "bill_id", "customer_id"),
    (Kind.active_timer, "timers", "user_id", "NULL::uuid"),
    (Kind.active_timer, "timer_ends", "user_id", "NULL::uuid"),
    (Kind.focus, "focus", "user_id", "NULL::uuid"),
    ("user", "users", "id", "NULL::uuid"),
]
# Ordered and limited, so that each is read from its index, whatever the plan, and never more than is of use.
_CHANGED = " UNION ALL ".join(
    f"""
    (SELECT '{table}' AS source, '{kind}' AS kind, {key} AS id, {customer} AS customer_id FROM {table}
    WHERE changed_xid >= pg_snapshot_xmin(%(seen)s::pg_snapshot)
      AND NOT pg_visible_in_snapshot(changed_xid, %(seen)s::pg_snapshot)
    ORDER BY changed_xid LIMIT {MOST_CHANGES + 1})
    """
    for kind, table, key, customer in _SOURCES
)


async def snapshot(conn: Connection) -> str:
    """What there is now, as the beginning of `changed`."""
    cursor = await conn.execute("SELECT pg_current_snapshot()::text")
    row = await cursor.fetchone()
    assert row is not None
    text: str = row[0]
    return text


async def changed(conn: Connection, seen: str) -> Changes:
    """What was committed since that snapshot, and the snapshot of the very statement that read it."""
    cursor = await conn.execute(
        f"""
        SELECT pg_current_snapshot()::text, source, kind, id, customer_id
        FROM (SELECT) always LEFT JOIN ({_CHANGED}) changed ON true
        """.encode(),
        {"seen": seen},
    )
    rows = await cursor.fetchall()
    counts: dict[str, int] = {}
    for _, source, *_ in rows:
        counts[source] = counts.get(source, 0) + 1
    full = {source for source, count in counts.items() if count > MOST_CHANGES}
    return Changes(
        snapshot=rows[0][0],
        changes=[Change(Kind(kind), row_id, customer) for _, _, kind, row_id, customer in rows if kind not in (None, "user")],
        too_many=bool(full - {"users"}),
        users=None if "users" in full else frozenset(row_id for _, _, kind, row_id, _ in rows if kind == "user"),
    )

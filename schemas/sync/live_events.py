"""Live events: which rows changed, and which users may know of it. Only kinds and ids; a client requests the rows themselves.

The cursor is a Postgres snapshot. Changes visible in it were published already. A row whose `changed_xid` is not visible in it
was not, even if its transaction started long before the snapshot and commits long after it. So no change is missed, and none is
published twice while an old transaction stays open. A snapshot means something only in the epoch in which it was taken
(schemas/postgres/sync_epochs.py).
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from schemas.postgres import sync_epochs
from schemas.postgres.connection import Connection
from schemas.postgres.foreign_xids import FIRST_UNUSED

CHANNEL = "stint_changed"  # the channel that the triggers notify
MAX_CHANGES = 1_000  # of one table, between two reads; with more, it is cheaper for clients to read everything again


class Kind(StrEnum):
    """The kinds of events. The id of an active timer or a focus is the user's id."""

    task = "task"
    time_bill = "timeBill"
    active_timer = "activeTimer"
    focus = "focus"


@dataclass(frozen=True)
class Change:
    """A row that changed. The firm's own users may know of it, and the users of this customer, if it is not None. `user_id`:
    whose timer, focus or time bill it is; None for a task, and where it is not known."""

    kind: Kind
    id: UUID
    customer_id: UUID | None
    user_id: UUID | None = None


@dataclass(frozen=True)
class Snapshot:
    """A snapshot, and the epoch in which it was taken; None: the server had none."""

    text: str
    epoch: int | None


@dataclass(frozen=True)
class Changes:
    """The changes committed between two snapshots; `snapshot` is the second one. `too_many`: not all of them are listed; also
    when another epoch began. `users`: those whose own rows changed, and so perhaps their rights; None
    when not all of these are known."""

    snapshot: Snapshot
    changes: list[Change]
    too_many: bool
    users: frozenset[UUID] | None


# What shows a change: the kind, the table, the columns with the id and with whose it is, and the customer whose users may also
# know of it.
_SOURCES = [
    (Kind.task, "tasks", "id", "NULL::uuid", "customer_id"),
    # for the users of a customer that a task has left: they have to remove it
    (Kind.task, "task_moves", "task_id", "NULL::uuid", "customer_id"),
    (Kind.time_bill, "time_bills", "id", "user_id", "CASE WHEN status = 'approved' THEN customer_id END"),
    (Kind.time_bill, "bill_reopenings", "bill_id", "NULL::uuid", "customer_id"),
    (Kind.active_timer, "timers", "user_id", "user_id", "NULL::uuid"),
    (Kind.active_timer, "timer_ends", "user_id", "user_id", "NULL::uuid"),
    (Kind.focus, "focus", "user_id", "user_id", "NULL::uuid"),
    ("user", "users", "id", "id", "NULL::uuid"),
]
# Ordered and limited, so that every plan reads each table by its index, and no more rows than are useful.
_CHANGED_ROWS = " UNION ALL ".join(
    f"""
    (SELECT '{table}' AS source, '{kind}' AS kind, {key} AS id, {customer} AS customer_id, {owner} AS user_id
    FROM {table}
    WHERE changed_xid >= pg_snapshot_xmin(%(since)s::pg_snapshot)
      AND changed_xid < {FIRST_UNUSED}   -- not the rows of a restored dump
      AND NOT pg_visible_in_snapshot(changed_xid, %(since)s::pg_snapshot)
    ORDER BY changed_xid LIMIT {MAX_CHANGES + 1})
    """
    for kind, table, key, owner, customer in _SOURCES
)


async def current_snapshot(conn: Connection) -> Snapshot:
    """The snapshot to pass to the first `changes_since`."""
    query = "SELECT pg_current_snapshot()::text, sync_epoch()"
    snapshot = Snapshot(*await conn.one(query))
    if snapshot.epoch is None and await sync_epochs.begin(conn):
        snapshot = Snapshot(*await conn.one(query))
    return snapshot


async def changes_since(conn: Connection, snapshot: Snapshot) -> Changes:
    """The changes committed since that snapshot, with the snapshot of the statement that reads them."""
    rows = await conn.all(
        f"""
        SELECT pg_current_snapshot()::text, epoch, source, kind, id, customer_id, user_id
        FROM (SELECT sync_epoch() AS epoch OFFSET 0) always LEFT JOIN ({_CHANGED_ROWS}) changed ON true
        """,
        {"since": snapshot.text},
    )
    now = Snapshot(*rows[0][:2])
    counts = Counter(source for _, _, source, *_ in rows)
    cut = {source for source, count in counts.items() if count > MAX_CHANGES}
    is_new_epoch = now.epoch != snapshot.epoch
    users = frozenset(row_id for _, _, _, kind, row_id, *_ in rows if kind == "user")
    return Changes(
        snapshot=now,
        changes=[Change(Kind(kind), *found) for _, _, _, kind, *found in rows if kind not in (None, "user")],
        too_many=is_new_epoch or bool(cut - {"users"}),
        users=None if is_new_epoch or "users" in cut else users,
    )

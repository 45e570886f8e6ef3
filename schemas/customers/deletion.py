"""Checks before a customer or a pillar is deleted: it cannot be deleted while recorded or pending hours refer to it.

A deletion locks the customer's row (`customers.lock`), and then, in this module, its tasks. Everything that adds hours locks
the task of the hours FOR SHARE: the start of a timer, an entry by hand, the actor of a stop, and a move of entries.

So after these locks, one query finds all hours that can exist, because it has one snapshot: a running timer, or its pending
stop, or its entry on a bill.
"""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Row
from schemas.errors import Conflict
from schemas.postgres.connection import Connection

MAX_IDS = 20  # of each kind, in the answer


class References(Row):
    """The rows that forbid deleting a customer or a pillar; up to 20 ids of each kind."""

    time_bills: list[UUID]
    time_entries: Annotated[
        list[UUID], Field(description="those on no bill, and those that will follow their task to this customer")
    ]
    timers: Annotated[list[UUID], Field(description="ids of users whose timer runs on one of its tasks")]
    unfinished_stops: Annotated[
        list[UUID],
        Field(
            description="messages that have not created their time entry; a dead one can be replayed, a discarded one restored"
        ),
    ]


@dataclass(frozen=True)
class DeletionScope:
    """The customer or the pillar to delete."""

    customer_id: UUID
    pillar_id: UUID | None = None

    @property
    def noun(self) -> str:
        return "customer" if self.pillar_id is None else "pillar"

    @property
    def condition(self) -> str:
        """The SQL condition on rows that have a customer and a pillar."""
        return "customer_id = %(customer)s" + (" AND pillar_id = %(pillar)s" if self.pillar_id is not None else "")

    @property
    def parameters(self) -> dict[str, Any]:
        return {"customer": self.customer_id, "pillar": self.pillar_id}


async def lock_tasks(conn: Connection, scope: DeletionScope) -> list[UUID]:
    """Locks the tasks in the order of their ids, and returns the ids.

    Raises Conflict while hours refer to the customer or pillar. These are time bills with entries, entries without a bill,
    running timers, and unfinished stops.
    """
    task_ids = await conn.values(
        f"SELECT id FROM tasks WHERE {scope.condition} AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE", scope.parameters
    )
    references = await _find_references(conn, scope, task_ids)
    kinds = {
        "time bills": references.time_bills,
        "time entries": references.time_entries,
        "running timers": references.timers,
        "unfinished stops": references.unfinished_stops,
    }
    if names := [name for name, ids in kinds.items() if ids]:
        text = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        raise Conflict(
            f"This {scope.noun} can't be deleted: {text} refer to it.", references=references.model_dump(mode="json")
        )
    return task_ids


async def tombstone_empty_bills(conn: Connection, scope: DeletionScope) -> None:
    """Locks the bills in the order of their ids, and makes them tombstones. None has entries.

    Call it after `lock_tasks`, which checks that there are no other bills.
    """
    bill_ids = await conn.values(
        f"SELECT id FROM time_bills WHERE {scope.condition} AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
        scope.parameters,
    )
    await conn.execute(
        """
        UPDATE time_bills SET deleted_at = now(), seconds = 0, stale = false, version = version + 1 WHERE id = ANY(%s)
        """,
        (bill_ids,),
    )


async def _find_references(conn: Connection, scope: DeletionScope, task_ids: list[UUID]) -> References:
    """The hours that refer to it. It is one statement with one snapshot, because a stop may happen at any moment: it removes
    the timer and enqueues its message."""
    # A task that moved here from another customer will bring its entries. That does not matter for a pillar: its tasks, with
    # their entries, move to the default pillar.
    coming = "e.task_id = ANY(%(tasks)s) AND e.customer_id <> %(customer)s" if scope.pillar_id is None else "false"
    stops = "queue = 'timers' AND actor = 'stop_timer' AND body->>'task_id' = ANY(%(tasks)s::uuid[]::text[])"
    return await conn.one(
        f"""
        SELECT ARRAY(SELECT b.id FROM time_bills b WHERE {scope.condition} AND b.deleted_at IS NULL AND (
                         b.status = 'approved'
                         OR EXISTS (SELECT FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL))
                     LIMIT {MAX_IDS}) AS time_bills,
               ARRAY(SELECT e.id FROM time_entries e WHERE {scope.condition} AND e.bill_id IS NULL AND e.deleted_at IS NULL
                     UNION ALL SELECT e.id FROM time_entries e WHERE {coming} AND e.deleted_at IS NULL LIMIT {MAX_IDS})
                   AS time_entries,
               ARRAY(SELECT user_id FROM timers WHERE task_id = ANY(%(tasks)s) LIMIT {MAX_IDS}) AS timers,
               ARRAY(SELECT id FROM messages WHERE state = 'ready' AND {stops}  -- by state: each has its own index
                     UNION ALL SELECT id FROM messages WHERE state = 'sent' AND {stops}
                     UNION ALL SELECT id FROM messages WHERE state IN ('dead', 'discarded') AND {stops} LIMIT {MAX_IDS})
                   AS unfinished_stops
        """,
        scope.parameters | {"tasks": task_ids},
        row=References,
    )


@dataclass(frozen=True)
class Obstacle:
    """One row that forbids a deletion, as a page shows it.

    `id` is that of the bill, of the entry, of the timer's user, or of the stop's message. `person` is a name; without one, an
    address.
    """

    kind: Literal["time bill", "time entry", "running timer", "unfinished stop"]
    id: UUID
    person: str
    task: str | None
    day: date | None
    state: str | None


async def obstacles(conn: Connection, references: References) -> list[Obstacle]:
    """What the references of a refused deletion are: kind by kind, the latest day first."""
    person = "coalesce(nullif(u.name, ''), u.email, 'a user who was deleted') AS person"
    return await conn.all(
        f"""
        SELECT * FROM (
            SELECT 'time bill' AS kind, b.id, {person}, NULL AS task, b.date AS day, b.status AS state
            FROM time_bills b LEFT JOIN users u ON u.id = b.user_id WHERE b.id = ANY(%(time_bills)s)
            UNION ALL
            SELECT 'time entry', e.id, {person}, t.title, e.date, NULL
            FROM time_entries e LEFT JOIN users u ON u.id = e.user_id LEFT JOIN tasks t ON t.id = e.task_id
            WHERE e.id = ANY(%(time_entries)s)
            UNION ALL
            SELECT 'running timer', r.user_id, {person}, t.title, NULL, NULL
            FROM timers r LEFT JOIN users u ON u.id = r.user_id LEFT JOIN tasks t ON t.id = r.task_id
            WHERE r.user_id = ANY(%(timers)s)
            UNION ALL
            SELECT 'unfinished stop', m.id, {person}, t.title, NULL, m.state
            FROM messages m LEFT JOIN users u ON u.id = (m.body->>'user_id')::uuid
                LEFT JOIN tasks t ON t.id = (m.body->>'task_id')::uuid
            WHERE m.id = ANY(%(unfinished_stops)s)
        ) found ORDER BY kind, day DESC NULLS FIRST, person, id
        """,
        references.model_dump(by_alias=False),
        row=Obstacle,
    )

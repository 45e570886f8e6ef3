"""What still refers to a customer or a pillar, and so keeps it from being deleted: hours, and the promise of hours.

Who deletes one holds the customer's row (`customers.lock`), and by this module the tasks. New hours come by way of a task that
is held meanwhile: a timer's start, an entry by hand, the stop's actor and a move of entries hold it shared. So what one look
after that finds, with one snapshot, is all that there will be: a running timer is still there, or its stop is on its way, or
its entry is on a bill.
"""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from schemas.base import Row
from schemas.database import Connection
from schemas.errors import Conflict

NAMED = 20  # ids of each kind in an answer


class References(Row):
    """What keeps a customer or a pillar from being deleted; up to 20 ids of each kind."""

    time_bills: list[UUID]
    time_entries: Annotated[list[UUID], Field(description="those on no bill of it, or still to follow their task to it")]
    timers: Annotated[list[UUID], Field(description="whose timer runs on one of its tasks: ids of users")]
    unfinished_stops: Annotated[
        list[UUID], Field(description="messages that have not become a time entry yet; one that is dead can be replayed")
    ]


@dataclass(frozen=True)
class Area:
    """A customer, or one of its pillars."""

    customer_id: UUID
    pillar_id: UUID | None = None

    @property
    def noun(self) -> str:
        return "customer" if self.pillar_id is None else "pillar"

    @property
    def condition(self) -> str:
        """On rows that have a customer and a pillar."""
        return "customer_id = %(customer)s" + (" AND pillar_id = %(pillar)s" if self.pillar_id is not None else "")

    @property
    def parameters(self) -> dict[str, Any]:
        return {"customer": self.customer_id, "pillar": self.pillar_id}


async def hold_tasks(conn: Connection, area: Area) -> list[UUID]:
    """Locks the area's tasks, in the order of their ids, and raises Conflict when hours, or the promise of some, refer to it:
    time bills with entries on them, entries without a bill, running timers, stops that are not done."""
    cursor = await conn.execute(
        f"SELECT id FROM tasks WHERE {area.condition} AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE".encode(),
        area.parameters,
    )
    task_ids = [row[0] for row in await cursor.fetchall()]
    found = await _references(conn, area, task_ids)
    kinds = {
        "time bills": found.time_bills,
        "time entries": found.time_entries,
        "running timers": found.timers,
        "stops that are no entry yet": found.unfinished_stops,
    }
    if names := [name for name, ids in kinds.items() if ids]:
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        raise Conflict(f"This {area.noun} can't be deleted: {listed} refer to it.", references=found.model_dump(mode="json"))
    return task_ids


async def bury_empty_bills(conn: Connection, area: Area) -> None:
    """Leaves tombstones of the bills that no entry is on any more, once `hold_tasks` has found no others."""
    await conn.execute(
        f"""
        UPDATE time_bills SET deleted_at = now(), seconds = 0, stale = false, version = version + 1
        WHERE {area.condition} AND deleted_at IS NULL
        """.encode(),
        area.parameters,
    )


async def _references(conn: Connection, area: Area, task_ids: list[UUID]) -> References:
    """All in one statement, and so one snapshot: a stop may take the timer away and promise an entry at any moment."""
    # a task that came from elsewhere brings its entries; one that leaves a pillar takes them along
    coming = "e.task_id = ANY(%(tasks)s) AND e.customer_id <> %(customer)s" if area.pillar_id is None else "false"
    stops = "queue = 'timers' AND actor = 'stop_timer' AND body->>'task_id' = ANY(%(tasks)s::uuid[]::text[])"
    cursor = await conn.execute(
        f"""
        SELECT ARRAY(SELECT b.id FROM time_bills b WHERE {area.condition} AND b.deleted_at IS NULL AND (
                         b.status = 'approved'
                         OR EXISTS (SELECT FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL))
                     LIMIT {NAMED}),
               ARRAY(SELECT e.id FROM time_entries e WHERE {area.condition} AND e.bill_id IS NULL AND e.deleted_at IS NULL
                     UNION ALL SELECT e.id FROM time_entries e WHERE {coming} AND e.deleted_at IS NULL LIMIT {NAMED}),
               ARRAY(SELECT user_id FROM timers WHERE task_id = ANY(%(tasks)s) LIMIT {NAMED}),
               ARRAY(SELECT id FROM messages WHERE state = 'ready' AND {stops}  -- by state, so that each finds its index
                     UNION ALL SELECT id FROM messages WHERE state = 'sent' AND {stops}
                     UNION ALL SELECT id FROM messages WHERE state IN ('dead', 'discarded') AND {stops} LIMIT {NAMED})
        """.encode(),
        area.parameters | {"tasks": task_ids},
    )
    row = await cursor.fetchone()
    assert row is not None
    return References(time_bills=row[0], time_entries=row[1], timers=row[2], unfinished_stops=row[3])

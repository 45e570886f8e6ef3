"""Logging time by hand: a time entry without a timer."""

from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field

from schemas.base import Flag, Second, Text, json_object
from schemas.customers.tasks import lock_for_hours
from schemas.errors import Forbidden, Invalid
from schemas.hours.bill_sums import BillKey, enqueue_recompute, ensure_open_bills
from schemas.hours.entry_rules import EntryRules, get_horizon
from schemas.hours.entry_times import Duration, refuse_overlap, resolve_new
from schemas.hours.time_entries import ENTRIES, UNFINISHED_STOPS, TimeEntry
from schemas.identity import users
from schemas.identity.current_user import UserId
from schemas.identity.users import User, lock_user
from schemas.postgres.connection import Connection
from schemas.postgres.versioned_table import NewRow

AllowOverlap = Annotated[Flag, Field(description="accept that the entry overlaps others of the same user")]


class NewTimeEntry(NewRow):
    """Time logged by hand: a start, and an end or a duration. If you choose the `id`, the request can be repeated safely."""

    task_id: UUID
    user_id: Annotated[UserId | None, Field(description="whose time it is: your own, or as an admin anybody's")] = None
    start_time: Annotated[Second, Field(examples=["2026-11-23T09:30:00Z"])]
    end_time: Annotated[Second | None, Field(examples=["2026-11-23T11:00:00Z"])] = None
    duration: Duration | None = None
    notes: Text = ""
    allow_overlap: AllowOverlap = False


async def create(conn: Connection, body: NewTimeEntry, *, by: User, rules: EntryRules) -> TimeEntry:
    """Creates the entry, on the open bill of its day. A request with the same id and the same body returns the same entry.

    Raises

    - Invalid: the times do not agree or are too far ahead, or there is no such task or user;
    - Conflict: the entry overlaps another one, the task is archived, its customer is inactive, or the id is taken;
    - Forbidden: the time is of another user, and `by` is no admin.
    """
    user_id = body.user_id or by.id
    if user_id != by.id and not by.is_admin:
        raise Forbidden("Only an admin can log time for somebody else.")
    if not await lock_user(conn, user_id) or (user_id != by.id and not await _has_hours(conn, user_id)):
        raise Invalid("userId", "No consultant has this id; GET /api/tasks/internal-users lists them.")
    # an id is also taken by a running timer, or by a stop whose entry does not exist yet
    before = await ENTRIES.created_before(
        conn, body, condition="user_id = %(user)s", user=user_id,
        ids_in_use=f"""
            UNION ALL SELECT NULL, false FROM timers WHERE id = %(id)s
            UNION ALL SELECT NULL, false FROM ({UNFINISHED_STOPS}) stop""",
    )  # fmt: skip
    if before is not None:
        return before
    horizon = await get_horizon(conn, rules)
    start, end = resolve_new(body.start_time, body.end_time, body.duration, horizon=horizon)
    entry_id = body.id or uuid4()
    customer_id, pillar_id = await lock_task(conn, body.task_id)
    day = await conn.value("SELECT (%s::timestamptz AT TIME ZONE %s)::date", (start, rules.zone))
    key = BillKey(user_id, customer_id, pillar_id, day)
    if not body.allow_overlap:
        await refuse_overlap(conn, entry_id, user_id, start, end)
    bill_ids, _ = await ensure_open_bills(conn, [key])
    row = await conn.value(
        f"""
        INSERT INTO time_entries AS e (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, notes,
                                       bill_id, created_from)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (id) DO NOTHING RETURNING {json_object(TimeEntry, "e")}::text
        """,
        (entry_id, body.task_id, user_id, key.customer_id, key.pillar_id, start, end, key.date, body.notes,
         bill_ids[key], body.fingerprint()),
    )  # fmt: skip
    if row is None:  # a concurrent request for another user created it
        raise ENTRIES.id_is_taken()
    await enqueue_recompute(conn, bill_ids.values(), by=by.id)
    return TimeEntry.from_json(row)


async def _has_hours(conn: Connection, user_id: UUID) -> bool:
    """Whether the user is a consultant, or has recorded hours: an admin completes the hours of people who have left."""
    query = "SELECT 1 FROM time_bills WHERE user_id = %s LIMIT 1"
    return await users.is_consultant(conn, user_id) or await conn.maybe(query, (user_id,)) is not None


async def lock_task(conn: Connection, task_id: UUID) -> tuple[UUID, UUID]:
    """Locks the task that an entry is given to. Returns the ids of its customer and its pillar.

    Raises Invalid for an unknown task, and Conflict for one that takes no new hours.
    """
    task = await lock_for_hours(conn, task_id)
    if task is None:
        raise Invalid("taskId", "There is no such task; GET /api/tasks lists them.")
    task.refuse_new_hours()
    return task.customer_id, task.pillar_id

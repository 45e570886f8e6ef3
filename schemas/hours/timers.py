"""Timers: each user has at most one that runs. schemas/hours/timer_stops.py stops them.

Times are those of the database's clock, in whole seconds. A client may set the start to an earlier time.

Starts, stops, changes and discards lock the user's row first. So requests of one user from several clients are handled one
after another.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field

from schemas.base import Body, Lookup, Second, Text, Version, json_object
from schemas.customers.tasks import LockedTask, lock_for_hours, refuse_new_hours
from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.hours.entry_times import MAX_DURATION
from schemas.hours.timer_stops import CLOCK_SKEW, Stop, Timer, get_running, stop_running
from schemas.identity import users
from schemas.identity.users import User, lock_user, lock_with_access
from schemas.messages import StopTimer
from schemas.outbox import outbox
from schemas.postgres.connection import Connection, one_json
from schemas.postgres.functions import installed
from schemas.postgres.listing import Order, Page, Selection


class EnrichedTimer(Timer):
    """A running timer with the names of what its ids refer to (`enrich=true`)."""

    task_title: Annotated[str, Lookup("tasks", "task_id", "{j}.title")]
    customer_id: Annotated[UUID, Lookup("tasks", "task_id", "{j}.customer_id")]
    customer_name: Annotated[str, Lookup("tasks", "task_id", "(SELECT c.name FROM customers c WHERE c.id = {j}.customer_id)")]
    user_name: Annotated[str, Lookup("users", "user_id", "{j}.name")]
    user_email: Annotated[str, Lookup("users", "user_id", "{j}.email")]


class StartedTimer(Timer):
    """The running timer, and the stop of the timer that ran before it."""

    stopped: Stop | None = None


class StartTimer(Body):
    """How to start; all fields are optional, and so is the body."""

    notes: Annotated[Text, Field(examples=["Reading the logs"])] = ""


@dataclass(frozen=True)
class NewTimer:
    """A timer to insert; without `start_time` it starts now."""

    user_id: UUID
    task_id: UUID
    notes: str
    start_time: datetime | None = None
    id: UUID | None = None


class TimerChange(Body):
    """The task, the start and the notes of the timer. A field that is left out keeps its value; a new timer starts now."""

    task_id: UUID
    start_time: Annotated[Second | None, Field(examples=["2026-11-23T09:30:00Z"])] = None
    notes: Text | None = None
    version: Version | None = None


async def start(conn: Connection, task_id: UUID, *, user_id: UUID, notes: str = "") -> tuple[StartedTimer, bool]:
    """Starts the user's timer on that task, if it does not run already, and stops a timer on another task.

    Returns the timer, and whether it was started now. It is one statement, which needs no transaction around it.

    Raises NotFound for an unknown task, Conflict for a task that is archived or of an inactive customer, and Forbidden if the
    user's access was revoked.
    """
    outcome, status, customer_is_active, timer, stopped = await conn.one(
        f"""
        SELECT f.outcome, f.task_status, f.customer_is_active, {json_object(Timer, "(f.timer)")}::text,
               CASE WHEN (f.stopped).entry_id IS NOT NULL THEN {json_object(Stop, "(f.stopped)")}::text END
        FROM {installed("start_timer")}(%s, %s, %s, %s, %s, %s) AS f
        """,
        (user_id, task_id, notes, uuid4(), StopTimer.max_attempts, outbox.cause.get()),
    )
    if outcome == "no task":
        raise NotFound("There is no such task.")
    if outcome == "removed":
        raise Forbidden(users.REVOKED)
    if outcome == "refused":
        refuse_new_hours(status, customer_is_active=customer_is_active)
    running = StartedTimer.from_json(timer)
    if stopped is not None:
        running = running.model_copy(update={"stopped": Stop.from_json(stopped)})
    return running, outcome == "started"


async def start_or_change(conn: Connection, user_id: UUID, change: TimerChange, *, by: User) -> tuple[StartedTimer, bool]:
    """Starts or changes the user's timer. A timer on another task is stopped, at the time when the new one starts.

    Returns the timer, and whether it was started now.

    Raises

    - NotFound: there is no such user;
    - Invalid: there is no such task, or the start is impossible;
    - Conflict: the task is archived, or the version is stale;
    - Forbidden: `by` is the user, and the user's access was revoked.
    """
    if user_id == by.id:
        await lock_with_access(conn, user_id)
    elif not await lock_user(conn, user_id) or not await users.is_consultant(conn, user_id):
        raise NotFound("No consultant has this id; GET /api/tasks/internal-users lists them.")
    running = await get_running(conn, user_id)
    if change.version is not None and (running is None or running.version != change.version):
        current = running.model_dump(mode="json") if running is not None else None
        raise Conflict("The timer has changed since you read it.", current=current)
    same = running is not None and (running.task_id, running.start_time) == (change.task_id, change.start_time)
    start_time = None if same else await clamp_start(conn, change.start_time)
    task = await lock_for_hours(conn, change.task_id)
    if task is None:
        raise Invalid("taskId", "There is no such task; GET /api/tasks lists them.")
    if running is None or running.task_id != change.task_id:
        new = NewTimer(user_id, change.task_id, change.notes or "", start_time)
        return await insert_timer(conn, new, task=task, running=running), True
    changed = await conn.value(
        f"""
        UPDATE timers t
        SET start_time = coalesce(%(start)s, start_time), notes = coalesce(%(notes)s, notes), version = version + 1
        WHERE user_id = %(user)s AND (coalesce(%(start)s, start_time), coalesce(%(notes)s, notes)) <> (start_time, notes)
        RETURNING {json_object(Timer, "t")}::text
        """,
        {"user": user_id, "start": start_time, "notes": change.notes},
    )
    timer = Timer.from_json(changed) if changed is not None else running
    return StartedTimer(**timer.model_dump()), False


async def discard(conn: Connection, user_id: UUID, *, timer_id: UUID | None = None, version: int | None = None) -> None:
    """Deletes the user's timer without creating an entry.

    Raises NotFound if no timer runs. Raises Conflict if another one than `timer_id` runs, or if it has another `version`.
    """
    await lock_user(conn, user_id)
    running = await get_running(conn, user_id)
    if running is None:
        raise NotFound("No timer is running.")
    if timer_id not in (None, running.id):
        raise Conflict("Another timer is running, and stays so.", current=running.model_dump(mode="json"))
    if version not in (None, running.version):
        raise Conflict("The timer has changed since you read it.", current=running.model_dump(mode="json"))
    await conn.execute("DELETE FROM timers WHERE user_id = %s", (user_id,))


async def clamp_start(conn: Connection, start_time: datetime | None) -> datetime | None:
    """The start of a timer for which a client sends this time. Raises Invalid for a time that is in the future, or longer ago
    than an entry may last. A time that is in the future by CLOCK_SKEW or less becomes now: the client's clock may be ahead."""
    if start_time is None:
        return None
    now: datetime = await conn.value("SELECT date_trunc('second', now(), 'UTC')")
    if start_time > now + CLOCK_SKEW:
        raise Invalid("startTime", "The start is in the future.")
    if start_time < now - MAX_DURATION:
        raise Invalid("startTime", f"The start is more than {MAX_DURATION.days} days ago; log this time as an entry.")
    return min(start_time, now)


async def insert_timer(conn: Connection, new: NewTimer, *, task: LockedTask, running: Timer | None) -> StartedTimer:
    """Starts a timer of a user whose row is locked, and stops the `running` one. Raises Conflict for a task that takes no new
    hours."""
    task.refuse_new_hours()
    stopped = None
    if running is not None:
        stopped = await stop_running(conn, running.task_id, user_id=new.user_id, at=new.start_time)
    timer = await conn.value(
        f"SELECT {json_object(Timer, 't')}::text FROM {installed('insert_timer')}(%s, %s, %s, %s, %s) AS t",
        (new.user_id, new.id or uuid4(), new.task_id, new.notes, new.start_time),
    )
    return StartedTimer(**Timer.from_json(timer).model_dump(), stopped=stopped.stop if stopped else None)


async def list_page(conn: Connection, page: Page, *, enrich: bool = False) -> bytes:
    """All running timers, latest start first; for the firm's own people."""
    model = EnrichedTimer if enrich else Timer
    return await Selection("timer", model, "timers", "t", Order("start_time", "timestamptz")).page(conn, page)


async def get_active(conn: Connection, user_id: UUID) -> bytes:
    """The user's running timer as JSON. Raises NotFound when none is running."""
    found = await one_json(conn, f"SELECT {json_object(Timer, 't')} FROM timers t WHERE user_id = %s", (user_id,))
    if found is None:
        raise NotFound("No timer is running.")
    return found

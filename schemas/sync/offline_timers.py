"""Timers that a client has started or stopped while it was offline. The client sends the times and the ids.

No time that was worked is lost because of another device:

- A start never stops another timer, because the client may not know of it.
- A stop creates the entry even if no timer with its id runs.
- If two devices disagree, the operation is a conflict. Its result contains the timer or the entry as it is now.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Second, Text, json_object
from schemas.customers.tasks import LockedTask, lock_for_hours
from schemas.errors import Conflict, Invalid
from schemas.hours import time_entries, timer_stops, timers
from schemas.hours.entry_rules import check_earliest, check_run
from schemas.hours.time_entries import ENTRIES, UNFINISHED_STOPS, TimeEntry
from schemas.hours.timer_stops import Stop, Timer
from schemas.hours.timers import NewTimer
from schemas.identity.users import lock_user, lock_with_access
from schemas.messages import StopTimer
from schemas.outbox import outbox
from schemas.outbox.outbox import State
from schemas.postgres.connection import Connection


class OfflineStart(Body):
    """A timer that a client started and that still runs."""

    id: Annotated[UUID, Field(description="the timer's, and later the time entry's")]
    task_id: UUID
    start_time: Second
    notes: Text = ""


class OfflineStop(Body):
    """A timer that a client stopped, with all its values."""

    id: Annotated[UUID, Field(description="the timer's, and the time entry's")]
    task_id: UUID
    start_time: Second
    end_time: Second
    notes: Annotated[Text | None, Field(description="null: the timer keeps its notes")] = None


async def start(conn: Connection, body: OfflineStart, *, user_id: UUID) -> Timer:
    """Starts the user's timer with that id and start time, or returns it if it runs already.

    Raises

    - Invalid: the start time is impossible, or there is no such task;
    - Conflict: the task is archived, another timer runs, or the id is used already;
    - Forbidden: the user's access was revoked.
    """
    await lock_with_access(conn, user_id)
    running = await timer_stops.get_running(conn, user_id)
    if running is not None:
        if (running.id, running.task_id, running.start_time) == (body.id, body.task_id, body.start_time):
            return running
        if running.id == body.id:
            why = "The timer was changed by another client."
        else:
            why = "Another timer runs. Stop that one first; or send the stop of this one: its time counts, too."
        raise Conflict(why, current=_timer_json(running))
    if (existing := await _existing_entry(conn, body.id, user_id)) is not None:
        raise Conflict("This timer was stopped already.", current=existing.json)
    start_time = await timers.clamp_start(conn, body.start_time)
    task = await _lock_task(conn, body.task_id)
    new = NewTimer(user_id, body.task_id, body.notes, start_time, body.id)
    started = await timers.insert_timer(conn, new, task=task, running=None)
    return Timer(**started.model_dump(exclude={"stopped"}))


async def stop(conn: Connection, body: OfflineStop, version: int | None, *, user_id: UUID) -> Stop:
    """Stops the user's timer with that id at that time. If no such timer runs, it enqueues the creation of the entry.

    `version` is the version of the running timer that the client knows. With it, the timer gets the start time and the notes of
    the stop. Without it, they must be equal already.

    Raises Invalid for impossible times and for an unknown task. Raises Conflict if the timer, or the entry that it has become,
    differs from the stop.
    """
    await lock_user(conn, user_id)
    start_time, end_time = await _clamp_times(conn, body)
    running = await timer_stops.get_running(conn, user_id)
    if running is not None and running.id == body.id:
        return await _stop_running(conn, running, body, version, start_time, end_time)
    if (existing := await _existing_entry(conn, body.id, user_id)) is not None:
        return _receipt_if_same(existing, body, start_time, end_time)
    await _lock_task(conn, body.task_id)
    message = StopTimer(
        entry_id=body.id,
        user_id=user_id,
        task_id=body.task_id,
        start_time=start_time,
        end_time=end_time,
        notes=body.notes or "",
    )
    await outbox.enqueue(conn, message, created_by=user_id)
    return _receipt(body, start_time, end_time)


async def create_pending_entry(conn: Connection, entry_id: UUID, *, user_id: UUID, zone: str) -> None:
    """Creates the user's entry now if the message of its stop was not handled yet.

    So an operation right after the stop can change the entry. The message is completed: a later delivery of it does nothing.
    """
    message_id = await conn.value(
        f"""
        SELECT stop.id FROM ({UNFINISHED_STOPS}) stop JOIN messages m ON m.id = stop.id
        WHERE m.body->>'user_id' = %(user)s::uuid::text AND NOT EXISTS (SELECT FROM time_entries WHERE id = %(id)s)
        """,
        {"id": entry_id, "user": user_id},
    )
    if message_id is None:
        return
    # the message before the user, as in the handler of the message, which locks both too
    record = await outbox.lock(conn, message_id)
    if record is not None and record.state in (State.ready, State.sent):
        stopped = StopTimer.model_validate(record.body)
        await time_entries.create_from_stop(conn, stopped, zone=zone)
        await outbox.complete(conn, record.id)


async def _clamp_times(conn: Connection, body: OfflineStop) -> tuple[datetime, datetime]:
    """The start and the end of the entry. Raises Invalid for impossible times.

    Times that are in the future by CLOCK_SKEW or less become now, because the client's clock may be ahead.
    """
    check_earliest("startTime", body.start_time)
    end_time = await timer_stops.clamp_end(conn, body.start_time, body.end_time)
    check_run("startTime", body.start_time, body.end_time)
    return min(body.start_time, end_time), end_time


async def _stop_running(
    conn: Connection, running: Timer, body: OfflineStop, version: int | None, start_time: datetime, end_time: datetime
) -> Stop:
    notes = running.notes if body.notes is None else body.notes
    is_equal = (running.start_time, running.notes) == (start_time, notes)
    is_current = is_equal if version is None else version == running.version
    if running.task_id != body.task_id or not is_current:
        raise Conflict("The timer was changed by another client, and still runs.", current=_timer_json(running))
    await conn.execute(
        "UPDATE timers SET start_time = %s, notes = %s WHERE user_id = %s AND (start_time, notes) <> (%s, %s)",
        (start_time, notes, running.user_id, start_time, notes),
    )
    receipt = await timer_stops.stop_running(conn, body.task_id, user_id=running.user_id, ended_at=end_time)
    assert receipt is not None, "the user's row is locked, and the timer was there"
    return receipt.stop


@dataclass(frozen=True)
class _ExistingEntry:
    """What has the id of an entry already."""

    json: dict[str, Any]  # the entry, its tombstone, or the receipt of a stop whose entry is not created yet
    notes: str


async def _existing_entry(conn: Connection, entry_id: UUID, user_id: UUID) -> _ExistingEntry | None:
    """The user's entry with that id. None: the id is free.

    Raises Conflict when the id is used by another user, or by a running timer. One statement reads entries and stops, because a
    stop can become an entry at any moment.
    """
    row = await conn.maybe(
        f"""
        SELECT user_id, CASE WHEN deleted_at IS NULL THEN {json_object(TimeEntry, "e")}
                             ELSE json_build_object('id', id, 'deleted', true) END, notes
        FROM time_entries e WHERE id = %(id)s
        UNION ALL SELECT user_id, NULL, notes FROM timers WHERE id = %(id)s
        UNION ALL SELECT (m.body->>'user_id')::uuid, json_build_object(
            'entryId', m.body->'entry_id', 'taskId', m.body->'task_id',
            'startTime', m.body->'start_time', 'endTime', m.body->'end_time',
            'duration', extract(epoch FROM (m.body->>'end_time')::timestamptz - (m.body->>'start_time')::timestamptz)::bigint),
            m.body->>'notes'
        FROM ({UNFINISHED_STOPS}) stop JOIN messages m ON m.id = stop.id
        LIMIT 1
        """,
        {"id": entry_id},
    )
    if row is None:
        return None
    owner_id, entry, notes = row
    if owner_id != user_id or entry is None:
        raise ENTRIES.id_is_taken()
    return _ExistingEntry(entry, notes)


def _receipt_if_same(existing: _ExistingEntry, body: OfflineStop, start_time: datetime, end_time: datetime) -> Stop:
    """The receipt of a stop that is repeated. Raises Conflict if the entry differs from this stop."""
    entry = existing.json
    if not entry.get("deleted"):
        times = (datetime.fromisoformat(entry["startTime"]), datetime.fromisoformat(entry["endTime"]))
        same_notes = body.notes in (None, existing.notes)
        if times == (start_time, end_time) and entry["taskId"] == str(body.task_id) and same_notes:
            return _receipt(body, start_time, end_time)
    raise Conflict("This timer was stopped by another client, and its time entry differs from this stop.", current=entry)


def _receipt(body: OfflineStop, start_time: datetime, end_time: datetime) -> Stop:
    duration = int((end_time - start_time).total_seconds())
    return Stop(entry_id=body.id, task_id=body.task_id, start_time=start_time, end_time=end_time, duration=duration)


async def _lock_task(conn: Connection, task_id: UUID) -> LockedTask:
    """Locks the task and returns it. Raises Conflict for a deleted task, and Invalid for an unknown one."""
    task = await lock_for_hours(conn, task_id)
    if task is not None:
        return task
    if await conn.maybe("SELECT 1 FROM tasks WHERE id = %s", (task_id,)) is None:
        raise Invalid("taskId", "There is no such task; GET /api/tasks lists them.")
    raise Conflict("The task was deleted; choose another task for this time.", current={"id": str(task_id), "deleted": True})


def _timer_json(timer: Timer) -> dict[str, Any]:
    return timer.model_dump(mode="json", include=set(Timer.model_fields))

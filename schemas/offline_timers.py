"""Timers that were started or stopped by a client that was offline: it brings the times, and the ids.

An hour that was worked is never lost to another device: what a client did not know of, it cannot have meant to end. So a start
never stops another timer, and a stop that finds no timer of its id makes the entry all the same. What two devices say in
different ways is handed back, with the timer or the entry as it is.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from schemas import ledger, time_entries, timers
from schemas.base import Body, Second, Text, json_object
from schemas.billing import lock_user
from schemas.database import Connection
from schemas.editing import id_is_taken
from schemas.errors import Conflict, Invalid
from schemas.ledger import State
from schemas.messages import StopTimer
from schemas.time_entries import UNFINISHED_STOPS, TimeEntry
from schemas.timers import CLOCK_SKEW, Stop, Timer

# a stop is not refused for being long, but for making no sense
LONGEST_RUN = timedelta(days=3650)


class OfflineStart(Body):
    """A timer that a client started, and that still runs."""

    id: Annotated[UUID, Field(description="the timer's, and later the time entry's")]
    task_id: UUID
    start_time: Second
    notes: Text = ""


class OfflineStop(Body):
    """A timer that a client stopped, as a whole."""

    id: Annotated[UUID, Field(description="the timer's, and the time entry's")]
    task_id: UUID
    start_time: Second
    end_time: Second
    notes: Annotated[Text | None, Field(description="null: those that the timer has")] = None


async def start(conn: Connection, wanted: OfflineStart, *, user_id: UUID) -> Timer:
    """The user's timer with that id and start.

    Raises Invalid for a start that cannot be and an unknown task, Conflict for an archived one, while another timer runs, and
    for an id that is taken.
    """
    await lock_user(conn, user_id)
    running = await timers.running_timer(conn, user_id)
    if running is not None:
        if (running.id, running.task_id, running.start_time) == (wanted.id, wanted.task_id, wanted.start_time):
            return running
        same = running.id == wanted.id
        raise Conflict(
            "The timer has been changed from elsewhere."
            if same
            else "Another timer runs. Stop that one first; or stop this one, whose hours count all the same.",
            current=_timer_json(running),
        )
    if (made := await _entry_made(conn, wanted.id, user_id)) is not None:
        raise Conflict("This timer has been stopped already.", current=made[0])
    since = await timers.possible_start(conn, wanted.start_time)
    status = await _task_status(conn, wanted.task_id)
    begun = await timers.begin(
        conn, wanted.task_id, status, None, user_id=user_id, notes=wanted.notes, since=since, timer_id=wanted.id
    )
    return Timer(**begun.model_dump(exclude={"stopped"}))


async def stop(conn: Connection, wanted: OfflineStop, version: int | None, *, user_id: UUID) -> Stop:
    """Stops the user's timer of that id at that time; promises the entry, whether such a timer runs or not.

    `version` is the running timer's that the client has seen: then its start and notes are set to what is wanted; without it
    they have to be the same. Raises Invalid for times that cannot be and an unknown task, Conflict when the timer, or the entry
    that it has become, is another than the client thinks.
    """
    await lock_user(conn, user_id)
    start_time, end_time = await _possible_times(conn, wanted)
    running = await timers.running_timer(conn, user_id)
    if running is not None and running.id == wanted.id:
        return await _stop_running(conn, running, wanted, version, start_time, end_time)
    if (made := await _entry_made(conn, wanted.id, user_id)) is not None:
        return _same(*made, wanted, start_time, end_time)
    await _task_status(conn, wanted.task_id)
    message = StopTimer(
        entry_id=wanted.id,
        user_id=user_id,
        task_id=wanted.task_id,
        start_time=start_time,
        end_time=end_time,
        notes=wanted.notes or "",
    )
    await ledger.put(conn, message, created_by=user_id)
    return _stop(wanted, start_time, end_time)


async def finish_stop(conn: Connection, entry_id: UUID, *, user_id: UUID, zone: str, long_seconds: float) -> None:
    """Makes the user's entry now that a stop has promised, if its actor has not come to it yet: a client that has just sent the
    stop goes on to change the entry. The message is done with it; a delivery of it finds that out."""
    cursor = await conn.execute(
        f"""
        SELECT stop.id FROM ({UNFINISHED_STOPS}) stop JOIN messages m ON m.id = stop.id
        WHERE m.body->>'user_id' = %(user)s::uuid::text AND NOT EXISTS (SELECT FROM time_entries WHERE id = %(id)s)
        """.encode(),
        {"id": entry_id, "user": user_id},
    )
    if (row := await cursor.fetchone()) is None:
        return
    await lock_user(conn, user_id)
    record = await ledger.lock(conn, row[0])
    if record is not None and record.state in (State.ready, State.sent):
        stopped = StopTimer.model_validate(record.body)
        await time_entries.add_stopped(conn, stopped, zone=zone, long_seconds=long_seconds)
        await ledger.settle(conn, record.id)


async def _possible_times(conn: Connection, wanted: OfflineStop) -> tuple[datetime, datetime]:
    """Start and end, what a fast clock puts a little into the future as of now. Raises Invalid for what cannot be."""
    cursor = await conn.execute("SELECT date_trunc('second', now(), 'UTC')")
    row = await cursor.fetchone()
    assert row is not None
    now: datetime = row[0]
    if wanted.end_time < wanted.start_time:
        raise Invalid("endTime", "The timer would end before it starts.")
    if wanted.end_time > now + CLOCK_SKEW:
        raise Invalid("endTime", "The stop lies in the future.")
    if wanted.end_time - wanted.start_time > LONGEST_RUN:
        raise Invalid("startTime", "The timer would have run for more than ten years.")
    return min(wanted.start_time, now), min(wanted.end_time, now)


async def _stop_running(
    conn: Connection, running: Timer, wanted: OfflineStop, version: int | None, start_time: datetime, end_time: datetime
) -> Stop:
    notes = running.notes if wanted.notes is None else wanted.notes
    same = (running.start_time, running.notes) == (start_time, notes)
    seen = same if version is None else version == running.version
    if running.task_id != wanted.task_id or not seen:
        raise Conflict("The timer has been changed from elsewhere, and still runs.", current=_timer_json(running))
    await conn.execute(
        "UPDATE timers SET start_time = %s, notes = %s WHERE user_id = %s AND (start_time, notes) <> (%s, %s)",
        (start_time, notes, running.user_id, start_time, notes),
    )
    promise = await timers.stop_running(conn, wanted.task_id, user_id=running.user_id, ended=end_time)
    assert promise is not None, "the user's row is held, and the timer was there"
    return promise.stop


async def _entry_made(conn: Connection, entry_id: UUID, user_id: UUID) -> tuple[dict[str, Any], str] | None:
    """The user's entry that has the id, and its notes: as it is, as its stop has promised it, or as a tombstone. None: the
    id is free.

    Raises Conflict when it is somebody else's. A stop becomes an entry at any moment, so both are looked at in one statement.
    """
    cursor = await conn.execute(
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
        """.encode(),
        {"id": entry_id},
    )
    if (row := await cursor.fetchone()) is None:
        return None
    if row[0] != user_id or row[1] is None:
        raise id_is_taken()
    return row[1], row[2]


def _same(made: dict[str, Any], notes: str, wanted: OfflineStop, start_time: datetime, end_time: datetime) -> Stop:
    """The promise that was kept already. Raises Conflict when the entry is another by now."""
    if not made.get("deleted"):
        times = (datetime.fromisoformat(made["startTime"]), datetime.fromisoformat(made["endTime"]))
        if times == (start_time, end_time) and made["taskId"] == str(wanted.task_id) and wanted.notes in (None, notes):
            return _stop(wanted, start_time, end_time)
    raise Conflict("This timer has been stopped from elsewhere; its time entry is another than this.", current=made)


def _stop(wanted: OfflineStop, start_time: datetime, end_time: datetime) -> Stop:
    duration = int((end_time - start_time).total_seconds())
    return Stop(entry_id=wanted.id, task_id=wanted.task_id, start_time=start_time, end_time=end_time, duration=duration)


async def _task_status(conn: Connection, task_id: UUID) -> str:
    """The status of the task, which is held. Raises Conflict for one that was deleted, Invalid for one that never was."""
    status = await timers.task_status(conn, task_id)
    if status is not None:
        return status
    cursor = await conn.execute("SELECT 1 FROM tasks WHERE id = %s", (task_id,))
    if await cursor.fetchone() is None:
        raise Invalid("taskId", "There is no such task; GET /api/tasks lists them.")
    raise Conflict("The task was deleted; put these hours on another one.", current={"id": str(task_id), "deleted": True})


def _timer_json(timer: Timer) -> dict[str, Any]:
    return timer.model_dump(mode="json", include=set(Timer.model_fields))

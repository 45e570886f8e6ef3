"""Timers: at most one runs per user. A stop promises a time entry and answers at once; the entry is made behind the queue.

The database's clock decides, in whole seconds; a start may be set to an earlier time. Start, stop, put and discard hold the
user's row first, so that one person's requests, from however many clients at once, happen one after another.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field

from schemas import ledger, nudges, users
from schemas.base import Body, Row, Second, Sql, Text, Version, json_object
from schemas.billing import lock_user
from schemas.database import Connection, one_json
from schemas.entry_times import LONGEST
from schemas.errors import Conflict, Invalid, NotFound
from schemas.messages import StopTimer
from schemas.time_bills import TimeBill
from schemas.time_entries import TimeEntry
from schemas.users import User

CLOCK_SKEW = timedelta(minutes=1)


class Timer(Row):
    """A running timer, as answered. Its `id` becomes the time entry's."""

    id: UUID
    user_id: UUID
    task_id: UUID
    start_time: Second
    notes: str
    updated_at: datetime
    version: int


class Stop(Row):
    """What a stop promises: these are the entry's facts, whenever it arrives."""

    entry_id: Annotated[UUID, Field(description="The id that the time entry will have")]
    task_id: UUID
    start_time: Second
    end_time: Second
    duration: Annotated[
        int, Field(description="whole seconds"), Sql("extract(epoch FROM {t}.end_time - {t}.start_time)::bigint")
    ]


class StartedTimer(Timer):
    """The running timer, and the stop of the one that ran before it."""

    stopped: Stop | None = None


class StartTimer(Body):
    """How to start; everything may be left out, the body too."""

    notes: Annotated[Text, Field(examples=["Reading the logs"])] = ""


class Stopped(Stop):
    """A stop that `?wait` saw through: with the entry and the bill that it is on."""

    entry: TimeEntry
    time_bill: TimeBill


@dataclass(frozen=True)
class Promise:
    """A stop, and the message that carries it, for who wants to wait for the entry."""

    stop: Stop
    message_id: UUID


class TimerChange(Body):
    """Which task the timer is to run on, since when, and with which notes; what is left out stays, or begins now."""

    task_id: UUID
    start_time: Annotated[Second | None, Field(examples=["2026-11-23T09:30:00Z"])] = None
    notes: Text | None = None
    version: Version | None = None


async def start(conn: Connection, task_id: UUID, *, user_id: UUID, notes: str = "") -> tuple[StartedTimer, bool]:
    """The user's timer on that task, and whether it was started now; a timer on another task is stopped on the way.

    Raises NotFound for an unknown task, Conflict for an archived one.
    """
    await lock_user(conn, user_id)
    status = await task_status(conn, task_id)
    if status is None:
        raise NotFound("There is no such task.")
    running = await running_timer(conn, user_id)
    if running is not None and running.task_id == task_id:
        return StartedTimer(**running.model_dump()), False
    return await begin(conn, task_id, status, running, user_id=user_id, notes=notes), True


async def put(conn: Connection, user_id: UUID, wanted: TimerChange, *, by: User) -> tuple[StartedTimer, bool]:
    """The user's timer as it is wanted, and whether it was started now; another task stops the first, at the time from which on
    the second is to run.

    Raises NotFound for an unknown user, Invalid for an unknown task or a start that cannot be, Conflict for an archived task
    and a stale version.
    """
    if not await lock_user(conn, user_id) or (user_id != by.id and not await users.is_consultant(conn, user_id)):
        raise NotFound("Nobody who logs time has this id; GET /api/tasks/internal-users lists them.")
    running = await running_timer(conn, user_id)
    if wanted.version is not None and (running is None or running.version != wanted.version):
        current = running.model_dump(mode="json") if running is not None else None
        raise Conflict("The timer has changed since you read it.", current=current)
    same = running is not None and (running.task_id, running.start_time) == (wanted.task_id, wanted.start_time)
    since = None if same else await possible_start(conn, wanted.start_time)
    status = await task_status(conn, wanted.task_id)
    if status is None:
        raise Invalid("taskId", "There is no such task; GET /api/tasks lists them.")
    if running is None or running.task_id != wanted.task_id:
        return await begin(conn, wanted.task_id, status, running, user_id=user_id, notes=wanted.notes or "", since=since), True
    cursor = await conn.execute(
        f"""
        UPDATE timers t
        SET start_time = coalesce(%(since)s, start_time), notes = coalesce(%(notes)s, notes), version = version + 1
        WHERE user_id = %(user)s AND (coalesce(%(since)s, start_time), coalesce(%(notes)s, notes)) <> (start_time, notes)
        RETURNING {json_object(Timer, "t")}::text
        """.encode(),
        {"user": user_id, "since": since, "notes": wanted.notes},
    )
    row = await cursor.fetchone()
    timer = Timer.from_json(row[0]) if row is not None else running
    return StartedTimer(**timer.model_dump()), False


async def discard(conn: Connection, user_id: UUID) -> None:
    """Ends the user's timer without an entry. Raises NotFound when none runs."""
    await lock_user(conn, user_id)
    cursor = await conn.execute("DELETE FROM timers WHERE user_id = %s", (user_id,))
    if not cursor.rowcount:
        raise NotFound("No timer is running.")


async def possible_start(conn: Connection, wanted: datetime | None) -> datetime | None:
    """The wanted start. One that a fast clock puts a little into the future is now. Raises Invalid for what cannot be."""
    if wanted is None:
        return None
    cursor = await conn.execute("SELECT date_trunc('second', now(), 'UTC')")
    row = await cursor.fetchone()
    assert row is not None
    now: datetime = row[0]
    if wanted > now + CLOCK_SKEW:
        raise Invalid("startTime", "The start lies in the future.")
    if wanted < now - LONGEST:
        raise Invalid("startTime", f"The start lies more than {LONGEST.days} days ago; log such time as an entry.")
    return min(wanted, now)


async def task_status(conn: Connection, task_id: UUID) -> str | None:
    """The task's status, and the task held shared: whoever deletes it waits, and sees the timer. None when there is none."""
    cursor = await conn.execute("SELECT status FROM tasks WHERE id = %s AND deleted_at IS NULL FOR SHARE", (task_id,))
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def running_timer(conn: Connection, user_id: UUID) -> Timer | None:
    """The timer that the user has running."""
    cursor = await conn.execute(f"SELECT {json_object(Timer, 't')}::text FROM timers t WHERE user_id = %s".encode(), (user_id,))
    row = await cursor.fetchone()
    return None if row is None else Timer.from_json(row[0])


async def begin(
    conn: Connection,
    task_id: UUID,
    status: str,
    running: Timer | None,
    *,
    user_id: UUID,
    notes: str,
    since: datetime | None = None,
    timer_id: UUID | None = None,
) -> StartedTimer:
    """Starts a timer for a user whose row is held, and stops the one that runs. Raises Conflict for an archived task."""
    if status == "archived":
        raise Conflict("This task is archived; set its status to open to work on it again.")
    stopped = None
    if running is not None:
        stopped = await stop_running(conn, running.task_id, user_id=user_id, at=since)
    cursor = await conn.execute(
        f"""
        INSERT INTO timers AS t (user_id, id, task_id, notes, start_time)
        VALUES (%(user)s, %(id)s, %(task)s, %(notes)s, coalesce(%(since)s, greatest(
            date_trunc('second', now(), 'UTC'), (SELECT max(end_time) FROM stops WHERE user_id = %(user)s))))
        RETURNING {json_object(Timer, "t")}::text
        """.encode(),
        # who asked first need not get the row first: without a wish, never begin before the user's latest stop
        {"user": user_id, "id": timer_id or uuid4(), "task": task_id, "notes": notes, "since": since},
    )
    row = await cursor.fetchone()
    assert row is not None
    timer = Timer.from_json(row[0])
    await conn.execute("DELETE FROM stops WHERE user_id = %s AND task_id = %s", (user_id, task_id))
    await nudges.plan(conn, timer.id, user_id=user_id, start_time=timer.start_time)
    return StartedTimer(**timer.model_dump(), stopped=stopped.stop if stopped else None)


async def stop(conn: Connection, task_id: UUID, *, user_id: UUID) -> Promise:
    """Stops the user's timer on that task. The same stop again gives the same promise until the task is started again.

    Raises Conflict when no timer of this user runs on the task, NotFound when there is no such task.
    """
    await lock_user(conn, user_id)
    promise = await stop_running(conn, task_id, user_id=user_id) or await _stopped_before(conn, task_id, user_id=user_id)
    if promise is not None:
        return promise
    cursor = await conn.execute("SELECT 1 FROM tasks WHERE id = %s AND deleted_at IS NULL", (task_id,))
    if await cursor.fetchone() is None:
        raise NotFound("There is no such task.")
    raise Conflict("You have no timer running on this task; GET /api/active-timers/me shows the one that runs.")


async def stop_running(
    conn: Connection, task_id: UUID, *, user_id: UUID, at: datetime | None = None, ended: datetime | None = None
) -> Promise | None:
    """Stops the user's timer on that task, now, or `at` the earlier time from which on another is to run: what both would
    cover is the second one's. A timer that began after that time runs until now, so that none of it is dropped. `ended`, a time
    not before its start, is when it was stopped already, by a client that could not say so then."""
    cursor = await conn.execute(
        """
        DELETE FROM timers WHERE user_id = %(user)s AND task_id = %(task)s
        RETURNING id, start_time, notes,
            coalesce(%(ended)s, CASE WHEN %(at)s::timestamptz > start_time THEN %(at)s::timestamptz
                                     ELSE greatest(date_trunc('second', now(), 'UTC'), start_time) END)
        """,
        {"user": user_id, "task": task_id, "at": at, "ended": ended},
    )
    if (row := await cursor.fetchone()) is None:
        return None
    entry_id, start_time, notes, end_time = row
    message = StopTimer(
        entry_id=entry_id, user_id=user_id, task_id=task_id, start_time=start_time, end_time=end_time, notes=notes
    )
    message_id = await ledger.put(conn, message, created_by=user_id)
    cursor = await conn.execute(
        f"""
        INSERT INTO stops AS s (user_id, task_id, entry_id, message_id, start_time, end_time) VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT (user_id, task_id) DO UPDATE
        SET entry_id = excluded.entry_id, message_id = excluded.message_id,
            start_time = excluded.start_time, end_time = excluded.end_time
        RETURNING {json_object(Stop, "s")}::text
        """.encode(),
        (user_id, task_id, entry_id, message_id, start_time, end_time),
    )
    row = await cursor.fetchone()
    assert row is not None
    return Promise(Stop.from_json(row[0]), message_id)


async def _stopped_before(conn: Connection, task_id: UUID, *, user_id: UUID) -> Promise | None:
    cursor = await conn.execute(
        f"SELECT {json_object(Stop, 's')}::text, s.message_id FROM stops s WHERE user_id = %s AND task_id = %s".encode(),
        (user_id, task_id),
    )
    row = await cursor.fetchone()
    return None if row is None else Promise(Stop.from_json(row[0]), row[1])


async def active(conn: Connection, user_id: UUID) -> bytes:
    """The user's running timer as JSON. Raises NotFound when none runs."""
    found = await one_json(conn, f"SELECT {json_object(Timer, 't')} FROM timers t WHERE user_id = %s", (user_id,))
    if found is None:
        raise NotFound("No timer is running.")
    return found


async def outcome(conn: Connection, entry_id: UUID) -> bytes | None:
    """`{"entry": …, "timeBill": …}` once the stop's actor is done, else None."""
    return await one_json(
        conn,
        f"""
        SELECT json_build_object('entry', {json_object(TimeEntry, "e")}, 'timeBill', {json_object(TimeBill, "b")})
        FROM time_entries e JOIN time_bills b ON b.id = e.bill_id WHERE e.id = %s AND e.deleted_at IS NULL
        """,
        (entry_id,),
    )

"""Stops of timers. A stop is answered at once, with the id and the times of its time entry. A worker creates the entry.

A timer ends now, or at an earlier time that the client sends, because somebody forgot to stop it. A stop locks the user's row
first, as each other change of a timer does (schemas/hours/timers.py).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Row, Second, Sql, Text, json_object
from schemas.errors import Conflict, Invalid, NotFound
from schemas.hours.time_bills import TimeBill
from schemas.hours.time_entries import TimeEntry
from schemas.identity.users import lock_user
from schemas.messages import StopTimer
from schemas.outbox import outbox
from schemas.postgres.connection import Connection, one_json
from schemas.postgres.functions import installed

CLOCK_SKEW = timedelta(minutes=1)
# whether the entry of the stop `s` does not exist yet, and will: a person who discards the stop's message does not want it
WILL_BE_RECORDED = """
    NOT EXISTS (SELECT FROM time_entries e WHERE e.id = s.entry_id)
    AND NOT EXISTS (SELECT FROM messages m WHERE m.id = s.message_id AND m.state = 'discarded')
"""


class Timer(Row):
    """A running timer. Its `id` becomes the id of the time entry."""

    id: UUID
    user_id: UUID
    task_id: UUID
    start_time: Second
    notes: str
    updated_at: datetime
    version: int


class Stop(Row):
    """A stop that is committed: the time entry will have exactly this id and these times."""

    entry_id: Annotated[UUID, Field(description="The id that the time entry will have")]
    task_id: UUID
    start_time: Second
    end_time: Second
    duration: Annotated[
        int, Field(description="whole seconds"), Sql("extract(epoch FROM {t}.end_time - {t}.start_time)::bigint")
    ]


class Stopped(Stop):
    """A stop with the time entry that it created, and the bill that the entry is on; the answer with `?wait`."""

    entry: TimeEntry
    time_bill: TimeBill


class TimerStop(Body):
    """When the timer ended, its notes, and which timer is meant; all fields are optional, and so is the body."""

    timer_id: Annotated[
        UUID | None,
        Field(description="The `id` of the timer that is meant: no other one is stopped. null: whichever runs"),
    ] = None
    end_time: Annotated[
        Second | None,
        Field(description="null: now. For a timer that you forgot to stop", examples=["2026-11-23T17:30:00Z"]),
    ] = None
    notes: Annotated[Text | None, Field(description="null: the timer keeps its notes", examples=["Read the logs"])] = None


@dataclass(frozen=True)
class StopReceipt:
    """A stop, and the id of the message that creates the entry."""

    stop: Stop
    message_id: UUID


async def get_running(conn: Connection, user_id: UUID) -> Timer | None:
    """The user's running timer, or None."""
    found = await conn.value(f"SELECT {json_object(Timer, 't')}::text FROM timers t WHERE user_id = %s", (user_id,))
    return None if found is None else Timer.from_json(found)


async def stop_now(conn: Connection, task_id: UUID, *, user_id: UUID) -> StopReceipt | None:
    """Stops the user's timer on that task, in one statement that needs no transaction around it.

    None: no such timer runs, and nothing was changed. Then `stop` finds out why.
    """
    return await _receipt(
        conn,
        f"{installed('stop_timer')}(%s, %s, %s, %s)",
        (user_id, task_id, StopTimer.max_attempts, outbox.cause.get()),
    )


async def stop(conn: Connection, task_id: UUID, body: TimerStop | None = None, *, user_id: UUID) -> StopReceipt:
    """Stops the user's timer on that task.

    A repeated stop returns the same receipt until the task is started again. With `timer_id`, a repeated stop does not stop the
    timer that was started since.

    Raises

    - Conflict: the user has no timer that runs on the task, or another one than `timer_id` runs; or the timer was stopped
      before with other values;
    - NotFound: there is no such task;
    - Invalid: the end is before the start, or in the future.
    """
    body = body or TimerStop()
    await lock_user(conn, user_id)
    running = await get_running(conn, user_id)
    on_task = running if running is not None and running.task_id == task_id else None
    stopped = await _stop_or_repeat(conn, on_task, body, user_id=user_id, by=user_id, task_id=task_id)
    if stopped is not None:
        return stopped
    if await conn.maybe("SELECT 1 FROM tasks WHERE id = %s AND deleted_at IS NULL", (task_id,)) is None:
        raise NotFound("There is no such task.")
    raise Conflict("You have no timer running on this task; GET /api/active-timers/me shows your running timer.")


async def stop_any(conn: Connection, body: TimerStop | None = None, *, user_id: UUID, by: UUID | None) -> StopReceipt:
    """Stops the user's timer, on whichever task it runs. `by`: the user who stops it, the owner or an admin.

    With `timer_id`, a repeated stop stops no other timer, and returns the same receipt until the task is started again. Without
    it, a repeated stop within 10 minutes returns the receipt of the user's last stop, if no timer runs. It stops a timer that
    was started since.

    Raises

    - NotFound: no timer of this user runs;
    - Conflict: another one than `timer_id` runs, or the timer was stopped before with other values;
    - Invalid: the end is before the start, or in the future.
    """
    body = body or TimerStop()
    await lock_user(conn, user_id)
    running = await get_running(conn, user_id)
    stopped = await _stop_or_repeat(conn, running, body, user_id=user_id, by=by, task_id=None)
    if stopped is None:
        raise NotFound("No timer is running." if body.timer_id is None else "This timer is not running.")
    return stopped


async def _stop_or_repeat(
    conn: Connection, running: Timer | None, body: TimerStop, *, user_id: UUID, by: UUID | None, task_id: UUID | None
) -> StopReceipt | None:
    """Stops the running timer, or returns the receipt of an earlier stop if the request repeats it.

    It does so if the earlier stop is that of the timer `body.timer_id`, or if its end is before the start of the running timer.
    None: no timer runs, and there is no such stop.
    """
    if running is None:
        return await _get_earlier_stop(conn, body, user_id=user_id, task_id=task_id)
    is_another = body.timer_id not in (None, running.id)
    is_earlier = body.timer_id is None and body.end_time is not None and body.end_time < running.start_time
    if is_another or is_earlier:
        end = None if is_another else body.end_time
        earlier = await _get_earlier_stop(conn, body, user_id=user_id, task_id=task_id, end=end)
        if earlier is not None:
            return earlier
    if is_another:
        raise Conflict("Another timer is running, and stays so.", current=running.model_dump(mode="json"))
    return await _stop_started(conn, running.task_id, running.start_time, body, user_id=user_id, by=by)


async def _stop_started(
    conn: Connection, task_id: UUID, start: datetime, body: TimerStop, *, user_id: UUID, by: UUID | None
) -> StopReceipt:
    end = None if body.end_time is None else await clamp_end(conn, start, body.end_time)
    stopped = await stop_running(conn, task_id, user_id=user_id, ended_at=end, notes=body.notes, by=by)
    assert stopped is not None, "the user's row is locked, and the timer was there"
    return stopped


async def clamp_end(conn: Connection, start_time: datetime, end_time: datetime) -> datetime:
    """The end of a timer for which a client sends these times. Raises Invalid for an end before the start, or in the future.

    An end that is in the future by CLOCK_SKEW or less becomes now, because the client's clock may be ahead.
    """
    now: datetime = await conn.value("SELECT date_trunc('second', now(), 'UTC')")
    if end_time < start_time:
        raise Invalid("endTime", "The timer would end before it starts.")
    if end_time > now + CLOCK_SKEW:
        raise Invalid("endTime", "The stop is in the future.")
    # now() is when the transaction started, which may be before another one started the timer
    return max(start_time, min(end_time, now))


async def stop_running(
    conn: Connection,
    task_id: UUID,
    *,
    user_id: UUID,
    at: datetime | None = None,
    ended_at: datetime | None = None,
    notes: str | None = None,
    by: UUID | None = None,
) -> StopReceipt | None:
    """Stops the user's timer on that task. None: no such timer runs.

    Without `notes` the entry gets those of the timer. `by` is an admin who stops the timer instead of the user.

    The entry ends now, unless one of these is given:

    - `at`: the start of the user's next timer, which may be earlier than now. The entry ends then, so that the two entries do
      not overlap. But if the stopped timer started after `at`, its entry ends now, so that none of its time is lost.
    - `ended_at`: when the timer ended, by a client. It is not before the timer's start.
    """
    return await _receipt(
        conn,
        f"{installed('stop_running')}(%s, %s, %s, %s, %s, %s, %s, %s)",
        (user_id, task_id, StopTimer.max_attempts, by or user_id, outbox.cause.get(), at, ended_at, notes),
    )


async def _receipt(conn: Connection, call: str, parameters: tuple[Any, ...]) -> StopReceipt | None:
    """The receipt of the row of `stops` that the SQL function returns. None: it returns no row."""
    stop, message_id = await conn.one(
        f"SELECT CASE WHEN s.entry_id IS NOT NULL THEN {json_object(Stop, 's')}::text END, s.message_id FROM {call} AS s",
        parameters,
    )
    return None if stop is None else StopReceipt(Stop.from_json(stop), message_id)


async def _get_earlier_stop(
    conn: Connection, body: TimerStop, *, user_id: UUID, task_id: UUID | None, end: datetime | None = None
) -> StopReceipt | None:
    """The receipt of the user's last stop that has what is given: the task, the timer `body.timer_id`, and exactly this end.

    If nothing of this is given, only a stop of the last 10 minutes is found. Raises Conflict if the body asks for other values
    than this stop had.
    """
    found: tuple[Any, ...] | None = await conn.maybe(
        f"""
        SELECT {json_object(Stop, "s")}::text, s.message_id, m.body->>'notes', date_trunc('second', m.created_at, 'UTC')
        FROM stops s LEFT JOIN messages m ON m.id = s.message_id  -- messages are pruned after 30 days
        WHERE s.user_id = %(user)s AND (%(task)s::uuid IS NULL OR s.task_id = %(task)s)
          AND (%(timer)s::uuid IS NULL OR s.entry_id = %(timer)s) AND (%(end)s::timestamptz IS NULL OR s.end_time = %(end)s)
          AND (coalesce(%(task)s::uuid, %(timer)s) IS NOT NULL OR %(end)s::timestamptz IS NOT NULL
               OR m.created_at > now() - interval '10 minutes')
        ORDER BY m.created_at DESC NULLS LAST LIMIT 1
        """,
        {"user": user_id, "task": task_id, "timer": body.timer_id, "end": end},
    )
    if found is None:
        return None
    stop_json, message_id, notes, stopped_at = found
    receipt = StopReceipt(Stop.from_json(stop_json), message_id)
    end = receipt.stop.end_time
    # an end that was a little in the future became the time of the stop (`clamp_end`)
    was_clamped = body.end_time is not None and end == stopped_at and end < body.end_time <= end + CLOCK_SKEW
    has_other_end = body.end_time not in (None, end) and not was_clamped
    if has_other_end or body.notes not in (None, notes):
        raise Conflict(
            f"This timer was stopped already, and its entry differs from this stop; "
            f"PATCH /api/time-entries/{receipt.stop.entry_id} corrects the entry.",
            current=receipt.stop.model_dump(mode="json"),
        )
    return receipt


async def get_entry_and_bill(conn: Connection, entry_id: UUID) -> bytes | None:
    """`{"entry": …, "timeBill": …}` of a stop. None: the stop's message is not done yet."""
    return await one_json(
        conn,
        f"""
        SELECT json_build_object('entry', {json_object(TimeEntry, "e")}, 'timeBill', {json_object(TimeBill, "b")})
        FROM time_entries e JOIN time_bills b ON b.id = e.bill_id WHERE e.id = %s AND e.deleted_at IS NULL
        """,
        (entry_id,),
    )

"""Changes of the running timer: a note, and a stop at an earlier time, by the same functions as the API."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from schemas.errors import Conflict, Forbidden, Invalid, NotFound
from schemas.hours import timer_stops, timers
from schemas.hours.timer_stops import TimerStop
from schemas.hours.timers import TimerChange
from schemas.identity.users import User, lock_user
from schemas.postgres.connection import Connection
from schemas.slack.task_actions import NO_TIMER, TIMER_NOT_RUNNING, format_duration, get_running_timer
from schemas.slack.typed import times

NOTES_FULL = "The notes of your timer would be longer than 10,000 characters, so nothing is added. Shorten them in Stint."
NOTHING_TO_NOTE = f"{NO_TIMER} `/task start` starts one; `/task log 1h30 task: note` records time with a note."


async def add_note(conn: Connection, text: str, *, by: User, only_customer: UUID | None) -> str:
    """Adds a line to the notes of the user's running timer. Returns the answer to the user."""
    await lock_user(conn, by.id)  # so that the notes that are read here are those that get the line
    running = await timer_stops.get_running(conn, by.id)
    shown = await get_running_timer(conn, by.id, only_customer=only_customer)
    if running is None or shown is None:
        return NOTHING_TO_NOTE
    try:
        change = TimerChange(taskId=running.task_id, notes=f"{running.notes}\n{text}" if running.notes else text)
        async with conn.transaction():
            await timers.start_or_change(conn, by.id, change, by=by)
    except ValidationError:
        return NOTES_FULL
    except (Invalid, NotFound, Conflict, Forbidden) as error:
        return error.detail
    return f"Your note is added to your timer {shown.on_task}."


@dataclass(frozen=True)
class StopAnswer:
    """The answer to the user, and whether the timer is stopped at the time that they chose; `is_repeated`: since before."""

    text: str
    is_stopped: bool = False
    is_repeated: bool = False


async def stop_at(
    conn: Connection, end: datetime, *, by: User, only_customer: UUID | None, zone: ZoneInfo, timer_id: UUID | None = None
) -> StopAnswer:
    """Stops the user's running timer at that time; with a `timer_id`, only that one. Returns the answer to the user."""
    await lock_user(conn, by.id)  # so that the timer that is read here is the one that is stopped
    now: datetime = await conn.value("SELECT now()")
    timer = await get_running_timer(conn, by.id, only_customer=only_customer)
    if timer is None or timer_id not in (None, timer.id):
        return await _describe_stop(conn, timer_id, end, by=by, zone=zone, now=now)
    shown = times.clock(end, zone, now=now)
    if end < timer.start_time:
        started = times.clock(timer.start_time, zone, now=now)
        return StopAnswer(f"Your timer {timer.on_task} still runs: it started at {started}, after {shown}.")
    try:
        async with conn.transaction():
            body = TimerStop(timerId=timer.id, endTime=end)
            receipt = await timer_stops.stop_any(conn, body, user_id=by.id, by=by.id)
    except (Invalid, NotFound, Conflict):
        return StopAnswer(f"Your timer {timer.on_task} still runs: {shown} is in the future. `/task stop` stops it now.")
    duration = format_duration(receipt.stop.duration)
    return StopAnswer(f"Your timer {timer.on_task} is stopped at {shown}: {duration}.", is_stopped=True)


async def _describe_stop(
    conn: Connection, timer_id: UUID | None, end: datetime, *, by: User, zone: ZoneInfo, now: datetime
) -> StopAnswer:
    """Why the timer cannot be stopped: it was stopped already, or none is running."""
    if timer_id is None:
        return StopAnswer(NO_TIMER)
    ended = await conn.value("SELECT end_time FROM stops WHERE user_id = %s AND entry_id = %s", (by.id, timer_id))
    if ended is None:
        return StopAnswer(TIMER_NOT_RUNNING)
    already = f"That timer was stopped already, at {times.clock(ended, zone, now=now)}."
    return StopAnswer(already, is_stopped=ended == end, is_repeated=True)

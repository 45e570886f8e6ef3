"""The text of a reminder: how many hours of the day, or of the week before, are recorded, and which timer runs.

It is written when it is sent, so it is true then. schemas/slack/reminders/planning.py plans it.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from schemas.identity import working_hours
from schemas.identity.work_calendar import WorkCalendar, monday
from schemas.messages import RemindOfHours
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack import task_actions
from schemas.slack.approvals import people
from schemas.slack.approvals.blocks import MAX_TEXT_LENGTH, section
from schemas.slack.approvals.direct import DirectMessage, Wait
from schemas.slack.commands import likely_ends, worked
from schemas.slack.commands import views as command_views
from schemas.slack.commands.worked import Hours
from schemas.slack.reminders import buttons
from schemas.slack.reminders.planning import LATE, due_at
from schemas.slack.task_actions import RunningTimer
from schemas.slack.typed import times

MISSING_SECONDS = 15 * 60  # fewer missing seconds are no reason for a message
TOP_TASKS = 5


@dataclass(frozen=True)
class _Person:
    """Whom the message is for, and what it is about."""

    user_id: UUID
    email: str
    calendar: WorkCalendar
    now: datetime

    async def hours(self, conn: Connection, first: date, last: date) -> list[Hours]:
        zone = self.calendar.zone
        end = times.start_of(last + timedelta(days=1), zone)
        return await worked.read_hours(conn, self.user_id, times.start_of(first, zone), end, None)


async def build(conn: Connection, message: RemindOfHours, *, settings: Settings) -> DirectMessage | Wait | None:
    """The message to send now. Wait: the person's working day now ends, or starts, later than when this was planned.

    None: nothing is to be sent. There is nothing to say; or the person does not want it, does not work today, or has no access
    any more; or it is too late.
    """
    found = (await people.find_consultants(conn, [message.user_id])).get(message.user_id)
    if settings.slack_bot_token is None or found is None:
        return None
    calendar = await working_hours.read_calendar(conn, message.user_id, settings=settings)
    now: datetime = await conn.value("SELECT clock_timestamp()")
    if not calendar.reminders or not calendar.is_working_day(message.day) or calendar.day_of(now) != message.day:
        return None
    at = due_at(calendar, message.day, week=message.week)
    if now < at:
        return Wait((at - now).total_seconds())
    if now >= at + LATE:
        return None
    person = _Person(message.user_id, found.email, calendar, now)
    timer = await task_actions.get_running_timer(conn, message.user_id, only_customer=None)
    if message.week:
        return await _summary(conn, person, timer, message.day, settings)
    return await _reminder(conn, person, timer, message.day, settings)


async def _reminder(
    conn: Connection, person: _Person, timer: RunningTimer | None, day: date, settings: Settings
) -> DirectMessage | None:
    rows = await person.hours(conn, day, day)
    planned, seconds = person.calendar.planned_seconds(day), sum(row.seconds for row in rows)
    missing = planned - seconds if planned - seconds >= MISSING_SECONDS else 0
    if not missing and (timer is None or await _was_nudged(conn, timer.id)):
        return None
    counts = ", with your running timer" if any(row.running for row in rows) else ""
    text = f"You have {clock(seconds)} of {clock(planned)} hours today ({day:%A}, {person.calendar.zone.key}){counts}."
    return await _message(conn, person, timer, text, [f"*{text}*"], settings, missing=missing)


async def _summary(
    conn: Connection, person: _Person, timer: RunningTimer | None, day: date, settings: Settings
) -> DirectMessage:
    calendar, first = person.calendar, monday(day) - timedelta(days=7)
    last = first + timedelta(days=6)
    rows = await person.hours(conn, first, last)
    planned, seconds = calendar.planned_seconds(first, last), sum(row.seconds for row in rows)
    by_day = worked.by_day(rows, calendar.zone)
    days = [first + timedelta(days=n) for n in range(7)]
    lines = [_of_day(each, by_day.get(each, 0), calendar) for each in days if each in by_day or calendar.is_working_day(each)]
    span = f"{times.day(first)} – {times.day(last)}, {calendar.zone.key}"
    text = f"Last week you recorded {clock(seconds)} of {clock(planned)} hours ({span})."
    parts = [f"*{text}*", "\n".join(lines)]
    if rows:
        tasks = worked.by_task(rows, most=TOP_TASKS, max_length=MAX_TEXT_LENGTH - 100, longest_first=True)
        parts.append("\n".join(["*By task*", *tasks]))
    return await _message(conn, person, timer, text, parts, settings)


def _of_day(day: date, seconds: int, calendar: WorkCalendar) -> str:
    planned = calendar.planned_seconds(day)
    line = f"• {times.day(day)}: {clock(seconds)}" + (f" of {clock(planned)}" if planned else "")
    return line if seconds else f"{line}: nothing is recorded"


async def _message(
    conn: Connection,
    person: _Person,
    timer: RunningTimer | None,
    text: str,
    parts: list[str],
    settings: Settings,
    *,
    missing: int = 0,
) -> DirectMessage:
    calendar, ends = person.calendar, None
    if timer is not None:
        started = times.clock(timer.start_time, calendar.zone, now=person.now)
        parts.append(f"Your timer runs {timer.on_task}, since {started}.")
        if (since := await likely_ends.read(conn, person.user_id, timer.id, settings=settings)) is not None:
            ends = command_views.stop_buttons(since, calendar.zone).to_dict()
    blocks: list[dict[str, Any]] = [section(part) for part in parts]
    blocks += [buttons.actions(timer.id if timer is not None else None, missing=missing), *([ends] if ends else [])]
    return DirectMessage(person.email, text, blocks)


async def _was_nudged(conn: Connection, timer_id: UUID) -> bool:
    """Whether a nudge about the timer was posted in the last hour: then the reminder does not name the timer again."""
    return bool(
        await conn.value(
            """
            SELECT EXISTS (
                SELECT FROM messages m JOIN slack_posts p ON p.message_id = m.id
                WHERE m.state = 'done' AND m.done_at > statement_timestamp() - interval '1 hour' AND m.actor = 'nudge_owner'
                  AND m.body->>'timer_id' = %s AND p.ts IS NOT NULL
            )
            """,
            (str(timer_id),),
        )
    )


def clock(seconds: int) -> str:
    """Hours and minutes, as on a clock: 5400 is "1:30"."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}"

"""The plan of the reminders: when each person's message of the day is due, if there is one.

Each person gets at most one a day: the transaction that enqueues the message also inserts a row into `slack_reminder_days`. So
it does not matter if several relays plan at the same time, or if the person changes their working hours or travels.
"""

from datetime import date, datetime, timedelta

from schemas.identity import working_hours
from schemas.identity.work_calendar import WorkCalendar, monday
from schemas.messages import RemindOfHours
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.approvals import people

AHEAD = timedelta(minutes=15)  # how long before it is due a message is planned: a change of working hours before that counts
LATE = timedelta(hours=3)  # how long after that a message is of any use


async def plan(conn: Connection, settings: Settings) -> int:
    """Enqueues the messages that are due soon and are not planned yet. Returns their number."""
    if settings.slack_bot_token is None:
        return 0
    now: datetime = await conn.value("SELECT clock_timestamp()")
    recipients = await people.list_consultants(conn, settings=settings)
    calendars = await working_hours.read_calendars(conn, [person.id for person in recipients], settings=settings)
    since = (now - timedelta(days=2)).date()
    planned = set(await conn.all("SELECT user_id, day FROM slack_reminder_days WHERE day >= %s", (since,)))
    count = 0
    for person in recipients:
        calendar = calendars[person.id]
        day = calendar.day_of(now)
        if (person.id, day) in planned or not calendar.reminders or not calendar.is_working_day(day):
            continue
        for week in (True, False):
            at = due_at(calendar, day, week=week)
            is_wanted = not week or starts_week(calendar, day, since=person.created_at)
            if is_wanted and at - AHEAD <= now < at + LATE:
                count += await _enqueue(conn, RemindOfHours(user_id=person.id, day=day, week=week), at)
                break
    return count


def due_at(calendar: WorkCalendar, day: date, *, week: bool) -> datetime:
    """When a message of that day is due: at the end of the working day. With the summary of a week, it is due at its start."""
    return calendar.starts_at(day) if week else calendar.ends_at(day)


def starts_week(calendar: WorkCalendar, day: date, *, since: datetime) -> bool:
    """Whether the person gets the summary of the week before on this day.

    It is the first working day of its week. In the week before, hours were planned, and the person was here for all of it.
    `since`: when the person came.
    """
    last = monday(day) - timedelta(days=7)
    is_first = day == calendar.first_working_day(day) and calendar.day_of(since) <= last
    return is_first and calendar.planned_seconds(last, last + timedelta(days=6)) > 0


async def _enqueue(conn: Connection, message: RemindOfHours, at: datetime) -> int:
    """Enqueues the message, unless the person has one of that day. Returns the number of messages that it enqueued."""
    async with conn.transaction():
        is_first = await conn.value(
            "INSERT INTO slack_reminder_days (user_id, day) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING true",
            (message.user_id, message.day),
        )
        if is_first:
            await outbox.enqueue(conn, message, available_at=at)
        return int(bool(is_first))

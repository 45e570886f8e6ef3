"""`/task today` and `/task week`: the person's hours by task, in the days of the person's time zone.

As in Stint's bills, an entry belongs to the day on which it starts. A running timer counts until now.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import accumulate
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.hours.timer_stops import WILL_BE_RECORDED
from schemas.postgres.connection import Connection
from schemas.slack.task_actions import format_duration
from schemas.slack.typed import times
from schemas.slack.views import escape

MOST_TASKS, MAX_LENGTH = 25, 3_500  # of lines, and of their characters: Slack advises texts of at most 4,000
NOTHING = "Nothing is recorded {when}. `/task start` starts your timer, `/task log 1h30` records time."


@dataclass(frozen=True)
class Hours:
    """One entry, one stop whose entry does not exist yet, or the running timer."""

    task_id: UUID
    title: str
    customer: str
    start_time: datetime
    seconds: int
    running: bool


async def describe(conn: Connection, *, user_id: UUID, zone: ZoneInfo, week: bool, only_customer: UUID | None) -> str:
    """The answer to `/task today`, or `week`: the hours of this week, which begins on Monday."""
    now: datetime = await conn.value("SELECT now()")
    today = now.astimezone(zone).date()
    first = today - timedelta(days=today.weekday()) if week else today
    rows = await read_hours(
        conn, user_id, times.start_of(first, zone), times.start_of(today + timedelta(days=1), zone), only_customer
    )
    when = f"this week, since {times.day(first)}" if week else f"today, {times.day(today)}"
    here = " on this channel's customer" if only_customer else ""
    if not rows:
        return NOTHING.format(when=f"{when}{here} ({zone.key})")
    total = format_duration(sum(row.seconds for row in rows))
    lines = [f"*{total}* {when}{here} ({zone.key})", *by_task(rows)]
    if week:
        days = by_day(rows, zone)
        lines.append(", ".join(f"{times.day(day)}: {format_duration(seconds)}" for day, seconds in days.items()))
    return "\n".join(lines)


async def read_hours(
    conn: Connection, user_id: UUID, start: datetime, end: datetime, only_customer: UUID | None
) -> list[Hours]:
    """What the user has worked on that began in the time from start to end, the earliest first."""
    return await conn.all(
        f"""
        WITH hours AS (
            SELECT task_id, start_time, duration::bigint AS seconds, false AS running FROM time_entries
            WHERE user_id = %(user)s AND start_time >= %(start)s AND start_time < %(end)s AND deleted_at IS NULL
            UNION ALL
            SELECT task_id, start_time, extract(epoch FROM end_time - start_time)::bigint, false FROM stops s
            WHERE user_id = %(user)s AND start_time >= %(start)s AND start_time < %(end)s AND {WILL_BE_RECORDED}
            UNION ALL
            SELECT task_id, start_time, greatest(extract(epoch FROM now() - start_time), 0)::bigint, true FROM timers
            WHERE user_id = %(user)s AND start_time >= %(start)s AND start_time < %(end)s
        )
        SELECT h.task_id, t.title, c.name AS customer, h.start_time, h.seconds, h.running
        FROM hours h JOIN tasks t ON t.id = h.task_id JOIN customers c ON c.id = t.customer_id
        WHERE t.customer_id = coalesce(%(customer)s, t.customer_id)
        ORDER BY h.start_time
        """,
        {"user": user_id, "start": start, "end": end, "customer": only_customer},
        row=Hours,
    )


def by_task(
    rows: list[Hours], *, most: int = MOST_TASKS, max_length: int = MAX_LENGTH, longest_first: bool = False
) -> list[str]:
    """A line for each task, in the order in which the tasks were begun; with `longest_first`, in the order of their hours.

    Tasks beyond `most`, or beyond `max_length` characters, are one more line together.
    """
    seconds: dict[UUID, int] = defaultdict(int)
    names: dict[UUID, str] = {}
    for row in rows:
        seconds[row.task_id] += row.seconds
        name = f"{escape(row.title)} · {escape(row.customer)}"
        names[row.task_id] = f"{name} (your timer runs)" if row.running else names.get(row.task_id, name)
    tasks = sorted(names, key=lambda task_id: -seconds[task_id]) if longest_first else list(names)
    lines = [f"• {format_duration(seconds[task_id])}: {names[task_id]}" for task_id in tasks]
    fit = sum(length <= max_length for length in accumulate(len(line) + 1 for line in lines[:most]))
    if len(lines) > fit:
        others = sum(seconds[task_id] for task_id in tasks[fit:])
        lines[fit:] = [f"• {format_duration(others)}: {len(tasks) - fit} other tasks"]
    return lines


def by_day(rows: list[Hours], zone: ZoneInfo) -> dict[date, int]:
    """The seconds of each day on which there are any, the earliest first."""
    seconds: dict[date, int] = defaultdict(int)
    for row in rows:
        seconds[row.start_time.astimezone(zone).date()] += row.seconds
    return dict(sorted(seconds.items()))

"""What a person's App Home shows now: their timer, hours, gaps and tasks, and for admins the time bills to approve."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.identity import working_hours
from schemas.identity.users import User
from schemas.identity.work_calendar import monday
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.approvals import pending
from schemas.slack.approvals.pending import PendingBill
from schemas.slack.commands import worked
from schemas.slack.commands.search import IS_OPEN, IS_OWN
from schemas.slack.commands.task_search import RECENT_WORK
from schemas.slack.home import gaps
from schemas.slack.home.gaps import Span
from schemas.slack.task_actions import task_url
from schemas.slack.typed import times
from schemas.slack.views import TaskSummary

MOST_TASKS = 20


@dataclass(frozen=True)
class RunningTask:
    """The running timer, with its task."""

    id: UUID
    task_id: UUID
    title: str
    customer: str
    start_time: datetime
    notes: str


@dataclass(frozen=True)
class Plan:
    """The seconds that the person plans to work today, and this week until today."""

    today: int
    week: int


@dataclass(frozen=True)
class Content:
    """Of one person. `seconds_today` and `seconds_week` are recorded time, without the running timer. `tasks` are the first of
    `task_count` open ones. `last_day` is the last working day, with its gaps. `bills` is None for a person who is no
    admin."""

    now: datetime
    zone: ZoneInfo
    timer: RunningTask | None
    seconds_today: int
    seconds_week: int
    plan: Plan
    tasks: list[TaskSummary]
    task_count: int
    last_day: date | None
    gaps: list[Span]
    bills: list[PendingBill] | None


async def read(conn: Connection, user: User, settings: Settings) -> Content:
    """Reads what the person's Home shows. Their days are those of their time zone."""
    now: datetime = await conn.value("SELECT now()")
    calendar = await working_hours.read_calendar(conn, user.id, settings=settings)
    zone, today = calendar.zone, calendar.day_of(now)
    first = monday(today)
    last_day = gaps.last_working_day(today, calendar)
    since = min(first, last_day or first) - timedelta(days=1)  # an entry of the night before covers a part of the day
    end = times.start_of(today + timedelta(days=1), zone)
    hours = await worked.read_hours(conn, user.id, times.start_of(since, zone), end, None)
    done = [(row.start_time.astimezone(zone).date(), row.seconds) for row in hours if not row.running]
    tasks, task_count = await _list_tasks(conn, user.id, settings)
    day = (times.start_of(last_day, zone), times.start_of(last_day + timedelta(days=1), zone)) if last_day else None
    spans = [(row.start_time, row.start_time + timedelta(seconds=row.seconds)) for row in hours]
    return Content(
        now=now,
        zone=zone,
        timer=await _find_timer(conn, user.id),
        seconds_today=sum(seconds for day, seconds in done if day == today),
        seconds_week=sum(seconds for day, seconds in done if first <= day <= today),
        plan=Plan(calendar.planned_seconds(today), calendar.planned_seconds(first, today)),
        tasks=tasks,
        task_count=task_count,
        last_day=last_day,
        gaps=gaps.find(spans, day, (calendar.starts_at(last_day), calendar.ends_at(last_day))) if day and last_day else [],
        bills=await pending.list_pending(conn, zone=settings.stint_timezone, only_customer=None) if user.is_admin else None,
    )


async def _find_timer(conn: Connection, user_id: UUID) -> RunningTask | None:
    return await conn.maybe(
        """
        SELECT r.id, r.task_id, t.title, c.name AS customer, r.start_time, r.notes
        FROM timers r JOIN tasks t ON t.id = r.task_id JOIN customers c ON c.id = t.customer_id WHERE r.user_id = %s
        """,
        (user_id,),
        row=RunningTask,
    )


async def _list_tasks(conn: Connection, user_id: UUID, settings: Settings) -> tuple[list[TaskSummary], int]:
    """The first of the person's own open tasks on which a timer can start, and the number of all. Those on which they worked
    last come first, and then the newest."""
    rows = await conn.all(
        f"""
        WITH recent AS (
            {RECENT_WORK}
        ), worked AS (SELECT task_id, max(at) AS at FROM recent GROUP BY task_id)
        SELECT t.id, t.title, c.name, count(*) OVER ()
        FROM tasks t JOIN customers c ON c.id = t.customer_id LEFT JOIN worked w ON w.task_id = t.id
        WHERE {IS_OWN} AND {IS_OPEN} AND c.active
            AND NOT EXISTS (SELECT FROM timers r WHERE r.user_id = %(user)s AND r.task_id = t.id)
        ORDER BY w.at DESC NULLS LAST, t.created_at DESC, t.id DESC LIMIT {MOST_TASKS}
        """,
        {"user": user_id},
    )
    tasks = [TaskSummary(task_id, title, customer, url=task_url(settings, task_id)) for task_id, title, customer, _ in rows]
    return tasks, rows[0][3] if rows else 0

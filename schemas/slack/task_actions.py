"""What users do with tasks and timers in Slack, by the same functions as the API.

In a channel that is mapped to a customer, no other customer's data is shown. This is so even in answers that only one user
sees, because people share their screens. So the functions take `only_customer`, the customer of the channel. None: any
customer.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.customers import tasks
from schemas.customers.tasks import TaskChange
from schemas.errors import Conflict, Forbidden, NotFound
from schemas.hours import timer_stops, timers
from schemas.identity.users import User, lock_user
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack import deduplication, nudges
from schemas.slack.commands.search import IS_OPEN, IS_OWN
from schemas.slack.views import Choice, TaskSummary, escape

LIST_LIMIT = 20
TASK_NOT_FOUND = "There is no such task here any more."
TIMER_NOT_RUNNING = "That timer is not running any more."
NO_TIMER = "No timer of yours is running."


async def get_task(conn: Connection, task_id: UUID, *, settings: Settings, only_customer: UUID | None) -> TaskSummary | None:
    """The task. None if it was deleted, or if it belongs to another customer than `only_customer`."""
    task = await conn.maybe(
        """
        SELECT t.title, c.name FROM tasks t JOIN customers c ON c.id = t.customer_id
        WHERE t.id = %(task)s AND t.deleted_at IS NULL AND t.customer_id = coalesce(%(customer)s, t.customer_id)
        """,
        {"task": task_id, "customer": only_customer},
    )
    return None if task is None else TaskSummary(task_id, task[0], task[1], url=task_url(settings, task_id))


def task_url(settings: Settings, task_id: UUID) -> str:
    """The task's page in the web application."""
    return f"{settings.sign_in_url.rstrip('/')}/tasks/{task_id}"


async def list_own(
    conn: Connection, user_id: UUID, *, settings: Settings, only_customer: UUID | None
) -> tuple[list[TaskSummary], int]:
    """The newest LIST_LIMIT of the user's open tasks, and the number of all open tasks of the user.

    A task is the user's if it is assigned to the user; or if the user has created it, and it is assigned to nobody.
    """
    rows = await conn.all(
        f"""
        SELECT t.id, t.title, c.name, count(*) OVER () FROM tasks t JOIN customers c ON c.id = t.customer_id
        WHERE {IS_OWN} AND {IS_OPEN} AND t.customer_id = coalesce(%(customer)s, t.customer_id)
        ORDER BY t.created_at DESC, t.id DESC LIMIT {LIST_LIMIT}
        """,
        {"user": user_id, "customer": only_customer},
    )
    own = [TaskSummary(task_id, title, customer, url=task_url(settings, task_id)) for task_id, title, customer, _ in rows]
    return own, rows[0][3] if rows else 0


async def get_customer(conn: Connection, customer_id: UUID, *, only_customer: UUID | None) -> Choice | None:
    """The customer. None if it was deleted or is inactive, or if it is another one than `only_customer`."""
    return await conn.maybe(
        "SELECT id, name FROM customers WHERE id = %s AND deleted_at IS NULL AND active AND id = coalesce(%s, id)",
        (customer_id, only_customer),
        row=Choice,
    )


async def get_status(conn: Connection, task_id: UUID) -> str | None:
    """The task's status; None if it was deleted."""
    status: str | None = await conn.value("SELECT status FROM tasks WHERE id = %s AND deleted_at IS NULL", (task_id,))
    return status


async def start_timer(conn: Connection, task_id: UUID, *, by: User, settings: Settings, only_customer: UUID | None) -> str:
    """Starts the user's timer on the task, and opens a task that is done again. Returns the answer to the user."""
    task = await get_task(conn, task_id, settings=settings, only_customer=only_customer)
    if task is None:
        return TASK_NOT_FOUND
    try:
        async with conn.transaction():  # if no timer can start, the task stays done
            await lock_user(conn, by.id)
            is_reopened = await get_status(conn, task_id) == "done"
            if is_reopened:
                await tasks.change(conn, task_id, TaskChange(status="open"), by=by)
            timer, started = await timers.start(conn, task_id, user_id=by.id)
    except (NotFound, Conflict, Forbidden) as error:
        return error.detail
    again = " The task was done, and is open again." if is_reopened else ""
    if not started:
        return f"Your timer on {escape(task.title)} is running already.{again}"
    before = f" The one before it was stopped after {format_duration(timer.stopped.duration)}." if timer.stopped else ""
    return f"Your timer runs on {escape(task.title)}.{again}{before}"


async def complete(
    conn: Connection, task_id: UUID, *, by: User, settings: Settings, only_customer: UUID | None
) -> tuple[str, bool]:
    """Sets the task's status to done, and stops the user's timer on it.

    Returns the answer to the user, and whether this call has changed the status.
    """
    task = await get_task(conn, task_id, settings=settings, only_customer=only_customer)
    if task is None:
        return TASK_NOT_FOUND, False
    title = escape(task.title)
    await lock_user(conn, by.id)
    status = await conn.value("SELECT status FROM tasks WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE", (task_id,))
    if status is None:
        return TASK_NOT_FOUND, False
    if status == "archived":
        return f"{title} is archived.", False
    if status != "done":
        await tasks.change(conn, task_id, TaskChange(status="done"), by=by)
    receipt = await timer_stops.stop_running(conn, task_id, user_id=by.id)
    stopped = f" Your timer on it is stopped: {format_duration(receipt.stop.duration)}." if receipt is not None else ""
    others = await conn.value("SELECT count(*) FROM timers WHERE task_id = %s", (task_id,))
    left = f" Timers of others still run on it: {others}." if others else ""
    return f"{title} is done{' already' if status == 'done' else ''}.{stopped}{left}", status != "done"


@dataclass(frozen=True)
class RunningTimer:
    """A running timer. `title` is that of its task. None: the task belongs to another customer than `only_customer`."""

    id: UUID
    task_id: UUID
    title: str | None
    start_time: datetime
    seconds: int

    @property
    def on_task(self) -> str:
        return _on_task(self.title)


def _on_task(title: str | None) -> str:
    return f"on {escape(title)}" if title is not None else "on another customer's task"


_RUNNING = """
    SELECT r.id, r.task_id, CASE WHEN t.customer_id = coalesce(%(customer)s, t.customer_id) THEN t.title END AS title,
           r.start_time, greatest(extract(epoch FROM now() - r.start_time), 0)::bigint AS seconds
    FROM timers r JOIN tasks t ON t.id = r.task_id WHERE r.user_id = %(user)s
"""


async def get_running_timer(conn: Connection, user_id: UUID, *, only_customer: UUID | None) -> RunningTimer | None:
    """The user's running timer, or None."""
    return await conn.maybe(_RUNNING, {"user": user_id, "customer": only_customer}, row=RunningTimer)


async def describe_status(conn: Connection, *, by: User, only_customer: UUID | None) -> str:
    """The answer to `/task status`, by one statement: the user's running timer, and the number of their open tasks."""
    title, seconds, count = await conn.one(
        f"""
        SELECT r.title, r.seconds, (
            SELECT count(*) FROM tasks t
            WHERE {IS_OWN} AND {IS_OPEN} AND t.customer_id = coalesce(%(customer)s, t.customer_id)
        )
        FROM (VALUES (1)) one LEFT JOIN ({_RUNNING}) r ON true
        """,
        {"user": by.id, "customer": only_customer},
    )
    runs = NO_TIMER if seconds is None else f"Your timer runs {_on_task(title)}, for {format_duration(seconds)} now."
    return f"{runs} Open tasks of yours{' here' if only_customer else ''}: {count}."


async def stop_timer(conn: Connection, *, by: User, only_customer: UUID | None, timer_id: UUID | None = None) -> str:
    """Stops the user's running timer. Returns the answer to the user.

    With a `timer_id`, only this timer is stopped. If a button has stopped it before, the answer is the same as then.
    """
    await lock_user(conn, by.id)  # so that the timer that is read here is the one that is stopped
    timer = await get_running_timer(conn, by.id, only_customer=only_customer)
    if timer_id is not None and (timer is None or timer_id != timer.id):
        return await _describe_stopped(conn, timer_id, by=by, only_customer=only_customer)
    if timer is None:
        return NO_TIMER
    receipt = await timer_stops.stop(conn, timer.task_id, user_id=by.id)
    if timer_id is not None:
        await deduplication.record_once(conn, f"stopped:{timer_id}")
    return f"Your timer {timer.on_task} is stopped: {format_duration(receipt.stop.duration)}."


async def _describe_stopped(conn: Connection, timer_id: UUID, *, by: User, only_customer: UUID | None) -> str:
    """What the user reads about a timer that does not run any more. Its id is that of its entry, which may not exist yet."""
    timer = await conn.maybe(
        """
        SELECT s.entry_id AS id, s.task_id, s.start_time,
               CASE WHEN %(customer)s::uuid IS NULL OR t.customer_id = %(customer)s THEN t.title END AS title,
               extract(epoch FROM s.end_time - s.start_time)::bigint AS seconds
        FROM (SELECT entry_id, user_id, task_id, start_time, end_time FROM stops WHERE user_id = %(user)s
              UNION ALL SELECT id, user_id, task_id, start_time, end_time FROM time_entries
              WHERE id = %(timer)s AND deleted_at IS NULL) s
        JOIN tasks t ON t.id = s.task_id
        WHERE s.user_id = %(user)s AND s.entry_id = %(timer)s LIMIT 1
        """,
        {"timer": timer_id, "user": by.id, "customer": only_customer},
        row=RunningTimer,
    )
    if timer is None:
        return TIMER_NOT_RUNNING
    if await deduplication.is_recorded(conn, f"stopped:{timer_id}"):
        return f"Your timer {timer.on_task} is stopped: {format_duration(timer.seconds)}."
    return f"{TIMER_NOT_RUNNING} It was stopped after {format_duration(timer.seconds)}."


async def keep_running(
    conn: Connection, timer_id: UUID, *, by: User, settings: Settings, only_customer: UUID | None, again: bool = False
) -> str:
    """Lets the timer run, and plans the next nudge, unless the button was pressed before (`again`). Returns the answer to the
    user."""
    timer = await get_running_timer(conn, by.id, only_customer=only_customer)
    if timer is None or timer.id != timer_id:
        return await _describe_stopped(conn, timer_id, by=by, only_customer=only_customer)
    if not again:
        await nudges.ask_again(conn, timer_id, user_id=by.id, hours=settings.stint_nudge_hours)
    return f"Your timer {timer.on_task} goes on. I'll ask again in {settings.stint_nudge_hours:g} hours."


def format_duration(seconds: int) -> str:
    """The duration in hours and minutes, such as "1 h 30 min"."""
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def parse_id(text: Any) -> UUID | None:
    """The id in a button or an option; None if the value is not a UUID."""
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None

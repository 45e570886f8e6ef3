"""What people do with tasks and timers from Slack, by the same transitions as the API.

In a channel that belongs to a customer, nothing of another is shown, not even to the person alone: people share screens. So
each of these takes the customer that the place belongs to, or None.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas import nudges, tasks, timers
from schemas.billing import lock_user
from schemas.clients.slack_views import LONGEST_OPTION, Choice, Shown, escape
from schemas.database import Connection
from schemas.errors import Conflict, NotFound
from schemas.settings import Settings
from schemas.tasks import TaskChange
from schemas.users import User

LISTED = 20
OFFERED = 100  # Slack takes no more
OWN = "(t.assignee_id = %(user)s OR t.assignee_id IS NULL AND t.created_by = %(user)s)"
OPEN = "t.status IN ('open', 'in_progress') AND t.deleted_at IS NULL"
GONE = "There is no such task here any more."


async def shown(conn: Connection, task_id: UUID, *, settings: Settings, only: UUID | None) -> Shown | None:
    """The task, unless it is gone, or of another customer than the place's."""
    cursor = await conn.execute(
        """
        SELECT t.id, t.title, c.name FROM tasks t JOIN customers c ON c.id = t.customer_id
        WHERE t.id = %(task)s AND t.deleted_at IS NULL AND t.customer_id = coalesce(%(only)s, t.customer_id)
        """,
        {"task": task_id, "only": only},
    )
    row = await cursor.fetchone()
    return None if row is None else Shown(row[0], row[1], row[2], url=link(settings, row[0]))


def link(settings: Settings, task_id: UUID) -> str:
    """Where a task is seen."""
    return f"{settings.sign_in_url.rstrip('/')}/tasks/{task_id}"


async def own(conn: Connection, user_id: UUID, *, settings: Settings, only: UUID | None) -> tuple[list[Shown], int]:
    """The user's open tasks, those first that were created last, and how many there are: what is assigned to them, or was
    created by them and is nobody's."""
    cursor = await conn.execute(
        f"""
        SELECT t.id, t.title, c.name, count(*) OVER () FROM tasks t JOIN customers c ON c.id = t.customer_id
        WHERE {OWN} AND {OPEN} AND t.customer_id = coalesce(%(only)s, t.customer_id)
        ORDER BY t.created_at DESC, t.id DESC LIMIT {LISTED}
        """.encode(),
        {"user": user_id, "only": only},
    )
    rows = await cursor.fetchall()
    return [Shown(row[0], row[1], row[2], url=link(settings, row[0])) for row in rows], rows[0][3] if rows else 0


async def offered_tasks(conn: Connection, typed: str, *, user_id: UUID, only: UUID | None) -> list[Choice]:
    """Whichever of the user's open tasks have the typed text in their title."""
    cursor = await conn.execute(
        f"""
        SELECT t.id, left(t.title, {LONGEST_OPTION} - 3 - least(length(c.name), 30)) || ' · ' || left(c.name, 30)
        FROM tasks t JOIN customers c ON c.id = t.customer_id
        WHERE {OWN} AND {OPEN} AND t.customer_id = coalesce(%(only)s, t.customer_id) AND t.title ILIKE %(typed)s
        ORDER BY t.created_at DESC, t.id DESC LIMIT {OFFERED}
        """.encode(),
        {"user": user_id, "only": only, "typed": _containing(typed)},
    )
    return [Choice(*row) for row in await cursor.fetchall()]


async def offered_customers(conn: Connection, typed: str, *, only: UUID | None) -> list[Choice]:
    """The active customers with the typed text in their name; at a customer's place, that one."""
    cursor = await conn.execute(
        f"""
        SELECT id, name FROM customers
        WHERE deleted_at IS NULL AND active AND id = coalesce(%(only)s, id) AND name ILIKE %(typed)s
        ORDER BY lower(name), id LIMIT {OFFERED}
        """.encode(),
        {"only": only, "typed": _containing(typed)},
    )
    return [Choice(*row) for row in await cursor.fetchall()]


async def offered_pillars(conn: Connection, typed: str, *, customer_id: UUID) -> list[Choice]:
    """The customer's active pillars with the typed text in their name."""
    cursor = await conn.execute(
        f"""
        SELECT id, name FROM pillars
        WHERE customer_id = %s AND deleted_at IS NULL AND active AND name ILIKE %s ORDER BY lower(name), id LIMIT {OFFERED}
        """.encode(),
        (customer_id, _containing(typed)),
    )
    return [Choice(*row) for row in await cursor.fetchall()]


async def customer(conn: Connection, customer_id: UUID, *, only: UUID | None) -> Choice | None:
    """The customer that was picked, if there is one such, and it is the place's."""
    cursor = await conn.execute(
        "SELECT id, name FROM customers WHERE id = %s AND deleted_at IS NULL AND id = coalesce(%s, id)", (customer_id, only)
    )
    row = await cursor.fetchone()
    return None if row is None else Choice(*row)


def _containing(typed: str) -> str:
    escaped = "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in typed[:100])
    return f"%{escaped}%"


async def start(conn: Connection, task_id: UUID, *, by: User, settings: Settings, only: UUID | None) -> str:
    """Starts the user's timer on the task, and says so."""
    task = await shown(conn, task_id, settings=settings, only=only)
    if task is None:
        return GONE
    try:
        async with conn.transaction():
            timer, started = await timers.start(conn, task_id, user_id=by.id)
    except (NotFound, Conflict) as error:
        return error.detail
    if not started:
        return f"Your timer on {escape(task.title)} is running already."
    before = f" The one before it was stopped after {spoken(timer.stopped.duration)}." if timer.stopped else ""
    return f"Your timer runs on {escape(task.title)}.{before}"


async def finish(conn: Connection, task_id: UUID, *, by: User, settings: Settings, only: UUID | None) -> str:
    """Sets the task to done, and says so."""
    task = await shown(conn, task_id, settings=settings, only=only)
    if task is None:
        return GONE
    try:
        await tasks.change(conn, task_id, TaskChange(status="done"), by=by)
    except NotFound:
        return GONE
    return f"{escape(task.title)} is done."


@dataclass(frozen=True)
class Running:
    """A timer that runs; without a title at a place that belongs to another customer."""

    id: UUID
    task_id: UUID
    title: str | None
    start_time: datetime
    seconds: int

    @property
    def on(self) -> str:
        return f"on {escape(self.title)}" if self.title is not None else "on another customer's task"


async def running(conn: Connection, user_id: UUID, *, only: UUID | None) -> Running | None:
    """The user's timer."""
    cursor = await conn.execute(
        """
        SELECT r.id, r.task_id, CASE WHEN t.customer_id = coalesce(%(only)s, t.customer_id) THEN t.title END, r.start_time,
               greatest(extract(epoch FROM now() - r.start_time), 0)::bigint
        FROM timers r JOIN tasks t ON t.id = r.task_id WHERE r.user_id = %(user)s
        """,
        {"user": user_id, "only": only},
    )
    row = await cursor.fetchone()
    return None if row is None else Running(*row)


async def status(conn: Connection, *, by: User, settings: Settings, only: UUID | None) -> str:
    """What runs, and how much is open."""
    timer = await running(conn, by.id, only=only)
    runs = f"Your timer runs {timer.on}, for {spoken(timer.seconds)} now." if timer else "No timer of yours is running."
    _, count = await own(conn, by.id, settings=settings, only=only)
    return f"{runs} Open tasks of yours{' here' if only else ''}: {count}."


async def stop(conn: Connection, *, by: User, only: UUID | None, timer_id: UUID | None = None) -> str:
    """Stops the user's timer, or that very one, and says so."""
    await lock_user(conn, by.id)  # what runs now is what is stopped
    timer = await running(conn, by.id, only=only)
    if timer is None or timer_id not in (None, timer.id):
        return "That timer is not running any more." if timer_id else "No timer of yours is running."
    promise = await timers.stop(conn, timer.task_id, user_id=by.id)
    return f"Your timer {timer.on} is stopped: {spoken(promise.stop.duration)}."


async def keep(conn: Connection, timer_id: UUID, *, by: User, settings: Settings, only: UUID | None) -> str:
    """Lets the timer run, and plans the next nudge."""
    timer = await running(conn, by.id, only=only)
    if timer is None or timer.id != timer_id:
        return "That timer is not running any more."
    await nudges.plan_again(conn, timer_id, user_id=by.id, hours=settings.stint_nudge_hours)
    return f"Your timer {timer.on} goes on. I'll ask again in {settings.stint_nudge_hours:g} hours."


def spoken(seconds: int) -> str:
    """A duration as people say it."""
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def parse_id(text: Any) -> UUID | None:
    """The id that a button or an option carries; None for what is none."""
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None

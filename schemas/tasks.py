"""Tasks: what consultants work on, each for one customer and one of its pillars."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import Field

from schemas import customers, ledger
from schemas.base import Body, Day, Name, Row, Text, Version, json_object
from schemas.customers import narrow_to
from schemas.database import Connection
from schemas.errors import Conflict, Invalid, NotFound
from schemas.listing import Order, Page, Selection
from schemas.messages import MoveEntries
from schemas.users import User, is_consultant

Status = Literal["open", "in_progress", "done", "archived"]
Priority = Literal["low", "normal", "high", "urgent"]
Source = Literal["web", "desktop", "slack"]


class Task(Row):
    """A task, as answered."""

    id: UUID
    title: Annotated[str, Field(examples=["Migrate the mail server"])]
    description: str
    status: Status
    customer_id: UUID
    pillar_id: UUID
    assignee_id: UUID | None
    priority: Priority
    due_date: date | None
    source: Source
    created_by: UUID
    created_at: datetime
    updated_at: datetime
    version: int


class NewTask(Body):
    """A task to create; with an `id` of one's own, repeating the request is safe."""

    id: UUID | None = None
    title: Annotated[Name, Field(examples=["Migrate the mail server"])]
    description: Text = ""
    status: Status = "open"
    customer_id: UUID
    pillar_id: Annotated[UUID | None, Field(description='Without one: the customer\'s "General Support"')] = None
    assignee_id: UUID | None = None
    priority: Priority = "normal"
    due_date: Day | None = None
    source: Source = "web"


class TaskChange(Body):
    """What is left out keeps its value. A task that moves to another customer goes to its "General Support" unless a pillar is
    named; its time entries that are not on approved bills follow."""

    title: Annotated[Name | None, Field(examples=["Migrate the mail server"])] = None
    description: Text | None = None
    status: Status | None = None
    customer_id: UUID | None = None
    pillar_id: Annotated[UUID | None, Field(description='one of the customer\'s; null: its "General Support"')] = None
    assignee_id: Annotated[UUID | None, Field(description="null: nobody")] = None
    priority: Priority | None = None
    due_date: Annotated[Day | None, Field(description="null: none")] = None
    version: Version | None = None


async def create(conn: Connection, new: NewTask, *, by: User) -> Task:
    """The new task. The same id with the same body gives the same task.

    Raises Invalid for an unknown customer, pillar or assignee, Conflict for an id that another task has.
    """
    if new.id is not None and (before := await _created_before(conn, new)) is not None:
        return before
    pillar_id = await _pillar(conn, new.customer_id, new.pillar_id)
    await _check_assignee(conn, new.assignee_id)
    cursor = await conn.execute(
        f"""
        INSERT INTO tasks AS t (id, title, description, status, customer_id, pillar_id, assignee_id, priority,
                                due_date, source, created_from, created_by)
        VALUES (%(id)s, %(title)s, %(description)s, %(status)s, %(customer_id)s, %(pillar_id)s, %(assignee_id)s,
                %(priority)s, %(due_date)s, %(source)s, %(fingerprint)s, %(by)s)
        ON CONFLICT (id) DO NOTHING
        RETURNING {json_object(Task, "t")}::text
        """.encode(),
        new.model_dump() | {"id": new.id or uuid4(), "pillar_id": pillar_id, "fingerprint": new.fingerprint(), "by": by.id},
    )
    if (row := await cursor.fetchone()) is not None:
        return Task.from_json(row[0])
    before = await _created_before(conn, new)  # at the same moment, by another request
    assert before is not None
    return before


async def change(conn: Connection, task_id: UUID, wanted: TaskChange, *, by: User) -> Task:
    """Writes what is sent. A task that moves takes its open hours along, by an actor.

    Raises NotFound for an unknown task, Conflict for a stale version, Invalid for an unknown customer, pillar or assignee.
    """
    customer_id, pillar_id = await _lock(conn, task_id, wanted)
    values = _values(wanted)
    if wanted.customer_id not in (None, customer_id) or "pillar_id" in values:
        values["customer_id"] = wanted.customer_id or customer_id
        values["pillar_id"] = await _pillar(conn, values["customer_id"], wanted.pillar_id, present=pillar_id)
    if not values:
        raise Invalid("", "Send at least one field to change.")
    await _check_assignee(conn, values.get("assignee_id"))
    assignments = ", ".join(f"{column} = %({column})s" for column in values)
    cursor = await conn.execute(
        f"""
        UPDATE tasks t SET {assignments}, version = version + 1 WHERE id = %(id)s
        RETURNING {json_object(Task, "t")}::text
        """.encode(),
        values | {"id": task_id},
    )
    changed = await cursor.fetchone()
    assert changed is not None
    task = Task.from_json(changed[0])
    if (task.customer_id, task.pillar_id) != (customer_id, pillar_id):
        await _note_departure(conn, task, customer_id)
        await ledger.put(conn, MoveEntries(task_id=task_id), created_by=by.id)
    return task


async def _lock(conn: Connection, task_id: UUID, wanted: TaskChange) -> tuple[UUID, UUID]:
    """Where the task stands now, with its row locked. Before that, if it is to move, the customer is held that it is to stand
    at: who deletes a customer takes the rows in that order, too."""
    at = None
    if wanted.customer_id is not None or "pillar_id" in wanted.model_fields_set:
        cursor = await conn.execute("SELECT customer_id FROM tasks WHERE id = %s AND deleted_at IS NULL", (task_id,))
        if (row := await cursor.fetchone()) is not None:
            at = wanted.customer_id or row[0]
            await customers.hold(conn, at)
    cursor = await conn.execute(
        f"""
        SELECT customer_id, pillar_id, version, {json_object(Task, "t")}
        FROM tasks t WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
        """.encode(),
        (task_id,),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such task.")
    customer_id, pillar_id, version, current = row
    moved_meanwhile = at is not None and wanted.customer_id is None and customer_id != at
    if moved_meanwhile or (wanted.version is not None and wanted.version != version):
        raise Conflict("The task has changed since you read it.", current=current)
    return customer_id, pillar_id


def _values(wanted: TaskChange) -> dict[str, Any]:
    """The columns that are written, with their values: null is one for what can be empty, elsewhere it is nothing."""
    sent = wanted.model_dump(include=wanted.model_fields_set - {"version"})
    return {
        name: value for name, value in sent.items() if value is not None or name in ("pillar_id", "assignee_id", "due_date")
    }


async def _note_departure(conn: Connection, task: Task, left: UUID) -> None:
    """Remembers that the task has left a customer, whose users' clients must hear of it, and forgets that it left this one."""
    await conn.execute("DELETE FROM task_moves WHERE task_id = %s AND customer_id = %s", (task.id, task.customer_id))
    if left != task.customer_id:
        await conn.execute(
            """
            INSERT INTO task_moves (task_id, customer_id) VALUES (%s, %s)
            ON CONFLICT (task_id, customer_id) DO UPDATE SET updated_at = excluded.updated_at
            """,
            (task.id, left),
        )


async def _check_assignee(conn: Connection, assignee_id: UUID | None) -> None:
    if assignee_id is not None and not await is_consultant(conn, assignee_id):
        raise Invalid("assigneeId", "Nobody who gets tasks has this id; GET /api/tasks/internal-users lists them.")


async def _pillar(conn: Connection, customer_id: UUID, pillar_id: UUID | None, *, present: UUID | None = None) -> UUID:
    """The pillar that the task is to stand at, with the customer held until it does. Raises Invalid for a customer or a pillar
    that is not there, and for an inactive pillar, unless it is the `present` one."""
    if not await customers.hold(conn, customer_id):
        raise Invalid("customerId", "There is no such customer; GET /api/customers lists them.")
    # in a statement of its own: one that waits for the customer would see the pillars as they were before
    cursor = await conn.execute(
        """
        SELECT id, active FROM pillars WHERE customer_id = %(customer)s AND deleted_at IS NULL
            AND CASE WHEN %(pillar)s::uuid IS NULL THEN is_default ELSE id = %(pillar)s END
        """,
        {"customer": customer_id, "pillar": pillar_id},
    )
    if (row := await cursor.fetchone()) is None:
        raise Invalid("pillarId", "The customer has no such pillar; leave it out for General Support.")
    found: UUID = row[0]
    if not row[1] and found != present:
        raise Invalid("pillarId", "This pillar is inactive: no more work is put on it; name another, or leave it out.")
    return found


async def _created_before(conn: Connection, new: NewTask) -> Task | None:
    """The task that an earlier request with this id and body made, if any. Raises Conflict when the body was another."""
    cursor = await conn.execute(
        f"""
        SELECT {json_object(Task, "t")}::text, created_from = %s AND deleted_at IS NULL FROM tasks t WHERE id = %s
        """.encode(),
        (new.fingerprint(), new.id),
    )
    row = await cursor.fetchone()
    if row is not None and not row[1]:
        raise Conflict("Another task has this id; take a new one.")
    return Task.from_json(row[0]) if row is not None else None


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks a list asks for; `customer` is an id or an exact name in any case."""

    assignee_id: UUID | None = None
    customer: str | None = None
    status: Status | None = None


def _visible_to(user: User) -> Selection:
    selection = Selection("task", Task, "tasks", "t", Order("created_at", "timestamptz"))
    selection.where("t.deleted_at IS NULL")
    if not user.is_internal:
        selection.where("t.customer_id = %(own_customer)s", own_customer=user.customer_id)
        selection.audible = lambda since: (
            f"""(t.customer_id = %(own_customer)s OR EXISTS (
            SELECT FROM task_moves m WHERE m.task_id = t.id AND m.customer_id = %(own_customer)s AND {since.of("m")}))"""
        )
    return selection


async def get(conn: Connection, task_id: UUID, *, user: User) -> bytes:
    """The task as JSON. Raises NotFound when there is none that this user may see."""
    return await _visible_to(user).one(conn, task_id)


async def list_page(conn: Connection, page: Page, chosen: TaskFilter, *, user: User) -> bytes:
    """The tasks this user may see, newest first; or those that changed since the page's `since`."""
    selection = _visible_to(user)
    if chosen.assignee_id is not None:
        selection.where("t.assignee_id = %(assignee)s", assignee=chosen.assignee_id)
    if chosen.customer is not None:
        await narrow_to(conn, selection, chosen.customer)
    if chosen.status is not None:
        selection.where("t.status = %(status)s", status=chosen.status)
    return await selection.page(conn, page)

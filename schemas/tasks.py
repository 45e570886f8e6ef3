"""Tasks: what consultants work on, each for one customer and one of its pillars."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

from psycopg.errors import ForeignKeyViolation
from pydantic import Field

from schemas.base import Body, Day, Name, Row, Text, json_object
from schemas.database import Connection
from schemas.errors import Conflict, Invalid
from schemas.listing import Order, Page, Selection
from schemas.users import User

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


async def create(conn: Connection, new: NewTask, *, by: User) -> Task:
    """The new task. The same id with the same body gives the same task.

    Raises Invalid for an unknown customer, pillar or assignee, Conflict for an id that another task has.
    """
    if new.id is not None and (before := await _created_before(conn, new)) is not None:
        return before
    pillar_id = await _pillar(conn, new)
    try:
        async with conn.transaction():
            cursor = await conn.execute(
                f"""
                INSERT INTO tasks AS t (id, title, description, status, customer_id, pillar_id, assignee_id, priority,
                                        due_date, source, created_from, created_by)
                VALUES (%(id)s, %(title)s, %(description)s, %(status)s, %(customer_id)s, %(pillar_id)s, %(assignee_id)s,
                        %(priority)s, %(due_date)s, %(source)s, %(fingerprint)s, %(by)s)
                ON CONFLICT (id) DO NOTHING
                RETURNING {json_object(Task, "t")}::text
                """.encode(),
                new.model_dump()
                | {"id": new.id or uuid4(), "pillar_id": pillar_id, "fingerprint": new.fingerprint(), "by": by.id},
            )
    except ForeignKeyViolation as error:
        raise Invalid("assigneeId", "No user has this id; leave it out or name somebody who has signed in.") from error
    if (row := await cursor.fetchone()) is not None:
        return Task.from_json(row[0])
    before = await _created_before(conn, new)  # at the same moment, by another request
    assert before is not None
    return before


async def _pillar(conn: Connection, new: NewTask) -> UUID:
    """The task's pillar; locks the customer against deletion until the task is there."""
    cursor = await conn.execute(
        """
        SELECT c.id, (SELECT p.id FROM pillars p
                      WHERE p.customer_id = c.id AND p.deleted_at IS NULL
                        AND CASE WHEN %(pillar)s::uuid IS NULL THEN p.is_default ELSE p.id = %(pillar)s END)
        FROM customers c WHERE c.id = %(customer)s AND c.deleted_at IS NULL FOR SHARE
        """,
        {"customer": new.customer_id, "pillar": new.pillar_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise Invalid("customerId", "There is no such customer; GET /api/customers lists them.")
    if row[1] is None:
        raise Invalid("pillarId", "The customer has no such pillar; leave it out for General Support.")
    pillar_id: UUID = row[1]
    return pillar_id


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


def _visible_to(user: User) -> Selection:
    selection = Selection("task", Task, "tasks", "t", Order("created_at", "createdAt", "timestamptz"))
    selection.where("t.deleted_at IS NULL")
    if not user.is_internal:
        selection.where("t.customer_id = %(own_customer)s", own_customer=user.customer_id)
    return selection


async def get(conn: Connection, task_id: UUID, *, user: User) -> bytes:
    """The task as JSON. Raises NotFound when there is none that this user may see."""
    return await _visible_to(user).one(conn, task_id)


async def list_page(conn: Connection, page: Page, *, user: User, assignee_id: UUID | None = None) -> bytes:
    """The tasks this user may see, newest first; with `assignee_id` only that person's."""
    selection = _visible_to(user)
    if assignee_id is not None:
        selection.where("t.assignee_id = %(assignee)s", assignee=assignee_id)
    return await selection.page(conn, page)

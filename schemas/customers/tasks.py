"""Tasks: the work that consultants do, each for one customer and one of its pillars."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import Field

from schemas.base import Body, Day, Name, Row, Text, Version, json_object
from schemas.customers import customers
from schemas.customers.customers import filter_by_customer
from schemas.errors import Conflict, Invalid
from schemas.identity.current_user import UserId
from schemas.identity.users import User, is_consultant
from schemas.messages import MoveEntries
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection
from schemas.postgres.versioned_table import NewRow, VersionedTable, sent_values

Status = Literal["open", "in_progress", "done", "archived"]
Priority = Literal["low", "normal", "high", "urgent"]
Source = Literal["web", "desktop", "slack"]


class Task(Row):
    """A task, as the API returns it."""

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


class NewTask(NewRow):
    """A task to create. If you choose the `id`, the request can be repeated safely."""

    title: Annotated[Name, Field(examples=["Migrate the mail server"])]
    description: Text = ""
    status: Status = "open"
    customer_id: UUID
    pillar_id: Annotated[UUID | None, Field(description='default: the customer\'s "General Support"')] = None
    assignee_id: UserId | None = None
    priority: Priority = "normal"
    due_date: Day | None = None
    source: Source = "web"


class TaskChange(Body):
    """Fields that are left out keep their values. A task that moves to another customer goes to its "General Support" unless
    you name a pillar; its time entries move, too, except those on approved bills."""

    title: Annotated[Name | None, Field(examples=["Migrate the mail server"])] = None
    description: Text | None = None
    status: Status | None = None
    customer_id: UUID | None = None
    pillar_id: Annotated[UUID | None, Field(description='one of the customer\'s; null: its "General Support"')] = None
    assignee_id: Annotated[UserId | None, Field(description="null: nobody")] = None
    priority: Priority | None = None
    due_date: Annotated[Day | None, Field(description="null: none")] = None
    version: Version | None = None


TASKS = VersionedTable("task", Task, "tasks")


async def create(conn: Connection, body: NewTask, *, by: User) -> Task:
    """Creates the task. A request with the same id and the same body returns the same task.

    Raises Invalid for an unknown customer, pillar or assignee, and Conflict for an id that another task has.
    """
    if (before := await TASKS.created_before(conn, body)) is not None:
        return before
    pillar_id = await _find_pillar(conn, body.customer_id, body.pillar_id)
    await _check_assignee(conn, body.assignee_id)
    row = await conn.value(
        f"""
        INSERT INTO tasks AS t (id, title, description, status, customer_id, pillar_id, assignee_id, priority,
                                due_date, source, created_from, created_by)
        VALUES (%(id)s, %(title)s, %(description)s, %(status)s, %(customer_id)s, %(pillar_id)s, %(assignee_id)s,
                %(priority)s, %(due_date)s, %(source)s, %(fingerprint)s, %(by)s)
        ON CONFLICT (id) DO NOTHING
        RETURNING {json_object(Task, "t")}::text
        """,
        body.model_dump() | {"id": body.id or uuid4(), "pillar_id": pillar_id, "fingerprint": body.fingerprint(), "by": by.id},
    )
    if row is not None:
        return Task.from_json(row)
    before = await TASKS.created_before(conn, body)  # a concurrent request created it
    assert before is not None, "rows are never removed"
    return before


async def change(conn: Connection, task_id: UUID, patch: TaskChange, *, by: User) -> Task:
    """Writes the fields that were sent. If the task moves, an actor moves its entries that are not on approved bills.

    Raises NotFound for an unknown task, Conflict for a stale version, Invalid for an unknown customer, pillar or assignee.
    """
    task = await _lock(conn, task_id, patch)
    values = sent_values(patch, nullable=("pillar_id", "assignee_id", "due_date"))
    if patch.customer_id not in (None, task.customer_id) or "pillar_id" in values:
        values["customer_id"] = patch.customer_id or task.customer_id
        values["pillar_id"] = await _find_pillar(conn, values["customer_id"], patch.pillar_id, current=task)
    await _check_assignee(conn, values.get("assignee_id"))
    changed = await TASKS.update(conn, task_id, values)
    if (changed.customer_id, changed.pillar_id) != (task.customer_id, task.pillar_id):
        await _record_move(conn, changed, left=task.customer_id)
        await outbox.enqueue(conn, MoveEntries(task_id=task_id), created_by=by.id)
    return changed


async def _lock(conn: Connection, task_id: UUID, patch: TaskChange) -> Task:
    """Locks the task and returns it. If the patch may move it, its future customer is locked first: a deletion of a customer
    takes the locks in this order."""
    customer_id = None
    if patch.customer_id is not None or "pillar_id" in patch.model_fields_set:
        present = await conn.value("SELECT customer_id FROM tasks WHERE id = %s AND deleted_at IS NULL", (task_id,))
        if present is not None:
            customer_id = patch.customer_id or present
            await customers.lock_shared(conn, customer_id)
    task = await TASKS.lock(conn, task_id, patch.version)
    if customer_id is not None and patch.customer_id is None and task.customer_id != customer_id:
        # a concurrent request has moved the task, and the wrong customer is locked
        raise Conflict("The task has changed since you read it.", current=task.model_dump(mode="json"))
    return task


async def _record_move(conn: Connection, task: Task, *, left: UUID) -> None:
    """Records that the task has left a customer, so that clients of its users see it as deleted. Removes an earlier record for
    the task's present customer."""
    await conn.execute("DELETE FROM task_moves WHERE task_id = %s AND customer_id = %s", (task.id, task.customer_id))
    if left != task.customer_id:
        await conn.execute(
            """
            INSERT INTO task_moves (task_id, customer_id) VALUES (%s, %s)
            ON CONFLICT (task_id, customer_id) DO UPDATE SET updated_at = excluded.updated_at
            """,
            (task.id, left),
        )


@dataclass(frozen=True)
class LockedTask:
    """What decides whether a locked task takes new hours, and on which bills they are."""

    customer_id: UUID
    pillar_id: UUID
    status: Status
    customer_is_active: bool

    def refuse_new_hours(self) -> None:
        """Raises Conflict if no timer may start on the task, and no hours may be recorded on it by hand."""
        refuse_new_hours(self.status, customer_is_active=self.customer_is_active)


def refuse_new_hours(status: Status, *, customer_is_active: bool) -> None:
    """Raises Conflict if the task, or its customer, takes no new hours.

    Not new are hours that exist, a timer that runs, and the stop of a timer that ran while its client was offline.
    """
    if status == "archived":
        raise Conflict("This task is archived; set its status to open to work on it again.")
    if not customer_is_active:
        raise Conflict("The customer of this task is inactive and takes no new hours; make it active to work for it again.")


async def lock_for_hours(conn: Connection, task_id: UUID) -> LockedTask | None:
    """Locks the task FOR SHARE and returns it. None: there is no such task.

    A concurrent deletion of the task waits, and then finds the timer. A concurrent move waits, and then moves the entry.
    """
    return await conn.maybe(
        """
        SELECT customer_id, pillar_id, status,
               (SELECT c.active FROM customers c WHERE c.id = t.customer_id) AS customer_is_active
        FROM tasks t WHERE id = %s AND deleted_at IS NULL FOR SHARE
        """,
        (task_id,),
        row=LockedTask,
    )


async def _check_assignee(conn: Connection, assignee_id: UUID | None) -> None:
    if assignee_id is not None and not await is_consultant(conn, assignee_id):
        raise Invalid("assigneeId", "No consultant has this id; GET /api/tasks/internal-users lists them.")


async def _find_pillar(conn: Connection, customer_id: UUID, pillar_id: UUID | None, *, current: Task | None = None) -> UUID:
    """The id of the pillar for a task. Without `pillar_id` it is the customer's default pillar.

    Locks the customer, so that the pillar stays as it is. Raises Invalid for an unknown customer or pillar. Raises it also for
    an inactive one, unless the task is there already (`current`).
    """
    if not await customers.lock_shared(conn, customer_id):
        raise Invalid("customerId", "There is no such customer; GET /api/customers lists them.")
    if (current is None or current.customer_id != customer_id) and not await customers.is_active(conn, customer_id):
        raise Invalid("customerId", "This customer is inactive and takes no new tasks; choose another one, or make it active.")
    # a statement of its own: the one that waited for the lock would see the pillars as they were before
    found = await conn.maybe(
        """
        SELECT id, active FROM pillars WHERE customer_id = %(customer)s AND deleted_at IS NULL
            AND CASE WHEN %(pillar)s::uuid IS NULL THEN is_default ELSE id = %(pillar)s END
        """,
        {"customer": customer_id, "pillar": pillar_id},
    )
    if found is None:
        raise Invalid("pillarId", "The customer has no such pillar; leave it out for General Support.")
    found_id: UUID = found[0]
    is_active: bool = found[1]
    if not is_active and (current is None or found_id != current.pillar_id):
        raise Invalid("pillarId", "This pillar is inactive and takes no new tasks; choose another one, or leave it out.")
    return found_id


@dataclass(frozen=True)
class TaskFilter:
    """The filters of a list of tasks. `customer` is an id or an exact name in any case."""

    assignee_id: UUID | None = None
    customer: str | None = None
    status: Status | None = None


def _visible_to(user: User) -> Selection:
    selection = Selection("task", Task, "tasks", "t", Order("created_at", "timestamptz"))
    selection.where("t.deleted_at IS NULL")
    if not user.is_internal:
        selection.where("t.customer_id = %(own_customer)s", own_customer=user.customer_id)
        # also tasks that have moved away from this customer since then: its users get tombstones of these
        selection.visible_changes = lambda since: (
            f"""(t.customer_id = %(own_customer)s OR EXISTS (
            SELECT FROM task_moves m WHERE m.task_id = t.id AND m.customer_id = %(own_customer)s AND {since.condition("m")}))"""
        )
    return selection


async def get(conn: Connection, task_id: UUID, *, user: User) -> bytes:
    """The task as JSON. Raises NotFound if there is none that this user may see."""
    return await _visible_to(user).one(conn, task_id)


async def list_page(conn: Connection, page: Page, filters: TaskFilter, *, user: User) -> bytes:
    """The tasks this user may see, newest first; or those that changed since the page's `since`."""
    selection = _visible_to(user)
    if filters.assignee_id is not None:
        selection.where("t.assignee_id = %(assignee)s", assignee=filters.assignee_id)
    if filters.customer is not None:
        await filter_by_customer(conn, selection, filters.customer)
    if filters.status is not None:
        selection.where("t.status = %(status)s", status=filters.status)
    return await selection.page(conn, page)


async def move_tasks(conn: Connection, task_ids: Collection[UUID], *, to: UUID, by: UUID) -> None:
    """Moves locked tasks to another pillar of their customer, and enqueues the move of their entries, if they have any."""
    ids = list(task_ids)
    await conn.execute("UPDATE tasks SET pillar_id = %s, version = version + 1 WHERE id = ANY(%s)", (to, ids))
    with_entries = await conn.values(
        "SELECT DISTINCT task_id FROM time_entries WHERE task_id = ANY(%s) AND deleted_at IS NULL ORDER BY 1", (ids,)
    )
    for task_id in with_entries:
        await outbox.enqueue(conn, MoveEntries(task_id=task_id), created_by=by)

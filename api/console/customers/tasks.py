"""The tasks of a customer: the list, creating, changing and archiving."""

from typing import Annotated, Any
from uuid import UUID, uuid4

from litestar import Response, get, post
from litestar.params import FromPath
from pydantic import Field
from pydantic.alias_generators import to_camel

from api.auth.auth import require_internal
from api.console.customers.shared import BASE, FormVersion, customer_path, pillar_choices, read_customer, read_pillars
from api.console.forms import Form, FormModel, read_form, read_query
from api.console.gone import gone_if_missing
from api.console.pages import page, redirect
from api.console.words import NO_ACCESS
from api.dependencies import ApiRequest
from api.http.responses import Listed
from schemas.base import Day, Name, Text
from schemas.customers import tasks
from schemas.customers.tasks import NewTask, Priority, Status, Task, TaskChange, TaskFilter
from schemas.errors import Conflict, NotFound
from schemas.hours.weeks import own
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page

PATH = f"{BASE}/{{customer_id:str}}/tasks"
PAGE_SIZE = 100
STATUSES = [("open", "Open"), ("in_progress", "In progress"), ("done", "Done"), ("archived", "Archived")]
PRIORITIES = [("urgent", "Urgent"), ("high", "High"), ("normal", "Normal"), ("low", "Low")]
SENT_BEFORE = "This form was sent before, and the task was created then. To create another one, send it again."


class TasksFilter(FormModel):
    """The filters of the list."""

    status: Status | None = None
    cursor: Annotated[str, Field(max_length=1_000)] | None = None


class NewTaskForm(FormModel):
    """A task to create. `id`: of the task, so that a form that is sent twice creates one."""

    UNSEEN = frozenset({"id"})

    id: UUID
    title: Name
    pillar_id: UUID | None = None
    assignee_id: UUID | None = None
    priority: Priority = "normal"


class TaskForm(FormModel):
    """What a task becomes."""

    UNSEEN = frozenset({"version"})

    title: Name
    description: Text = ""
    status: Status
    pillar_id: UUID
    assignee_id: UUID | None = None
    priority: Priority
    due_date: Day | None = None
    version: FormVersion


class StatusForm(FormModel):
    """A button that sets the status."""

    UNSEEN = frozenset({"status", "version"})

    status: Status
    version: FormVersion


@get(PATH, guards=[require_internal])
async def show_tasks(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """The tasks, newest first, and the form of a new one."""
    return await _tasks_page(request, customer_id, Form())


@post(PATH, guards=[require_internal], status_code=303)
async def create_task(request: ApiRequest, customer_id: FromPath[UUID]) -> Response[bytes]:
    """Creates a task."""
    form = await read_form(request, NewTaskForm)
    if form.value is not None:
        sent = form.value
        body = NewTask.model_validate(_body(sent) | {"customerId": customer_id, "source": "web"})
        with form.catching():
            try:
                async with request.database.transaction() as conn:
                    made = await tasks.create(conn, body, by=request.user)
            except Conflict:
                form.typed["id"] = [str(uuid4())]
                raise Conflict(SENT_BEFORE) from None
            return redirect(customer_path(customer_id, "/tasks"), f"Created the task {made.title}.")
    return await _tasks_page(request, customer_id, form, status=422)


@get(f"{PATH}/{{task_id:str}}", guards=[require_internal])
async def show_task(request: ApiRequest, customer_id: FromPath[UUID], task_id: FromPath[UUID]) -> Response[bytes]:
    """The form of one task."""
    return await _task_page(request, customer_id, task_id, Form())


@post(f"{PATH}/{{task_id:str}}", guards=[require_internal], status_code=303)
async def change_task(request: ApiRequest, customer_id: FromPath[UUID], task_id: FromPath[UUID]) -> Response[bytes]:
    """Writes the task, unless it has changed since it was shown."""
    form = await read_form(request, TaskForm)
    if form.value is not None:
        change = TaskChange.model_validate(_body(form.value))
        with form.catching():
            async with request.database.transaction() as conn:
                await _read_task(conn, request, customer_id, task_id)
                changed = await tasks.change(conn, task_id, change, by=request.user)
            return redirect(customer_path(customer_id, "/tasks"), f"Saved the task {changed.title}.")
    return await _task_page(request, customer_id, task_id, form, status=422)


@post(f"{PATH}/{{task_id:str}}/status", guards=[require_internal], status_code=303)
async def set_status(request: ApiRequest, customer_id: FromPath[UUID], task_id: FromPath[UUID]) -> Response[bytes]:
    """Sets the status, unless the task has changed since it was shown: then the page of the task shows what is there now."""
    form = await read_form(request, StatusForm)
    if form.value is not None:
        change = TaskChange(status=form.value.status, version=form.value.version)
        with form.catching():
            async with request.database.transaction() as conn:
                await _read_task(conn, request, customer_id, task_id)
                changed = await tasks.change(conn, task_id, change, by=request.user)
            done = "Archived" if changed.status == "archived" else "Opened"
            return redirect(customer_path(customer_id, "/tasks"), f"{done} the task {changed.title}.")
    return await _task_page(request, customer_id, task_id, form, status=422)


def _body(form: FormModel) -> dict[str, Any]:
    """The fields of the form with the names of the API."""
    return {to_camel(name): value for name, value in form.model_dump().items()}


async def _read_task(conn: Connection, request: ApiRequest, customer_id: UUID, task_id: UUID) -> Task:
    """The task. Raises NotFound if it is not, or no longer, one of this customer."""
    task = Task.from_json(await tasks.get(conn, task_id, user=request.user))
    if task.customer_id != customer_id:
        raise NotFound("This customer has no such task; it may have moved to another one.")
    return task


async def _tasks_page(request: ApiRequest, customer_id: UUID, form: Form[NewTaskForm], *, status: int = 200) -> Response[bytes]:
    filters = read_query(request, TasksFilter)
    chosen = filters.value or TasksFilter()
    only = TaskFilter(customer=str(customer_id), status=chosen.status)
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user, form)
        pillars = await read_pillars(conn, customer_id, request.user)
        answer = await tasks.list_page(conn, Page(PAGE_SIZE, chosen.cursor), only, user=request.user)
        people = await own.list_people(conn)
    listed = Listed[Task].model_validate_json(answer)
    values: dict[str, Any] = {"customer": customer, "pillars": pillars, "pillar_choices": pillar_choices(pillars)}
    values |= {"tasks": listed.items, "next_cursor": listed.next_cursor, "statuses": STATUSES, "new_id": uuid4()}
    values |= {"people": people, "priorities": PRIORITIES, "no_access": NO_ACCESS}
    status = 422 if filters.is_wrong else status
    return page(request, "customers/tasks.html", status=status, form=form, filters=filters, chosen=chosen, **values)


async def _task_page(
    request: ApiRequest, customer_id: UUID, task_id: UUID, form: Form[Any], *, status: int = 200
) -> Response[bytes]:
    async with request.database.connection() as conn:
        customer = await read_customer(conn, customer_id, request.user, form)
        with gone_if_missing("task", customer_path(customer_id, "/tasks"), "the tasks", form):
            task = await _read_task(conn, request, customer_id, task_id)
        pillars = await read_pillars(conn, customer_id, request.user)
        people = await own.list_people(conn)
    if task.assignee_id is not None and all(user_id != task.assignee_id for user_id, _ in people):
        people.append((task.assignee_id, NO_ACCESS))
    if form.current is not None:
        names = {str(user_id): name for user_id, name in people}
        form.current["status"] = dict(STATUSES)[form.current["status"]]
        form.current["priority"] = dict(PRIORITIES)[form.current["priority"]]
        form.current["assignee"] = names.get(form.current["assigneeId"], NO_ACCESS) if form.current["assigneeId"] else ""
    values: dict[str, Any] = {"customer": customer, "task": task, "statuses": STATUSES}
    values |= {"people": people, "priorities": PRIORITIES}
    values["pillar_choices"] = pillar_choices(pillars, task.pillar_id)
    return page(request, "customers/task.html", status=status, form=form, **values)

"""Tasks."""

from typing import Annotated
from uuid import UUID

from litestar import Response, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from api.answers import Changed, Cursor, CustomerId, CustomerName, LastSync, Limit, Listed, customer_filter, json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheIdentity, TheSettings, TheUser
from schemas import tasks, users
from schemas.listing import Page
from schemas.settings import listed
from schemas.tasks import NewTask, Status, Task, TaskChange, TaskFilter
from schemas.users import InternalUser


@get("/api/tasks", summary="List tasks")
async def list_tasks(
    database: TheDatabase,
    user: TheUser,
    assignee: Annotated[UUID | None, QueryParameter(name="userId", description="Only tasks assigned to this user")] = None,
    customer: CustomerName = None,
    customer_id: CustomerId = None,
    task_status: Annotated[Status | None, QueryParameter(name="status", description="Only tasks in this state")] = None,
    since: LastSync = None,
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> Response[Changed[Task]]:
    """Tasks, newest first. A customer's users see their own customer's. With `lastSyncTimestamp` instead those that changed
    since, in that order; one that is deleted, or no longer meets the filters, as `{"id", "deleted": true}`."""
    chosen = TaskFilter(assignee_id=assignee, customer=customer_filter(customer, customer_id), status=task_status)
    async with database.connection() as conn:
        return json_answer(await tasks.list_page(conn, Page(limit, page_cursor, since), chosen, user=user))


@post("/api/tasks", summary="Create a task", guards=[internal])
async def create_task(database: TheDatabase, user: TheUser, data: JSONBody[NewTask]) -> Task:
    """Creates a task, on the customer's "General Support" unless a pillar is named. With an `id` of your own, repeating the
    request gives the same answer."""
    async with database.transaction() as conn:
        return await tasks.create(conn, data, by=user)


@get("/api/tasks/internal-users", summary="List the firm's own people", guards=[internal])
async def list_internal_users(
    database: TheDatabase, identity: TheIdentity, settings: TheSettings, limit: Limit = 200, page_cursor: Cursor = None
) -> Response[Listed[InternalUser]]:
    """The firm's own people, who can be assigned tasks; without those whose access was removed. A user pool (IDENTITY=cognito)
    is asked at most once a minute; 503 while it does not answer."""
    legacy = settings.legacy_unset_role == "on" and bool(listed(settings.internal_client_ids))
    subjects = await identity.internal_people()
    among = None if subjects is None else [subject.id for subject in subjects]
    async with database.connection() as conn:
        if subjects is not None:
            await users.remember_internal(conn, subjects)
        return json_answer(await users.internal_page(conn, Page(limit, page_cursor), legacy=legacy, among=among))


@get("/api/tasks/{task_id:uuid}", summary="Read a task")
async def get_task(database: TheDatabase, user: TheUser, task_id: FromPath[UUID]) -> Response[Task]:
    """One task."""
    async with database.connection() as conn:
        return json_answer(await tasks.get(conn, task_id, user=user))


@put("/api/tasks/{task_id:uuid}", summary="Update a task", guards=[internal])
async def change_task(database: TheDatabase, user: TheUser, task_id: FromPath[UUID], data: JSONBody[TaskChange]) -> Task:
    """Writes the fields that are sent. A task that moves to another customer or pillar takes its time entries along, but for
    those on approved bills; their bills follow right after. A stale `version` is 409 with `current`."""
    async with database.transaction() as conn:
        return await tasks.change(conn, task_id, data, by=user)

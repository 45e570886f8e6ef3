"""Routes for tasks."""

from typing import Annotated
from uuid import UUID

from litestar import Response, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter

from api.auth.auth import require_internal
from api.dependencies import ApiRequest, ThePage
from api.http.responses import (
    USER_ID_SCHEMA,
    Changed,
    Cursor,
    CustomerId,
    CustomerName,
    LastSync,
    Limit,
    Listed,
    ListQuery,
    created,
    customer_filter,
    json_response,
    user_filter,
)
from schemas.customers import tasks
from schemas.customers.tasks import NewTask, Status, Task, TaskChange, TaskFilter
from schemas.identity import users
from schemas.identity.users import InternalUser
from schemas.postgres.listing import Page


def get_list_query(
    assignee: Annotated[
        str | None,
        QueryParameter(
            name="userId", description="Only tasks assigned to this user; `me`: to you", schema_extra=USER_ID_SCHEMA
        ),
    ] = None,
    customer: CustomerName = None,
    customer_id: CustomerId = None,
    task_status: Annotated[Status | None, QueryParameter(name="status", description="Only tasks with this status")] = None,
    since: LastSync = None,
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> ListQuery[TaskFilter]:
    """The query of the list."""
    filters = TaskFilter(assignee_id=user_filter(assignee), customer=customer_filter(customer, customer_id), status=task_status)
    return ListQuery(filters, Page(limit, page_cursor, since))


@get("/api/tasks", summary="List tasks", dependencies={"list_query": Provide(get_list_query, sync_to_thread=False)})
async def list_tasks(request: ApiRequest, list_query: NamedDependency[ListQuery[TaskFilter]]) -> Response[Changed[Task]]:
    """Tasks, newest first. A customer's users see only those of their own customer.

    With `lastSyncTimestamp`: the tasks that have changed since, in the order of the changes. A task that was deleted, or does
    not match the filters any more, is `{"id", "deleted": true}`."""
    async with request.database.connection() as conn:
        return json_response(await tasks.list_page(conn, list_query.page, list_query.filters, user=request.user))


@post("/api/tasks", summary="Create a task", guards=[require_internal])
async def create_task(request: ApiRequest, data: JSONBody[NewTask]) -> Response[Task]:
    """Creates a task, on the customer's "General Support" unless you name a pillar. If you choose the `id`, repeating the
    request gives the same answer."""
    async with request.database.transaction() as conn:
        task = await tasks.create(conn, data, by=request.user)
    return created(task, f"/api/tasks/{task.id}")


@get("/api/tasks/internal-users", summary="List the firm's own people", guards=[require_internal])
async def list_internal_users(request: ApiRequest, page: ThePage) -> Response[Listed[InternalUser]]:
    """The firm's own people, who can be assigned tasks, without those whose access was revoked. A user pool (IDENTITY=cognito)
    is read at most once a minute. 503 while it does not answer."""
    listed = await request.identity_provider.list_internal_users()
    user_ids = None if listed is None else [account.id for account in listed.accounts]
    async with request.database.connection() as conn:
        if listed is not None:
            await users.save_internal_users(conn, listed)
        found = await users.list_internal_page(
            conn, page, include_legacy_admins=bool(request.settings.legacy_client_ids), user_ids=user_ids
        )
        return json_response(found)


@get("/api/tasks/{task_id:str}", summary="Read a task")
async def get_task(request: ApiRequest, task_id: FromPath[UUID]) -> Response[Task]:
    """One task."""
    async with request.database.connection() as conn:
        return json_response(await tasks.get(conn, task_id, user=request.user))


@put("/api/tasks/{task_id:str}", summary="Update a task", guards=[require_internal])
async def change_task(request: ApiRequest, task_id: FromPath[UUID], data: JSONBody[TaskChange]) -> Task:
    """Writes the fields that you send. If the task moves to another customer or pillar, its time entries move, too, except
    those on approved bills. The bills of these entries are updated shortly after. A stale `version` is 409 with `current`."""
    async with request.database.transaction() as conn:
        return await tasks.change(conn, task_id, data, by=request.user)

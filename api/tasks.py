"""Tasks."""

from typing import Annotated
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from api.answers import Cursor, Limit, Listed, json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheUser
from schemas import tasks
from schemas.listing import Page
from schemas.tasks import NewTask, Task


@get("/api/tasks", summary="List tasks")
async def list_tasks(
    database: TheDatabase,
    user: TheUser,
    assignee: Annotated[UUID | None, QueryParameter(name="userId", description="Only tasks assigned to this user")] = None,
    limit: Limit = 200,
    page_cursor: Cursor = None,
) -> Response[Listed[Task]]:
    """Tasks, newest first. A customer's users see their own customer's."""
    async with database.connection() as conn:
        return json_answer(await tasks.list_page(conn, Page(limit, page_cursor), user=user, assignee_id=assignee))


@post("/api/tasks", summary="Create a task", guards=[internal])
async def create_task(database: TheDatabase, user: TheUser, data: JSONBody[NewTask]) -> Task:
    """Creates a task, on the customer's "General Support" unless a pillar is named. With an `id` of your own, repeating the
    request gives the same answer."""
    async with database.transaction() as conn:
        return await tasks.create(conn, data, by=user)


@get("/api/tasks/{task_id:uuid}", summary="Read a task")
async def get_task(database: TheDatabase, user: TheUser, task_id: FromPath[UUID]) -> Response[Task]:
    """One task."""
    async with database.connection() as conn:
        return json_answer(await tasks.get(conn, task_id, user=user))

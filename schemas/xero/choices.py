"""Calls to Xero within an HTTP request: the projects and tasks to choose from, checking a choice, disconnecting.

All calls of one request together have three seconds; after that, and when Xero fails, the caller gets `Unavailable`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from schemas.base import Row
from schemas.customers.xero_mapping import Mapping
from schemas.errors import Conflict, FieldProblem, Invalid, NotFound, Unavailable
from schemas.postgres.connection import Connection
from schemas.postgres.pool import Database
from schemas.settings import Settings
from schemas.xero import connection, oauth, rate_limits
from schemas.xero import tokens as xero_tokens
from schemas.xero.access import check, loss
from schemas.xero.client import XeroClient
from schemas.xero.client_errors import RateLimited, Refused, Unauthorized, XeroError
from schemas.xero.entries.entry import PAGE_SIZE
from schemas.xero.rate_limits import NoSlot
from schemas.xero.tokens import Access

DEADLINE_SECONDS = 3
MAX_PAGES = 4
NOT_CONNECTED_ANY_MORE = "Somebody else has disconnected Xero since this was shown. Nothing was changed."
CONNECTED_AGAIN = (
    "Somebody else has connected Xero again since this was shown. Nothing was changed; look at the organisation that is"
    " connected now."
)
UNAVAILABLE = "Xero is not available right now; nothing was changed. Try again in a moment."


class XeroProject(Row):
    """A project in Xero that is in progress; its id is a customer's `xeroProjectId`."""

    id: str
    name: str
    status: Annotated[str, Field(description="`INPROGRESS`, or a text that Xero has added since")]


class XeroRate(Row):
    """The price of an hour."""

    currency: str
    value: Annotated[str, Field(description="a decimal number", examples=["120.00"])]


class XeroTask(Row):
    """A task of a project in Xero; its id is a pillar's `xeroTaskId`."""

    id: str
    name: str
    rate: XeroRate | None
    status: Annotated[str, Field(description="`ACTIVE`, `INVOICED` or `LOCKED`, or a text that Xero has added since")]
    charge_type: Annotated[
        str | None,
        Field(description="`TIME`, `FIXED` or `NON_CHARGEABLE`, or a text that Xero has added since; FIXED takes no time"),
    ]


class XeroProjects(Row):
    """The projects to choose from."""

    items: list[XeroProject]


class XeroTasks(Row):
    """The tasks to choose from."""

    items: list[XeroTask]


async def list_projects(database: Database, settings: Settings) -> XeroProjects:
    """The projects to choose from. Raises Conflict when Xero is not connected, Unavailable."""
    try:
        projects = await _fetch_all_pages(database, settings, lambda xero, page: xero.list_projects(page))
    except Refused:
        raise Unavailable(UNAVAILABLE) from None
    items = [
        XeroProject(id=str(project["projectId"]), name=_text(project.get("name")), status=_text(project.get("status")))
        for project in projects
        if project.get("projectId")
    ]
    await _keep_names(database, {project.id: project.name for project in items})
    return XeroProjects(items=items)


async def list_tasks(database: Database, settings: Settings, project_id: str) -> XeroTasks:
    """The project's tasks. Raises NotFound when Xero has no such project, Conflict when it is not connected, Unavailable."""
    try:
        tasks = await _fetch_all_pages(database, settings, lambda xero, page: xero.list_tasks(project_id, page))
    except Refused:
        raise NotFound("Xero has no such project.") from None
    items = [
        XeroTask(
            id=str(task["taskId"]),
            name=_text(task.get("name")),
            rate=_rate(task.get("rate")),
            status=_text(task.get("status")),
            charge_type=_text(task.get("chargeType")) or None,
        )
        for task in tasks
        if task.get("taskId")
    ]
    await _keep_names(database, {task.id: task.name for task in items})
    return XeroTasks(items=items)


async def names_of(conn: Connection, ids: Collection[str | None]) -> dict[str, str]:
    """The names of these projects and tasks as they were last read, without those that are not known."""
    found = await conn.all("SELECT id, name FROM xero_names WHERE id = ANY(%s)", ([found for found in ids if found],))
    return dict(found)


async def _keep_names(database: Database, names: dict[str, str]) -> None:
    """Stores names by id, for pages that show a mapping while Xero does not answer."""
    kept = {xero_id: name.replace("\0", "") for xero_id, name in names.items() if name and "\0" not in xero_id}
    async with database.transaction() as conn:
        await conn.execute(
            """
            INSERT INTO xero_names AS n (id, name)
            SELECT id, name FROM unnest(%s::text[], %s::text[]) AS found (id, name) ORDER BY id
            ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE n.name <> excluded.name
            """,
            (list(kept), list(kept.values())),
        )


async def check_mapping(database: Database, settings: Settings, mapping: Mapping) -> list[str]:
    """Checks a mapping before it is written. Returns warnings: Xero could not be asked, or a pillar keeps a task that the new
    project does not have. Raises Invalid with the reason when bills could not be sent under this mapping."""
    if not mapping.is_new_project and not mapping.new_tasks:
        return []
    if mapping.project_id is None:
        return ["The customer has no project in Xero yet, so the task was not checked there."]
    tasks: dict[str, XeroTask] = {}
    try:
        async with _request_deadline():
            if mapping.is_new_project:
                await _check_project(database, settings, mapping.project_id)
            if mapping.new_tasks or mapping.kept_tasks:
                tasks = {task.id: task for task in (await list_tasks(database, settings, mapping.project_id)).items}
    except NotFound:
        field = "xeroProjectId" if mapping.is_new_project else next(iter(mapping.new_tasks))
        message = f"Xero has no project {mapping.project_id} in the connected organisation; GET /api/xero/projects lists them."
        raise Invalid(field, message) from None
    except Conflict:
        return ["Xero is not connected, so the mapping was not checked there."]
    except Unavailable:
        return ["Xero could not be asked, so the mapping was not checked there."]
    problems = {path: _problem(tasks.get(task_id), task_id) for path, task_id in mapping.new_tasks.items()}
    if errors := [FieldProblem(path=path, message=text) for path, text in problems.items() if text]:
        raise Invalid.because(errors)
    kept = {name: _problem(tasks.get(task_id), task_id) for name, task_id in mapping.kept_tasks.items()}
    return [f"The pillar {name} keeps its task: {text}" for name, text in kept.items() if text]


async def _check_project(database: Database, settings: Settings, project_id: str) -> None:
    try:
        [project] = await _fetch_all_pages(database, settings, lambda xero, _: _as_list(xero.get_project(project_id)))
    except Refused:
        raise NotFound(project_id) from None
    if project.get("status") != "INPROGRESS":
        status = _text(project.get("status"))
        raise Invalid("xeroProjectId", f"The project {_text(project.get('name'))} is {status} in Xero, so it takes no time.")


def _problem(task: XeroTask | None, task_id: str) -> str | None:
    """Why bills cannot be sent for this task of the project."""
    if task is None:
        return f"the project in Xero has no task {task_id}; choose one of GET /api/xero/projects/{{id}}/tasks."
    if task.charge_type == "FIXED":
        return f"the task {task.name} has a fixed price in Xero, so it takes no time."
    return None if task.status == "ACTIVE" else f"the task {task.name} is {task.status} in Xero, so it takes no time."


async def disconnect(conn: Connection, settings: Settings, *, shown: datetime | None = None) -> None:
    """Revokes the tokens at Xero, then deletes them, in one transaction; no call starts meanwhile. If Xero does not answer,
    Stint stays connected: access that still exists must not look revoked. `shown`: since when the connection exists that a
    person was shown. Raises Unavailable, and Conflict when Xero does not accept this app's credentials, or if there is no such
    connection any more."""
    refresh_token = await xero_tokens.lock_refresh_token(conn, settings)
    if shown is not None and await connection.connected_at(conn) != shown:
        raise Conflict(NOT_CONNECTED_ANY_MORE if refresh_token is None else CONNECTED_AGAIN)
    if refresh_token is None:
        return
    async with _request_deadline():
        try:
            await oauth.revoke(settings, refresh_token, seconds=DEADLINE_SECONDS)
        except Refused as error:
            if str(error) in ("invalid_client", "unauthorized_client"):
                raise Conflict(connection.UNKNOWN_APP) from None
            if str(error) != "invalid_grant":  # else Xero does not know the token: there is nothing to revoke
                raise Unavailable(UNAVAILABLE, seconds=5) from None
    await connection.clear(conn)


@asynccontextmanager
async def _request_deadline() -> AsyncIterator[None]:
    """Limits the block to three seconds. Raises Unavailable for a timeout and for all errors of Xero but Refused, which only
    the caller can interpret."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    except RateLimited as error:
        raise Unavailable("Xero's rate limit is reached; try again later.", seconds=int(error.seconds) + 1) from None
    except (XeroError, TimeoutError) as error:
        if isinstance(error, Refused) and not isinstance(error, Unauthorized):
            raise
        raise Unavailable(UNAVAILABLE, seconds=5) from None


async def _fetch_all_pages(
    database: Database, settings: Settings, fetch: Callable[[XeroClient, int], Awaitable[list[Any]]]
) -> list[Any]:
    found: list[Any] = []
    async with _request_deadline():
        for page in range(1, MAX_PAGES + 1):
            call = _call_xero(database, settings, lambda xero, page=page: fetch(xero, page))  # type: ignore[misc]
            items = await database.to_its_end(call)  # the deadline must not keep its slot, nor lose renewed tokens
            found += items
            if len(items) < PAGE_SIZE:
                break
    return found


async def _as_list(item: Awaitable[Any]) -> list[Any]:
    return [await item]


async def _call_xero(database: Database, settings: Settings, fetch: Callable[[XeroClient], Awaitable[list[Any]]]) -> list[Any]:
    """One call, counted by the rate limits. It skips the queue of waiting bills, because a person waits for the answer."""
    access, token, slot = await _access_with_slot(database, settings)
    succeeded = False
    try:
        found = await fetch(XeroClient(settings, access_token=token, tenant_id=access.tenant_id, seconds=DEADLINE_SECONDS))
        succeeded = True
        return found
    except XeroError as error:
        async with database.transaction() as conn:
            await check.after_failure(conn, error, settings, token=token)
            if isinstance(error, RateLimited):
                await rate_limits.pause(conn, access.tenant_id, error)
        raise
    finally:
        async with database.transaction() as conn:
            await rate_limits.release(conn, slot, succeeded=succeeded)


async def _access_with_slot(database: Database, settings: Settings) -> tuple[Access, str, UUID]:
    """The organisation, a valid access token, which is renewed first if needed, and a slot for one call. Raises Conflict when
    Xero is not connected, RateLimited without a free slot."""
    async with database.connection() as conn:
        access = await xero_tokens.access(conn, settings)
        if access is not None and access.token is None:
            await xero_tokens.renew(conn, settings, seconds=DEADLINE_SECONDS)
            access = await xero_tokens.access(conn, settings)
        if access is None or access.token is None:
            raise Conflict(await loss.why_lost(conn) or connection.NOT_CONNECTED)
        async with conn.transaction():
            slot = await rate_limits.acquire(conn, access.tenant_id, settings, seconds=2 * DEADLINE_SECONDS, skip_queue=True)
    if isinstance(slot, NoSlot):
        raise RateLimited("no free slot", seconds=slot.seconds)
    return access, access.token, slot


def _text(value: Any) -> str:
    """The text that Xero sent, whatever it is: Xero adds values to its enumerations."""
    return "" if value is None else str(value)


def _rate(rate: Any) -> XeroRate | None:
    value = rate.get("value") if isinstance(rate, dict) else None
    if value is None:
        return None
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return XeroRate(currency=_text(rate.get("currency")), value=f"{value:.2f}" if is_number else _text(value))

"""Xero: connecting it, and what there is in it to map customers and pillars to."""

from typing import Annotated

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody, PathParameter

from api.answers import json_answer
from api.auth import admin, internal
from api.dependencies import TheDatabase, TheSettings, TheUser
from schemas import xero_asking, xero_connection
from schemas.xero_asking import XeroProjects, XeroTasks
from schemas.xero_connection import Callback, Consent, XeroStatus

CONFLICTS = {"also_answers": {409}}  # 409 while Xero is not set up, or not connected
ProjectId = Annotated[FromPath[str], PathParameter(max_length=100, description="as GET /api/xero/projects gives it")]


@get("/api/xero/auth-url", summary="Where to let Stint into Xero", guards=[admin], opt=CONFLICTS)
async def get_auth_url(database: TheDatabase, user: TheUser, settings: TheSettings) -> Consent:
    """The page at Xero on which an admin lets Stint in. Its `state` works once, within 10 minutes, for this user. 409 while no
    app is set up."""
    async with database.connection() as conn:
        return await xero_connection.begin(conn, by=user, settings=settings)


@post("/api/xero/connect", summary="Connect Xero", guards=[admin], status_code=200)
async def connect(
    database: TheDatabase, user: TheUser, settings: TheSettings, data: JSONBody[Callback]
) -> Response[XeroStatus]:
    """Exchanges the `code` that Xero gave for tokens, and connects the organisation: `tenantId`, or that which was chosen last.
    Approved bills that waited for it go there by themselves. 503 when Xero does not answer within 3 seconds: begin again."""
    xero_connection.check_set_up(settings)
    async with database.transaction() as conn:
        await xero_connection.use_up(conn, data.state, by=user)
    tokens, found = await xero_asking.sign_in(settings, data.code)
    async with database.transaction() as conn:
        chosen = xero_connection.choose(found, data.tenant_id)
        await xero_connection.connect(conn, tokens, chosen, by=user, settings=settings)
        return json_answer(await xero_connection.status(conn))


@get("/api/xero/status", summary="How Stint stands with Xero", guards=[internal])
async def get_status(database: TheDatabase) -> Response[XeroStatus]:
    """Whether Xero is connected, to what, and how many bills are on their way or failed."""
    async with database.connection() as conn:
        return json_answer(await xero_connection.status(conn))


@delete("/api/xero/disconnect", summary="Disconnect Xero", guards=[admin])
async def disconnect(database: TheDatabase, settings: TheSettings) -> None:
    """Revokes what Xero was given, then forgets it. Nothing is sent from then on; what is there stays. 503, and still
    connected, when Xero does not answer within 3 seconds."""
    async with database.transaction() as conn:
        await xero_asking.disconnect(conn, settings)


@get("/api/xero/projects", summary="List Xero's projects", guards=[internal], opt=CONFLICTS)
async def list_projects(database: TheDatabase, settings: TheSettings) -> XeroProjects:
    """The projects in Xero that go on, to choose a customer's `xeroProjectId` from. 409 while Xero is not connected, 503 when
    it does not answer within 3 seconds, or a limit of its is used up."""
    return await xero_asking.projects(database, settings)


@get("/api/xero/projects/{project_id:str}/tasks", summary="List the tasks of a Xero project", guards=[internal], opt=CONFLICTS)
async def list_tasks(database: TheDatabase, settings: TheSettings, project_id: ProjectId) -> XeroTasks:
    """Its tasks, to choose a pillar's `xeroTaskId` from. 404 when Xero has no such project."""
    return await xero_asking.tasks(database, settings, project_id)

"""Routes of Xero: connecting and disconnecting it, and the projects and tasks to which customers and pillars are mapped."""

import asyncio
import json
from datetime import date
from typing import Annotated, Literal
from urllib.parse import urlencode

from litestar import Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, PathParameter, QueryParameter

from api.auth.auth import require_admin, require_internal
from api.dependencies import ApiRequest, ThePage
from api.http.responses import json_response
from schemas.reports.days import days
from schemas.xero import choices, connection, sending
from schemas.xero.access import connecting, status
from schemas.xero.access.status import XeroStatus
from schemas.xero.choices import XeroProjects, XeroTasks
from schemas.xero.connection import Callback, Consent
from schemas.xero.differences import accepting
from schemas.xero.differences.accepting import AcceptAnswer, BillsToAccept
from schemas.xero.reconciliation import comparison
from schemas.xero.reconciliation.models import Reconciliation
from schemas.xero.reconciliation.table import as_csv
from schemas.xero.sending import BillsToSend, SendAnswer

NOT_SET_UP = {"also_answers": {409: connection.NOT_SET_UP}}
NOT_CONNECTED = {"also_answers": {409: connection.NOT_CONNECTED}}
ProjectId = Annotated[FromPath[str], PathParameter(max_length=100, description="an id from GET /api/xero/projects")]


@get("/api/xero/auth-url", summary="Get the page that gives Stint access to Xero", guards=[require_admin], opt=NOT_SET_UP)
async def get_auth_url(request: ApiRequest) -> Consent:
    """The page at Xero on which an admin gives Stint access. Its `state` works once, within 10 minutes, for this user. 409
    while XERO_CLIENT_ID and XERO_CLIENT_SECRET are not set."""
    async with request.database.connection() as conn:
        return await connection.start_consent(conn, by=request.user, settings=request.settings)


@post(
    "/api/xero/connect",
    summary="Connect Xero",
    guards=[require_admin],
    status_code=200,
    responses={202: ResponseSpec(XeroStatus, description="Xero has not answered yet", generate_examples=False)},
    opt=NOT_SET_UP,
)
async def connect(request: ApiRequest, data: JSONBody[Callback]) -> Response[XeroStatus]:
    """Exchanges the `code` for tokens, and connects the organisation: `tenantId`, or the one that was chosen last at Xero.
    Approved bills that waited for the connection are sent automatically.

    202 with `connecting: true`: Xero has not answered within 3 seconds. Stint continues for up to a minute. Then
    GET /api/xero/status has the outcome, `connected` or `connectError`."""
    is_done = await connect_organisation(request, data)
    async with request.database.connection() as conn:
        return json_response(await status.status(conn, request.settings), status=200 if is_done else 202)


@get("/api/xero/status", summary="Get the state of the connection to Xero", guards=[require_internal])
async def get_status(request: ApiRequest) -> Response[XeroStatus]:
    """The state of the connection to Xero:

    - whether Xero is connected, by whom, and to which organisation;
    - whether Xero gives access. If not: since when, why, and what to do;
    - Xero's limits, and how many bills have each status."""
    async with request.database.connection() as conn:
        return json_response(await status.status(conn, request.settings))


@delete(
    "/api/xero/disconnect",
    summary="Disconnect Xero",
    guards=[require_admin],
    opt={"also_answers": {409: connection.UNKNOWN_APP}},
)
async def disconnect(request: ApiRequest) -> None:
    """Revokes the tokens at Xero, then deletes them. Nothing is sent from then on. Entries that exist in Xero stay there.

    503 if Xero does not answer within 3 seconds: it is still connected then. 409 if Xero does not accept the app's
    credentials."""
    async with request.database.transaction() as conn:
        await choices.disconnect(conn, request.settings)


@post("/api/xero/time-bills/send", summary="Send failed bills again", guards=[require_admin], status_code=200)
async def send_time_bills(request: ApiRequest, data: JSONBody[BillsToSend]) -> SendAnswer:
    """Sends failed time bills to Xero again: up to 1,000 `ids`, or those that match a `filter`.

    Their dead letters are replayed. The history of each has the `reason` and your address. If somebody has changed or deleted
    the time entry of a bill in Xero (`differs`), it is written there as it is in Stint.

    Bills that do not need that, or are being sent already, are skipped with the reason. So the request can be repeated
    safely."""
    async with request.database.transaction() as conn:
        return await sending.send_selected(conn, data, by=request.user)


@post(
    "/api/xero/time-bills/accept",
    summary="Accept what differs in Xero",
    guards=[require_admin],
    status_code=200,
)
async def accept_time_bills(request: ApiRequest, data: JSONBody[BillsToAccept]) -> AcceptAnswer:
    """Accepts what somebody has changed in the time entries in Xero, for up to 1,000 `ids`, or the bills that match a `filter`.

    The bills become `synced`. `xero.accepted` says who has accepted which minutes, when and why. This ends when the entry is
    changed again, and when the bill is reopened or sent again.

    Bills that do not differ are skipped with the reason. So the request can be repeated safely."""
    async with request.database.transaction() as conn:
        return await accepting.accept_selected(conn, data, by=request.user)


@get("/api/xero/reconciliation", summary="Compare bills with Xero", guards=[require_internal])
async def get_reconciliation(
    request: ApiRequest,
    page: ThePage,
    start_date: Annotated[
        date | None, QueryParameter(name="startDate", description="First day, inclusive; without days the last year")
    ] = None,
    end_date: Annotated[
        date | None, QueryParameter(name="endDate", description="Last day, inclusive: 366 days in all at most, and by default")
    ] = None,
    answer_format: Annotated[
        Literal["json", "csv"], QueryParameter(name="format", description="`csv`: only the items, for a spreadsheet")
    ] = "json",
) -> Response[Reconciliation]:
    """Compares approved bills with time entries in Xero, latest day first: what agrees, differs, is missing or is too many, and
    why. It also has the totals, and when Stint last read each project in Xero.

    Xero is not called: it compares with what was read last. A page of CSV names the next page in the header `Link`."""
    async with request.database.connection() as conn:
        first, last = await days(conn, start_date, end_date, zone=request.settings.stint_timezone)
        compared = await comparison.compare(conn, first, last, page, request.settings)
    if answer_format == "json":
        return json_response(compared)
    content = json.loads(compared)
    headers = {"Content-Disposition": f'attachment; filename="xero-{first}-{last}.csv"'}
    if content["nextCursor"] is not None:
        query = urlencode(dict(request.query_params.items()) | {"cursor": content["nextCursor"]})
        headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return Response(as_csv(content["items"]).encode(), media_type="text/csv", headers=headers)  # type: ignore[arg-type]


@get("/api/xero/projects", summary="List Xero's projects", guards=[require_internal], opt=NOT_CONNECTED)
async def list_projects(request: ApiRequest) -> XeroProjects:
    """The projects in progress, to choose a customer's `xeroProjectId`. 409 while Xero is not connected. 503 if Xero does not
    answer within 3 seconds, and if its rate limit is reached."""
    return await choices.list_projects(request.database, request.settings)


@get(
    "/api/xero/projects/{project_id:str}/tasks",
    summary="List the tasks of a Xero project",
    guards=[require_internal],
    opt={"also_answers": {404: "Xero has no such project.", 409: connection.NOT_CONNECTED}},
)
async def list_tasks(request: ApiRequest, project_id: ProjectId) -> XeroTasks:
    """The project's tasks, to choose a pillar's `xeroTaskId`. 404 when Xero has no such project."""
    return await choices.list_tasks(request.database, request.settings, project_id)


async def connect_organisation(request: ApiRequest, callback: Callback) -> bool:
    """Connects the organisation. False: Xero has not answered within three seconds, and the attempt continues.

    Raises as `connecting.begin` does, and what `connecting.finish` returns.
    """
    connection.require_app_credentials(request.settings)
    async with request.database.transaction() as conn:
        attempt_id = await connecting.begin(conn, callback, by=request.user)
    try:
        async with asyncio.timeout(choices.DEADLINE_SECONDS):
            refusal = await request.database.to_its_end(
                connecting.finish(request.database, request.settings, callback, attempt_id, by=request.user)
            )
    except TimeoutError:
        return False
    if refusal is not None:
        raise refusal
    return True

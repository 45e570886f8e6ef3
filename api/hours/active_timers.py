"""The timers that run: all of them, and each by its user's id."""

from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, QueryParameter

from api.auth.auth import require_internal
from api.dependencies import ApiRequest, ThePage
from api.hours.timers import Wait, stop_response
from api.http.responses import Enrich, Listed, OfUser, SeenVersion, created, json_response, row_response, user_in_path
from schemas.errors import Forbidden
from schemas.hours import timer_stops, timers
from schemas.hours.timer_stops import Stop, Stopped, Timer, TimerStop
from schemas.hours.timers import EnrichedTimer, StartedTimer, TimerChange
from schemas.identity.users import User

SeenTimer = Annotated[
    UUID | None,
    QueryParameter(name="timerId", description="The `id` of the timer that is meant; another one that runs gets 409"),
]


@get("/api/active-timers", summary="List running timers", guards=[require_internal])
async def list_active_timers(
    request: ApiRequest, page: ThePage, enrich: Enrich = False
) -> Response[Listed[EnrichedTimer | Timer]]:
    """The timers of all consultants that run now, latest start first."""
    async with request.database.connection() as conn:
        return json_response(await timers.list_page(conn, page, enrich=enrich))


@get("/api/active-timers/{owner:str}", summary="Read a running timer", guards=[require_internal])
async def get_active_timer(request: ApiRequest, owner: OfUser) -> Response[Timer]:
    """The user's running timer; 404 when none is running."""
    owner_id = user_in_path(owner, "owner")
    async with request.database.connection() as conn:
        return json_response(await timers.get_active(conn, owner_id))


@put(
    "/api/active-timers/{owner:str}",
    summary="Start or change a timer",
    guards=[require_internal],
    status_code=200,
    responses={201: ResponseSpec(StartedTimer, description="The timer was started", generate_examples=False)},
)
async def put_active_timer(request: ApiRequest, owner: OfUser, data: JSONBody[TimerChange]) -> Response[StartedTimer]:
    """Starts a timer on the task. If a timer runs on it already, changes its start or its notes. It is your own timer; as an
    admin, any consultant's.

    A timer on another task is stopped, and returned in `stopped`. It ends at `startTime` if it started before that."""
    owner_id = _own(owner, request.user)
    async with request.database.transaction() as conn:
        timer, started = await timers.start_or_change(conn, owner_id, data, by=request.user)
    return created(timer, f"/api/active-timers/{owner_id}") if started else row_response(timer)


@post(
    "/api/active-timers/{owner:str}/stop",
    summary="Stop a running timer",
    guards=[require_internal],
    status_code=202,
    responses={200: ResponseSpec(Stopped, description="With `wait`: the entry is on its bill", generate_examples=False)},
)
async def stop_active_timer(
    request: ApiRequest, owner: OfUser, wait: Wait = None, data: JSONBody[TimerStop | None] = None
) -> Response[Stop]:
    """Stops your timer; as an admin, anybody's, also that of a user who has no access any more. It ends now, or at `endTime`.
    The answer is that of `POST /api/tasks/{id}/stop`. 404 if no timer runs.

    Send `timerId`, so that a repeated request does not stop a timer that was started in the meantime. It gets the answer to the
    first request, or 409 with the running timer as `current`. Without `timerId`, a request that is repeated within 10 minutes
    gets the answer to the first one only while no new timer runs."""
    owner_id = _own(owner, request.user)
    async with request.database.transaction() as conn:
        receipt = await timer_stops.stop_any(conn, data, user_id=owner_id, by=request.user.id)
    return await stop_response(receipt, request.database, request.outcomes, wait)


@delete("/api/active-timers/{owner:str}", summary="Discard a running timer", guards=[require_internal])
async def discard_active_timer(
    request: ApiRequest, owner: OfUser, timer_id: SeenTimer = None, version: SeenVersion = None
) -> None:
    """Deletes your timer without creating a time entry; as an admin, any consultant's. 404 if no timer runs.

    Send `timerId` and `version`. Then another timer, or one that somebody has changed since, is not discarded: 409 with the
    running timer as `current`."""
    owner_id = _own(owner, request.user)
    async with request.database.transaction() as conn:
        await timers.discard(conn, owner_id, timer_id=timer_id, version=version)


def _own(owner: str, user: User) -> UUID:
    owner_id = user_in_path(owner, "owner")
    if owner_id != user.id and not user.is_admin:
        raise Forbidden("Only an admin can change somebody else's timer.")
    return owner_id

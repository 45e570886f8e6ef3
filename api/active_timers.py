"""The timer that a user has running, by the user's id."""

from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter

from api.answers import json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheUser
from schemas import timers
from schemas.errors import Forbidden, NotFound
from schemas.timers import StartedTimer, Timer, TimerChange
from schemas.users import User

Owner = Annotated[str, PathParameter(description="The user's id, or `me`")]


@get("/api/active-timers/{owner:str}", summary="Read a running timer", guards=[internal])
async def get_active_timer(database: TheDatabase, user: TheUser, owner: Owner) -> Response[Timer]:
    """The timer that the user has running; 404 when none is."""
    async with database.connection() as conn:
        return json_answer(await timers.active(conn, _owner_id(owner, user)))


@put(
    "/api/active-timers/{owner:str}",
    summary="Start or change a timer",
    guards=[internal],
    status_code=200,
    responses={201: ResponseSpec(StartedTimer, description="The timer was started", generate_examples=False)},
)
async def put_active_timer(
    database: TheDatabase, user: TheUser, owner: Owner, data: JSONBody[TimerChange]
) -> Response[StartedTimer]:
    """Starts a timer on the task, or changes the start or the notes of the one that runs on it; your own, or as an admin
    anybody's. A timer on another task is stopped on the way, at `startTime` if it has begun before that, and returned under
    `stopped`."""
    owner_id = _own(owner, user)
    async with database.transaction() as conn:
        timer, started = await timers.put(conn, owner_id, data, by=user)
    return Response(timer, status_code=201 if started else 200)


@delete("/api/active-timers/{owner:str}", summary="Discard a running timer", guards=[internal])
async def discard_active_timer(database: TheDatabase, user: TheUser, owner: Owner) -> None:
    """Ends the timer without a time entry: your own, or as an admin anybody's. 404 when none runs."""
    owner_id = _own(owner, user)
    async with database.transaction() as conn:
        await timers.discard(conn, owner_id)


def _own(owner: str, user: User) -> UUID:
    owner_id = _owner_id(owner, user)
    if owner_id != user.id and not user.is_admin:
        raise Forbidden("Only an admin can touch somebody else's timer.")
    return owner_id


def _owner_id(owner: str, user: User) -> UUID:
    try:
        return user.id if owner == "me" else UUID(owner)
    except ValueError:
        raise NotFound("Name a user by id, or yourself by `me`.") from None

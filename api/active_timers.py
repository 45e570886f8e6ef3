"""The timer that a user has running, by the user's id."""

from typing import Annotated
from uuid import UUID

from litestar import Response, get
from litestar.params import PathParameter

from api.answers import json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheUser
from schemas import timers
from schemas.errors import NotFound
from schemas.timers import Timer
from schemas.users import User

Owner = Annotated[str, PathParameter(description="The user's id, or `me`")]


@get("/api/active-timers/{owner:str}", summary="Read a running timer", guards=[internal])
async def get_active_timer(database: TheDatabase, user: TheUser, owner: Owner) -> Response[Timer]:
    """The timer that the user has running; 404 when none is."""
    async with database.connection() as conn:
        return json_answer(await timers.active(conn, _owner_id(owner, user)))


def _owner_id(owner: str, user: User) -> UUID:
    try:
        return user.id if owner == "me" else UUID(owner)
    except ValueError:
        raise NotFound("Name a user by id, or yourself by `me`.") from None

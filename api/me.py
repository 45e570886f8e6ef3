"""The signed-in user, and their working hours."""

from typing import Annotated

from litestar import Response, get, patch
from litestar.params import JSONBody
from pydantic import Field

from api.auth.auth import require_internal
from api.dependencies import ApiRequest
from api.http.responses import row_response
from schemas.identity import working_hours
from schemas.identity.users import User
from schemas.identity.working_hours import WorkingHours, WorkingHoursChange


class Me(User):
    """The user of the token, with permissions."""

    permissions: Annotated[list[str], Field(examples=[["read", "log_time", "approve"]])]


@get("/api/me", summary="Who am I")
async def get_me(request: ApiRequest) -> Response[Me]:
    """The user of the token, and what the user may do:

    - `read`: read the data of the user's customer; the firm's own people read all data;
    - `log_time`: change timers, entries, tasks and customers;
    - `approve`: approve time bills of others."""
    permissions = ["read", *(["log_time"] if request.user.is_internal else []), *(["approve"] if request.user.is_admin else [])]
    return row_response(Me(**vars(request.user), permissions=permissions))


@get("/api/me/working-hours", summary="Read your working hours", guards=[require_internal])
async def get_working_hours(request: ApiRequest) -> WorkingHours:
    """When you work: your own values, or else the firm's. Reminders in Slack, and the hours that are planned, follow them."""
    async with request.database.connection() as conn:
        return await working_hours.get(conn, request.user.id, settings=request.settings)


@patch("/api/me/working-hours", summary="Change your working hours", guards=[require_internal])
async def change_working_hours(request: ApiRequest, data: JSONBody[WorkingHoursChange]) -> WorkingHours:
    """Changes what is sent. Null means the firm's value. The end must be after the start, on the same day. `hoursPerDay` is at
    most the hours between them."""
    async with request.database.transaction() as conn:
        return await working_hours.change(conn, request.user.id, data, settings=request.settings)

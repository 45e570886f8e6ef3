"""The signed-in user."""

from typing import Annotated

from litestar import get
from pydantic import Field

from api.dependencies import TheUser
from schemas.identity.users import User


class Me(User):
    """The user of the token, with permissions."""

    permissions: Annotated[list[str], Field(examples=[["read", "log_time", "approve"]])]


@get("/api/me", summary="Who am I")
async def get_me(user: TheUser) -> Me:
    """The user of the token. `read`: the data of the user's customer, or all data for the firm's own people; `log_time`: change
    timers, entries, tasks and customers; `approve`: approve time bills of others."""
    permissions = ["read", *(["log_time"] if user.is_internal else []), *(["approve"] if user.is_admin else [])]
    return Me(**user.model_dump(), permissions=permissions)

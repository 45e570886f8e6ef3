"""Who am I?"""

from typing import Annotated

from litestar import get
from pydantic import Field

from api.dependencies import TheUser
from schemas.users import User


class Me(User):
    """The user that the token speaks for, and what that user may do."""

    permissions: Annotated[list[str], Field(examples=[["read", "log_time", "approve"]])]


@get("/api/me", summary="Who am I")
async def get_me(user: TheUser) -> Me:
    """The user that the token speaks for. `read`: what belongs to the own customer, or to the firm for its own people;
    `log_time`: timers, entries, tasks and customers; `approve`: time bills of others."""
    permissions = ["read", *(["log_time"] if user.is_internal else []), *(["approve"] if user.is_admin else [])]
    return Me(**user.model_dump(), permissions=permissions)

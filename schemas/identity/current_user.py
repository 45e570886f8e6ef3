"""`me`: wherever a client sends a user's id, in a path, a query or a body, it stands for the id of the user who sends it."""

import re
from contextvars import ContextVar
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, WithJsonSchema

ME = "me"
PATTERN = r"^(me|[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12})$"

# the user whose request is handled; None outside a request, and for a request without a token
current_user_id: ContextVar[UUID | None] = ContextVar("current_user_id", default=None)


def parse_user_id(value: object) -> UUID:
    """The user whom a client means by that value. Raises ValueError for anything that is not an id or `me`."""
    if isinstance(value, UUID):
        return value
    own = current_user_id.get()
    if value == ME and own is not None:
        return own
    if isinstance(value, str) and value != ME and re.fullmatch(PATTERN, value):
        return UUID(value)
    raise ValueError("me stands for your own id")


# a field of a body that takes a user's id
UserId = Annotated[
    UUID,
    BeforeValidator(parse_user_id),
    WithJsonSchema({"type": "string", "pattern": PATTERN, "examples": [ME, "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"]}),
]

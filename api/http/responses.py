"""What handlers share: the shape and the parameters of lists, and responses whose JSON Postgres built."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args
from uuid import UUID

from litestar import Response
from litestar.params import PathParameter, QueryParameter
from pydantic import Field

from api.http.cors import Receive, Scope, Send
from schemas import wording
from schemas.base import Row
from schemas.errors import Invalid
from schemas.identity import current_user
from schemas.postgres.listing import MAX_LIMIT, Page, Tombstone

MAX_WARNINGS = 10  # in a header
Item = TypeVar("Item", bound=Row)
Filters = TypeVar("Filters")


def _noun(item: Any) -> str:
    # of a list with `enrich`, whose items are EnrichedTimeEntry | TimeEntry
    return str(get_args(item)[-1].__name__ if get_args(item) else item.__name__)


class Listed(Row, Generic[Item]):
    """One page of a list, newest first."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """The name in OpenAPI: `TimeEntryList`."""
        return f"{_noun(params[0])}List"

    items: list[Item]
    next_cursor: Annotated[str | None, Field(description="Send it as `cursor` for the next page; null on the last one")]
    sync_timestamp: Annotated[
        str, Field(description="Opaque: send it as `lastSyncTimestamp` to get what changes after this response")
    ]


class Changed(Row, Generic[Item]):
    """One page of a list, newest first; with `lastSyncTimestamp`, one page of what changed since then, in the order of
    change."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """The name in OpenAPI: `TaskChanges`."""
        return f"{_noun(params[0])}Changes"

    items: list[Item | Tombstone]
    next_cursor: Annotated[str | None, Field(description="Send it as `cursor` for the next page; null on the last one")]
    sync_timestamp: Annotated[str, Field(description="Send it as `lastSyncTimestamp` next time")]
    reset: Annotated[
        Literal[True] | None,
        Field(description="Only sent if the client must start again: the list has all rows; delete all others"),
    ] = None


Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=MAX_LIMIT, description="The largest number of items on a page")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        name="cursor", max_length=1000, description="The previous page's nextCursor", schema_extra={"format": "cursor"}
    ),
]
LastSync = Annotated[
    str | None,
    QueryParameter(
        name="lastSyncTimestamp",
        max_length=100,
        description="Only rows that changed since then: the syncTimestamp of an earlier response, or a time (RFC 3339, or "
        "milliseconds since 1970), from which 5 minutes are subtracted",
        schema_extra={"format": "sync-timestamp"},
    ),
]
CustomerId = Annotated[UUID | None, QueryParameter(name="customerId", description="Only rows of this customer")]
CustomerName = Annotated[
    str | None,
    QueryParameter(
        name="customer",
        max_length=200,
        description="Only rows of this customer: its id, or its exact name in upper or lower case",
    ),
]
SeenVersion = Annotated[
    int | None,
    QueryParameter(name="version", ge=1, le=2**31 - 1, description="The row's version as last read; a stale one gets 409"),
]
StartDate = Annotated[
    date | None, QueryParameter(name="startDate", description="First day, inclusive, in the firm's time zone")
]
EndDate = Annotated[date | None, QueryParameter(name="endDate", description="Last day, inclusive, in the firm's time zone")]
USER_ID_SCHEMA = {"pattern": current_user.PATTERN, "examples": [current_user.ME]}
UserId = Annotated[
    str | None,
    QueryParameter(name="userId", description="Only rows of this user; `me`: your own", schema_extra=USER_ID_SCHEMA),
]
OfUser = Annotated[str, PathParameter(description="The user's id, or `me`", schema_extra=USER_ID_SCHEMA)]
Enrich = Annotated[bool, QueryParameter(name="enrich", description="Add the names of customers, pillars, tasks and users")]


@dataclass(frozen=True)
class ListQuery(Generic[Filters]):
    """The whole query of a list with filters. One dependency reads all of it, so that one answer names all invalid
    parameters."""

    filters: Filters
    page: Page
    enrich: bool = False


def get_page(limit: Limit = 200, page_cursor: Cursor = None) -> Page:
    """The page of a list that `limit` and `cursor` name; handlers get it as `page`."""
    return Page(limit, page_cursor)


def user_filter(user_id: str | None) -> UUID | None:
    """The user whom the parameter `userId` names. Raises Invalid for anything that is not an id or `me`."""
    return None if user_id is None else _user(user_id, "userId")


def user_in_path(user_id: str, name: str = "user_id") -> UUID:
    """The user whom a path names, in the parameter `name`. Raises Invalid for anything that is not an id or `me`."""
    return _user(user_id, name)


def _user(user_id: str, name: str) -> UUID:
    try:
        return current_user.parse_user_id(user_id)
    except ValueError:
        raise Invalid(name, wording.must_be(name, USER_ID_SCHEMA)) from None


def customer_filter(customer: str | None, customer_id: UUID | None) -> str | None:
    """The customer of whichever parameter was sent. Raises Invalid if both were sent."""
    if customer is not None and customer_id is not None:
        raise Invalid("customer", "Send customer or customerId, not both.")
    return str(customer_id) if customer_id is not None else customer


class JsonResponse(Response[Any]):
    """A response whose body is already JSON, sent as it is: Litestar makes another object of its own responses."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        length = str(len(body)).encode()
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        self._head = [*encoded, (b"content-type", b"application/json"), (b"content-length", length)]
        self._body, self._status = body, status

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._head})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


def json_response(content: bytes, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Response[Any]:
    """A response whose body is already JSON."""
    return JsonResponse(content, status, headers)


def row_response(row: Row, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Response[Any]:
    """A response with the row."""
    return JsonResponse(row.model_dump_json(by_alias=True).encode(), status, headers)


def warning(texts: list[str]) -> dict[str, str]:
    """The header `Warning`, if there is any text: at most ten of them, in ASCII, quoted as in JSON."""
    shown = texts if len(texts) <= MAX_WARNINGS else [*texts[: MAX_WARNINGS - 1], f"and {len(texts) - MAX_WARNINGS + 1} more"]
    return {"Warning": ", ".join(f"199 stint {json.dumps(text)}" for text in shown)} if texts else {}


def created(row: Row, location: str, headers: Mapping[str, str] = MappingProxyType({})) -> Response[Any]:
    """201 with the row, and the path at which it is from now on."""
    return row_response(row, 201, {"Location": location, **headers})

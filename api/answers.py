"""How handlers answer: JSON that Postgres made passes through as bytes; lists share their shape and their parameters."""

from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from litestar import Response
from litestar.params import QueryParameter
from pydantic import Field

from schemas.base import Row
from schemas.errors import Invalid
from schemas.listing import MAX_LIMIT, Gone

Item = TypeVar("Item", bound=Row)


class Listed(Row, Generic[Item]):
    """One page of a list, newest first."""

    items: list[Item]
    next_cursor: Annotated[str | None, Field(description="Send it as `cursor` for the next page; null on the last one")]
    sync_timestamp: Annotated[str, Field(description="Opaque: marks what this list has seen; send it as `lastSyncTimestamp`")]


class Changed(Row, Generic[Item]):
    """One page of a list, newest first; or, with `lastSyncTimestamp`, of what changed since, in the order in which it did."""

    items: list[Item | Gone]
    next_cursor: Annotated[str | None, Field(description="Send it as `cursor` for the next page; null on the last one")]
    sync_timestamp: Annotated[str, Field(description="Send it as `lastSyncTimestamp` next time")]
    reset: Annotated[
        Literal[True] | None, Field(description="There when the client must start over: these are all rows, forget the others")
    ] = None


Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=MAX_LIMIT, description="How many at most")]
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
        description="Only what changed since: the syncTimestamp of an earlier answer; a time (RFC 3339, or milliseconds since "
        "1970) is taken with 5 minutes of overlap",
        schema_extra={"format": "sync-timestamp"},
    ),
]
CustomerId = Annotated[UUID | None, QueryParameter(name="customerId", description="Only this customer's")]
CustomerName = Annotated[
    str | None,
    QueryParameter(name="customer", max_length=200, description="Only this customer's: an id, or an exact name in any case"),
]
SeenVersion = Annotated[
    int | None, QueryParameter(name="version", ge=1, le=2**31 - 1, description="as last read; a stale one gets 409")
]
UserId = Annotated[UUID | None, QueryParameter(name="userId", description="Only this user's")]
Enrich = Annotated[bool, QueryParameter(name="enrich", description="Add the names behind the ids")]


def customer_filter(customer: str | None, customer_id: UUID | None) -> str | None:
    """The one customer that either parameter names. Raises Invalid when they name two."""
    if customer is not None and customer_id is not None:
        raise Invalid("customer", "Send customer or customerId, not both.")
    return str(customer_id) if customer_id is not None else customer


def json_answer(content: bytes, status: int = 200) -> Response[Any]:
    """An answer whose body is JSON already."""
    return Response(content, status_code=status, media_type="application/json")

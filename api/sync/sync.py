"""Routes of two-way sync, for clients that also work offline."""

import json
from typing import Annotated, Literal

from litestar import Response, get, post
from litestar.params import JSONBody, QueryParameter
from pydantic import Field

from api.auth.auth import require_internal
from api.dependencies import ApiRequest
from api.http.limits.json_text import JSON_BOUNDS, Bounds
from api.http.responses import Cursor, LastSync, json_response
from schemas.base import Body, Row
from schemas.customers.customers import Customer
from schemas.customers.pillars import Pillar
from schemas.customers.tasks import Task
from schemas.hours.entry_rules import EntryRules
from schemas.hours.time_bills import TimeBill
from schemas.hours.time_entries import TimeEntry
from schemas.hours.timer_stops import Timer
from schemas.postgres.listing import MAX_LIMIT, Page, Tombstone
from schemas.sync import pull, push
from schemas.sync.push import MAX_OPERATIONS, Operation, Result

SYNC_BOUNDS = Bounds(values=40 * MAX_OPERATIONS)

RowLimit = Annotated[
    int, QueryParameter(name="limit", ge=1, le=MAX_LIMIT, description="Maximum number of rows, of all kinds together")
]


class Pulled(Row):
    """The rows that changed, as they are now; of deleted rows the ids."""

    customers: list[Customer | Tombstone]
    pillars: list[Pillar | Tombstone]
    tasks: list[Task | Tombstone]
    time_bills: Annotated[list[TimeBill | Tombstone], Field(description="your own")]
    time_entries: Annotated[list[TimeEntry | Tombstone], Field(description="your own")]
    active_timer: Annotated[
        Timer | None, Field(description="your running timer as it is now, in every answer; null: no timer runs")
    ]
    next_cursor: Annotated[str | None, Field(description="Send it as `cursor` for the next page; null on the last one")]
    sync_timestamp: Annotated[str, Field(description="After the last page: send it as `lastSyncTimestamp` next time")]
    reset: Annotated[
        Literal[True] | None, Field(description="On the first page only: delete all stored rows before storing these")
    ] = None


class Pushed(Body):
    """What a client did while it was offline, and since when it needs the changes of others."""

    last_sync_timestamp: Annotated[
        str | None,
        Field(
            max_length=100,
            description="the syncTimestamp of an earlier answer; null: all rows",
            examples=["5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f.1042"],
        ),
    ] = None
    operations: Annotated[list[Operation], Field(max_length=MAX_OPERATIONS, description="in the order in which they were done")]


class Synced(Pulled):
    """The results of the operations, and the rows that changed, also by these operations."""

    results: Annotated[list[Result], Field(description="one for each operation, in their order")]


@get("/api/sync", summary="Get all changes", guards=[require_internal])
async def pull_changes(
    request: ApiRequest, since: LastSync = None, limit: RowLimit = MAX_LIMIT, page_cursor: Cursor = None
) -> Response[Pulled]:
    """All rows that have changed since `lastSyncTimestamp`; without it, all rows. These are customers, pillars and tasks, your
    own time bills and time entries, and your running timer.

    Send `nextCursor` as `cursor`, with the same `lastSyncTimestamp`, until it is null. Then store the `syncTimestamp`."""
    async with request.database.connection() as conn:
        return json_response(await pull.pull(conn, Page(limit, page_cursor, since), user_id=request.user.id))


@post(
    "/api/sync",
    summary="Send operations that were queued offline",
    guards=[require_internal],
    status_code=200,
    opt={JSON_BOUNDS: SYNC_BOUNDS},
)
async def push_operations(request: ApiRequest, data: JSONBody[Pushed]) -> Response[Synced]:
    """Executes the operations in their order, and returns the result of each:

    - `applied`;
    - `conflict`: nothing was changed. It has the operation in `mine`, and the row as it is now in `current`;
    - `rejected`.

    An operation has at most one effect: if its `opId` is sent again, the result is the same.

    The answer also contains the first page of changes, as GET returns it. Get further pages with GET."""
    async with request.database.bulk_connection() as conn:
        # first, so that an invalid timestamp is refused before any operation is executed
        start = await pull.parse_start(conn, data.last_sync_timestamp)
        results = await push.apply(conn, data.operations, by=request.user, rules=EntryRules.of(request.settings))
        changes = await pull.pull_from(conn, start, user_id=request.user.id)
    return json_response(b'{"results":%b,%b' % (json.dumps(results).encode(), changes[1:]))

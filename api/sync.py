"""Two-way sync, for clients that go on working while they are offline."""

import json
from typing import Annotated, Literal

from litestar import Response, get, post
from litestar.params import JSONBody, QueryParameter
from pydantic import Field

from api.answers import Cursor, LastSync, json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheSettings, TheUser
from schemas import sync, sync_operations
from schemas.base import Body, Row
from schemas.customers import Customer
from schemas.listing import MAX_LIMIT, Gone, Page
from schemas.pillars import Pillar
from schemas.sync_kinds import Firm
from schemas.sync_operations import MOST, Operation, Result
from schemas.tasks import Task
from schemas.time_bills import TimeBill
from schemas.time_entries import TimeEntry
from schemas.timers import Timer

Rows = Annotated[
    int, QueryParameter(name="limit", ge=1, le=MAX_LIMIT, description="How many rows at most, of all kinds together")
]


class Pulled(Row):
    """What changed: rows as they are, and those that are deleted by their ids."""

    customers: list[Customer | Gone]
    pillars: list[Pillar | Gone]
    tasks: list[Task | Gone]
    time_bills: Annotated[list[TimeBill | Gone], Field(description="your own")]
    time_entries: Annotated[list[TimeEntry | Gone], Field(description="your own")]
    active_timer: Annotated[
        Timer | None, Field(description="your running timer as it is now, in every answer; null: none runs")
    ]
    next_cursor: Annotated[str | None, Field(description="Send it as `cursor` for the next page; null on the last one")]
    sync_timestamp: Annotated[str, Field(description="After the last page: send it as `lastSyncTimestamp` next time")]
    reset: Annotated[
        Literal[True] | None, Field(description="On the first page only: forget all rows before taking these in")
    ] = None


class Pushed(Body):
    """What a client did while it was away, and from where on it wants to hear what others did."""

    last_sync_timestamp: Annotated[
        str | None,
        Field(
            max_length=100,
            description="the syncTimestamp of an earlier answer; null: from nothing",
            examples=["5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f.1042"],
        ),
    ] = None
    operations: Annotated[list[Operation], Field(max_length=MOST, description="in the order in which they were done")]


class Synced(Pulled):
    """What became of the operations, and then what changed, theirs included."""

    results: Annotated[list[Result], Field(description="one for each operation, in their order")]


@get("/api/sync", summary="Read all that changed", guards=[internal])
async def pull_changes(
    database: TheDatabase, user: TheUser, since: LastSync = None, limit: Rows = MAX_LIMIT, page_cursor: Cursor = None
) -> Response[Pulled]:
    """Everything that changed since `lastSyncTimestamp`, or without it everything: customers, pillars and tasks, your own
    time bills and time entries, and your running timer. Send `nextCursor` as `cursor`, with the same `lastSyncTimestamp`, until
    it is null; then keep the `syncTimestamp`."""
    async with database.connection() as conn:
        return json_answer(await sync.pull(conn, Page(limit, page_cursor, since), user_id=user.id))


@post("/api/sync", summary="Send what was done offline", guards=[internal], status_code=200)
async def push_operations(
    database: TheDatabase, user: TheUser, settings: TheSettings, data: JSONBody[Pushed]
) -> Response[Synced]:
    """Does what was queued while offline, one after another, and answers what became of each: `applied`, `conflict` (with
    `mine` and the row as it is under `current`; nothing was changed) or `rejected`. Each `opId` has at most one effect: sent
    again, it gets the same answer. Then follows what GET answers; further pages are got there."""
    firm = Firm(settings.stint_timezone, settings.stint_long_hours * 3600)
    async with database.long_connection() as conn:
        # first, so that a timestamp which cannot be read is refused before anything is done
        start = await sync.read_start(conn, data.last_sync_timestamp)
        results = await sync_operations.apply(conn, data.operations, by=user, firm=firm)
        changes = await sync.pull_from(conn, start, Page(MAX_LIMIT), user_id=user.id)
    return json_answer(b'{"results":%b,%b' % (json.dumps(results).encode(), changes[1:]))

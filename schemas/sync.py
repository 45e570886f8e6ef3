"""What a desktop client keeps, and how it stays true: everything that changed since it last looked, in one answer.

The rows come in the order (kind, change, id), customers first and entries last, so that a row seldom comes before what
it refers to. A walk over several pages is no snapshot: a row that changes meanwhile moves to the end of its kind, and may be
passed over by this walk or come twice in it. It is never lost: the `syncTimestamp` is the first page's, and whoever changed a
row after that page was read is of a transaction that this timestamp has not seen.
"""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas import changes
from schemas.base import Row, json_object
from schemas.changes import SYNC_TIMESTAMP, Since
from schemas.customers import Customer
from schemas.database import Connection
from schemas.errors import Invalid
from schemas.listing import CHANGED, RESET, UPDATED, Page, cursor_tag, decode_cursor, encode_cursor
from schemas.pillars import Pillar
from schemas.tasks import Task
from schemas.time_bills import TimeBill
from schemas.time_entries import TimeEntry
from schemas.timers import Timer


@dataclass(frozen=True)
class Kind:
    """Rows of one table, under their name in the answer; `own` if a client keeps only those of its user."""

    name: str
    model: type[Row]
    table: str
    own: bool = False

    def item(self, row_id: str) -> str:
        """SQL for the row with that id: as it is, or as a tombstone."""
        gone = "json_build_object('id', r.id, 'deleted', true)"
        shown = f"CASE WHEN r.deleted_at IS NULL THEN {json_object(self.model, 'r')} ELSE {gone} END"
        return f"(SELECT {shown} FROM {self.table} r WHERE r.id = {row_id})"


CUSTOMERS = Kind("customers", Customer, "customers")
PILLARS = Kind("pillars", Pillar, "pillars")
TASKS = Kind("tasks", Task, "tasks")
TIME_BILLS = Kind("timeBills", TimeBill, "time_bills", own=True)
TIME_ENTRIES = Kind("timeEntries", TimeEntry, "time_entries", own=True)
NAMES = [kind.name for kind in (CUSTOMERS, PILLARS, TASKS, TIME_BILLS, TIME_ENTRIES)]
# The last are entries again, of bills that were approved or reopened: for that they are locked or not, and have not changed.
WALK = (CUSTOMERS, PILLARS, TASKS, TIME_BILLS, TIME_ENTRIES, TIME_ENTRIES)
RELOCKED = len(WALK) - 1


@dataclass(frozen=True)
class Start:
    """From where a client asks: a cursor's meaning, and whether the client has to forget what it has. None: from nothing."""

    since: Since | None
    reset: bool = False


async def read_start(conn: Connection, last_sync: str | None) -> Start:
    """Where a client stands that sends this `lastSyncTimestamp`. Raises Invalid for what is none."""
    if last_sync is None:
        return Start(None)
    since, reset = await changes.read(conn, last_sync)
    return Start(None if reset else since, reset)


async def pull(conn: Connection, page: Page, *, user_id: UUID) -> bytes:
    """`{"customers": […], …, "activeTimer", "nextCursor", "syncTimestamp"}`: one page of what changed since the page's `since`,
    or of all there is; with `"reset": true` on the first page if the client has to forget what it has.

    Raises Invalid for a cursor that is none of ours.
    """
    return await pull_from(conn, await read_start(conn, page.since), page, user_id=user_id)


async def pull_from(conn: Connection, start: Start, page: Page, *, user_id: UUID) -> bytes:
    """The same for a client whose `lastSyncTimestamp` was read already."""
    since = start.since
    if page.cursor is not None:  # as the first page was: what has become of the client's clock meanwhile does not matter
        since = None if (cursor_tag(page.cursor) or "").endswith(RESET.tag) else since
    walk = Walk(since, page, user_id)
    async with conn.cursor(binary=True) as cursor:
        await cursor.execute(walk.statement.encode(), walk.parameters)
        result = cursor.pgresult
        assert result is not None
        rows = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    sync = walk.first_sync.encode() or bytes(rows[0][0] or b"")
    timer = bytes(rows[0][1] or b"null")
    rows = [row for row in rows if row[2] is not None]
    next_cursor = b"null"
    if len(rows) > page.limit:
        del rows[page.limit :]
        kind, _, key, row_id = (bytes(value or b"").decode() for value in rows[-1][2:])
        next_cursor = b'"' + encode_cursor(f"sync.{kind}", walk.order, key, row_id, sync.decode()) + b'"'
    items: dict[str, list[bytes]] = {name: [] for name in NAMES}
    for row in rows:
        items[WALK[int(bytes(row[2] or b""))].name].append(bytes(row[3] or b""))
    lists = b",".join(b'"%b":[%b]' % (name.encode(), b",".join(found)) for name, found in items.items())
    reset = b',"reset":true' if start.reset and page.cursor is None else b""
    return b'{%b,"activeTimer":%b,"nextCursor":%b,"syncTimestamp":"%b"%b}' % (lists, timer, next_cursor, sync, reset)


class Walk:
    """One page's statement: the keys of what comes, from an index each, and only then the rows, for as many as come."""

    def __init__(self, since: Since | None, page: Page, user_id: UUID) -> None:
        self.order = RESET if since is None else CHANGED if since.time is None else UPDATED
        self.parameters: dict[str, Any] = {"me": user_id} | (since.parameters if since is not None else {})
        self.first_sync = ""  # of the first page, when this is a later one
        self._since, self._limit = since, page.limit + 1
        self._first, self._beyond = 0, ""
        if page.cursor is not None:
            self._first = _kind(page.cursor)
            key, row_id, self.first_sync = decode_cursor(page.cursor, f"sync.{self._first}", self.order)
            self.parameters |= {"page_key": key, "page_id": row_id}
            self._beyond = f"(%(page_key)s::{self.order.type}, %(page_id)s::uuid)"

    @property
    def statement(self) -> str:
        # who starts from nothing is given every entry as it is
        last = len(WALK) if self._since is not None else RELOCKED
        keys = " UNION ALL ".join(f"({self._keys(number)})" for number in range(self._first, last)) or self._nothing
        items = " ".join(f"WHEN {number} THEN {kind.item('keys.id')}" for number, kind in enumerate(WALK))
        return f"""
            SELECT {SYNC_TIMESTAMP}, (SELECT {json_object(Timer, "t")}::text FROM timers t WHERE t.user_id = %(me)s),
                   page.kind::text, page.item::text, page.key::text, page.id::text
            FROM installation LEFT JOIN LATERAL (
                SELECT keys.*, CASE keys.kind {items} END AS item
                FROM (SELECT * FROM ({keys}) found ORDER BY kind, key, id LIMIT {self._limit:d}) keys
            ) page ON true
            ORDER BY page.kind, page.key, page.id
        """

    @property
    def _nothing(self) -> str:
        return f"SELECT 0 AS kind, NULL::{self.order.type} AS key, NULL::uuid AS id WHERE false"

    def _keys(self, number: int) -> str:
        kind, column = WALK[number], self.order.column
        if number == RELOCKED:
            # for who sends a time, all bills that changed since: a few entries too many
            key, row_id = f"b.{'locked_xid' if column == 'changed_xid' else column}", "r.id"
            # OFFSET keeps it a look at each bill: a plan that is made for any cursor would join whole tables
            entries = f"SELECT id FROM {kind.table} e WHERE e.bill_id = b.id AND e.deleted_at IS NULL OFFSET 0"
            source = f"time_bills b CROSS JOIN LATERAL ({entries}) r"
            conditions = ["b.user_id = %(me)s", self._changed(key)]
        else:
            source, key, row_id = f"{kind.table} r", f"r.{column}", "r.id"
            conditions = ["r.user_id = %(me)s"] if kind.own else []
            conditions.append("r.deleted_at IS NULL" if self._since is None else self._changed(key))
        if self._beyond and number == self._first:
            conditions.append(f"({key}, {row_id}) > {self._beyond}")
        return f"""SELECT {number} AS kind, {key} AS key, {row_id} AS id FROM {source}
                   WHERE {" AND ".join(conditions)} ORDER BY {key}, {row_id} LIMIT {self._limit:d}"""

    def _changed(self, key: str) -> str:
        return f"{key} >= " + ("%(since_time)s" if self.order is UPDATED else "%(since_xid)s::xid8")


def _kind(cursor: str) -> int:
    """Which of the walk's kinds a page's cursor stands in. Raises Invalid for what is no cursor of a sync."""
    found = re.fullmatch(rf"sync\.([0-{RELOCKED}])\..+", cursor_tag(cursor) or "")
    if found is None:
        raise Invalid("cursor", "This is no cursor of a sync; send the nextCursor of an earlier answer, or none to begin anew.")
    return int(found[1])

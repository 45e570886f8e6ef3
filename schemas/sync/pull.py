"""The pull of a sync: all rows that have changed since a client's last sync, in pages.

The rows of all kinds that clients store are sorted by kind, change and id. Customers come first and entries last, so a row
seldom comes before the rows that it refers to.

Several pages are not a snapshot. A row that changes between two pages moves to the end of its kind, so it may be skipped or
come twice. It is never lost: the client keeps the `syncTimestamp` of the first page, and the next sync returns everything that
was committed after this page was read.
"""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.base import Row, json_object
from schemas.customers.customers import Customer
from schemas.customers.pillars import Pillar
from schemas.customers.tasks import Task
from schemas.errors import Invalid
from schemas.hours.time_bills import TimeBill
from schemas.hours.time_entries import TimeEntry
from schemas.hours.timer_stops import Timer
from schemas.postgres import sync_start
from schemas.postgres.connection import Connection
from schemas.postgres.listing import CHANGED, MAX_LIMIT, RESET, UPDATED, Page, cursor_tag, decode_cursor, encode_cursor
from schemas.postgres.sync_cursor import CURSOR, Since, in_one_epoch, issued


@dataclass(frozen=True)
class SyncedTable:
    """A table whose rows clients store."""

    json_name: str  # its name in the answer
    model: type[Row]
    name: str  # of the table
    own: bool = False  # a client stores only the rows of its own user

    def item(self, row_id: str) -> str:
        """SQL for the JSON of the row with that id, or of its tombstone."""
        tombstone = "json_build_object('id', r.id, 'deleted', true)"
        row = f"CASE WHEN r.deleted_at IS NULL THEN {json_object(self.model, 'r')} ELSE {tombstone} END"
        return f"(SELECT {row} FROM {self.name} r WHERE r.id = {row_id})"


CUSTOMERS = SyncedTable("customers", Customer, "customers")
PILLARS = SyncedTable("pillars", Pillar, "pillars")
TASKS = SyncedTable("tasks", Task, "tasks")
TIME_BILLS = SyncedTable("timeBills", TimeBill, "time_bills", own=True)
TIME_ENTRIES = SyncedTable("timeEntries", TimeEntry, "time_entries", own=True)
NAMES = [table.json_name for table in (CUSTOMERS, PILLARS, TASKS, TIME_BILLS, TIME_ENTRIES)]
# The last section has entries again: those whose bill was approved or reopened since. Their rows have not changed, but whether
# they are locked has.
SECTIONS = (CUSTOMERS, PILLARS, TASKS, TIME_BILLS, TIME_ENTRIES, TIME_ENTRIES)
RELOCKED = len(SECTIONS) - 1  # the number of that last section


@dataclass(frozen=True)
class StartingPoint:
    """From where on a client needs changes."""

    since: Since | None  # None: it needs all rows
    reset: bool = False  # the client has to delete its rows first; it needs all rows


async def parse_start(conn: Connection, last_sync: str | None) -> StartingPoint:
    """The starting point for a `lastSyncTimestamp`. Raises Invalid for any other text."""
    if last_sync is None:
        return StartingPoint(None)
    since, reset = await sync_start.parse_cursor(conn, last_sync)
    return StartingPoint(since, reset)


async def pull(conn: Connection, page: Page, *, user_id: UUID) -> bytes:
    """One page as JSON: `{"customers": […], …, "activeTimer": …, "nextCursor": …, "syncTimestamp": …}`.

    It has rows that have changed since the page's `since`; without `since`, any rows. If the client has to delete its rows
    first, the first page has `"reset": true`.

    Raises Invalid for a cursor that Stint did not issue.
    """

    async def read(trusted: bool) -> bytes:
        return await _read(conn, await parse_start(conn, page.since), page, user_id=user_id, trusted=trusted)

    return await in_one_epoch(conn, read)


async def pull_from(conn: Connection, start: StartingPoint, *, user_id: UUID) -> bytes:
    """The first page, for a starting point that was parsed already."""
    return await in_one_epoch(conn, lambda trusted: _read(conn, start, Page(MAX_LIMIT), user_id=user_id, trusted=trusted))


async def _read(conn: Connection, start: StartingPoint, page: Page, *, user_id: UUID, trusted: bool) -> bytes:
    starts_again = start.reset
    if page.cursor is not None:  # the first page has decided it; the timestamp may have become too old since
        starts_again = (cursor_tag(page.cursor) or "").endswith(RESET.tag)
    since = None if starts_again else start.since
    query = PageQuery(since, page, user_id)
    async with conn.cursor(binary=True) as cursor:
        await cursor.execute(query.statement.encode(), query.parameters)
        result = cursor.pgresult
        assert result is not None
        rows = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    # The columns are sync timestamp, timer, section, item, key and id. If nothing has changed, there is one row without
    # section.
    found = rows[0][0]
    sync = query.first_sync or issued(None if found is None else bytes(found), start.since, trusted=trusted)
    timer = bytes(rows[0][1] or b"null")
    rows = [row for row in rows if row[2] is not None]
    next_cursor = b"null"
    if len(rows) > page.limit:
        del rows[page.limit :]
        section, _, key, row_id = (bytes(value or b"").decode() for value in rows[-1][2:])
        next_cursor = b'"' + encode_cursor(f"sync.{section}", query.order, key, row_id, sync) + b'"'
    items: dict[str, list[bytes]] = {name: [] for name in NAMES}
    for _, _, section_number, item, *_ in rows:
        items[SECTIONS[int(bytes(section_number or b""))].json_name].append(bytes(item or b""))
    lists = b",".join(b'"%b":[%b]' % (name.encode(), b",".join(found)) for name, found in items.items())
    reset = b',"reset":true' if start.reset and page.cursor is None else b""
    return b'{%b,"activeTimer":%b,"nextCursor":%b,"syncTimestamp":"%b"%b}' % (lists, timer, next_cursor, sync.encode(), reset)


class PageQuery:
    """The statement for one page.

    It first reads only the keys, from one index for each section. Then it reads the rows of this page.
    """

    def __init__(self, since: Since | None, page: Page, user_id: UUID) -> None:
        self.order = RESET if since is None else CHANGED if since.time is None else UPDATED
        self.parameters: dict[str, Any] = {"me": user_id} | (since.parameters if since is not None else {})
        self.first_sync = ""  # the first page's sync timestamp, if this is a later page
        self._since, self._limit = since, page.limit + 1
        self._first, self._after = 0, ""
        if page.cursor is not None:
            self._first = _section(page.cursor)
            key, row_id, self.first_sync = decode_cursor(page.cursor, f"sync.{self._first}", self.order)
            self.parameters |= {"page_key": key, "page_id": row_id}
            self._after = f"(%(page_key)s::{self.order.type}, %(page_id)s::uuid)"

    @property
    def statement(self) -> str:
        # a first load contains every entry once already
        last = len(SECTIONS) if self._since is not None else RELOCKED
        keys = " UNION ALL ".join(f"({self._keys(number)})" for number in range(self._first, last)) or self._no_keys
        items = " ".join(f"WHEN {number} THEN {table.item('keys.id')}" for number, table in enumerate(SECTIONS))
        return f"""
            SELECT {CURSOR}, (SELECT {json_object(Timer, "t")}::text FROM timers t WHERE t.user_id = %(me)s),
                   page.section::text, page.item::text, page.key::text, page.id::text
            FROM installation LEFT JOIN LATERAL (
                SELECT keys.*, CASE keys.section {items} END AS item
                FROM (SELECT * FROM ({keys}) found ORDER BY section, key, id LIMIT {self._limit:d}) keys
            ) page ON true
            ORDER BY page.section, page.key, page.id
        """

    @property
    def _no_keys(self) -> str:
        return f"SELECT 0 AS section, NULL::{self.order.type} AS key, NULL::uuid AS id WHERE false"

    def _keys(self, number: int) -> str:
        """SQL for the keys of one section, at most one more than the page has rows."""
        table = SECTIONS[number]
        column = self.order.column
        row_id = "r.id"
        if number == RELOCKED:
            # If the client has sent a time, it gets the entries of all bills that have changed since: a few entries too many.
            key = "b.locked_xid" if column == "changed_xid" else f"b.{column}"
            # OFFSET 0 makes Postgres look up the entries of each bill. A generic plan would join the whole tables.
            entries = f"SELECT id FROM {table.name} e WHERE e.bill_id = b.id AND e.deleted_at IS NULL OFFSET 0"
            source = f"time_bills b CROSS JOIN LATERAL ({entries}) r"
            conditions = ["b.user_id = %(me)s", self._changed(key)]
        else:
            source = f"{table.name} r"
            key = f"r.{column}"
            conditions = ["r.user_id = %(me)s"] if table.own else []
            conditions.append("r.deleted_at IS NULL" if self._since is None else self._changed(key))
        if self._after and number == self._first:
            conditions.append(f"({key}, {row_id}) > {self._after}")
        return f"""SELECT {number} AS section, {key} AS key, {row_id} AS id FROM {source}
                   WHERE {" AND ".join(conditions)} ORDER BY {key}, {row_id} LIMIT {self._limit:d}"""

    def _changed(self, key: str) -> str:
        return f"{key} >= " + ("%(since_time)s" if self.order is UPDATED else "%(since_xid)s::xid8")


def _section(cursor: str) -> int:
    """The section in which the next page starts. Raises Invalid for a text that is not a cursor of a sync."""
    found = re.fullmatch(rf"sync\.([0-{RELOCKED}])\..+", cursor_tag(cursor) or "")
    if found is None:
        raise Invalid(
            "cursor",
            "This is not a cursor of a sync; send the nextCursor of an earlier answer, or no cursor for the first page.",
        )
    return int(found[1])

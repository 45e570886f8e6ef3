"""Lists. One statement reads a row, a page of a list, or a page of its changes.

Postgres builds the JSON, which is sent to the client as bytes. A page contains the sync cursor of the same statement.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from schemas.base import Row, json_joined, json_object
from schemas.errors import Invalid, NotFound
from schemas.postgres import sync_start
from schemas.postgres.connection import Connection, one_json
from schemas.postgres.sync_cursor import CURSOR, CURSOR_PATTERN, Since, in_one_epoch, issued

MAX_LIMIT = 1000


class Tombstone(Row):
    """A row that was deleted, or that the user may no longer see."""

    id: UUID
    deleted: Literal[True]


@dataclass(frozen=True)
class Page:
    """The requested part of a list. `cursor` is the previous response's `nextCursor`, `since` a `lastSyncTimestamp`."""

    limit: int = 200
    cursor: str | None = None
    since: str | None = None


@dataclass(frozen=True)
class Order:
    """The order of a list: by one column and the id. `type` is the column's SQL type."""

    column: str
    type: Literal["date", "timestamptz", "xid8"]
    newest_first: bool = True
    reset: bool = False

    @property
    def tag(self) -> str:
        """The name of this order in its cursors."""
        return f"{self.column}{'.reset' if self.reset else ''}"


CHANGED = Order("changed_xid", "xid8", newest_first=False)
# the same for clients that send a time, because updated_at has an index
UPDATED = Order("updated_at", "timestamptz", newest_first=False)
# all rows without tombstones, for a client that must start again
RESET = Order("changed_xid", "xid8", newest_first=False, reset=True)


@dataclass(frozen=True)
class _Rows:
    """SQL for the rows of a page. `since`: the client's changes start there. `trusted`: it gets a cursor that it can use."""

    order: Order
    item: str
    joins: str
    condition: str
    parameters: dict[str, Any]
    since: Since | None = None
    trusted: bool = True


@dataclass
class Selection:
    """The rows of a table that meet all `conditions`. `%(name)s` in a condition is bound from `parameters`.

    In a list of changes, a row that does not meet the conditions now, but may have met them before, is returned as a tombstone.

    - `visible_changes`, called with the cursor, returns a SQL condition: the user may see the change of the row.
    - `key` is the unique column.
    - `union_of`: if the table is a view, the tables that it combines.
    """

    noun: str
    model: type[Row]
    table: str
    alias: str
    order: Order
    visible_changes: Callable[[Since], str] = lambda _: "true"
    conditions: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    key: str = "id"
    union_of: tuple[str, ...] = ()

    def where(self, condition: str, **parameters: Any) -> None:
        """Adds a condition. Its text is Stint's own; a client's values go only into `parameters`."""
        self.conditions.append(condition)
        self.parameters |= parameters

    async def one(self, conn: Connection, row_id: UUID) -> bytes:
        """The row as JSON. Raises NotFound if it is not in the selection."""
        self.where(f"{self.alias}.{self.key} = %(row_id)s", row_id=row_id)
        row = await one_json(
            conn,
            f"""
            SELECT {json_object(self.model, self.alias)} FROM {self.table} {self.alias}
            WHERE {" AND ".join(self.conditions)}
            """,
            self.parameters,
        )
        if row is None:
            raise NotFound(f"There is no such {self.noun}, or you may not see it.")
        return row

    async def page(self, conn: Connection, page: Page) -> bytes:
        """The page as JSON: `{"items": […], "nextCursor": …, "syncTimestamp": …}`, newest first.

        With `since` it has the changes since then, in the order of the changes. A deleted row is `{"id", "deleted": true}`. If
        the client must start again, it has all rows, and `"reset": true`.

        Raises Invalid for an invalid cursor.
        """
        return await in_one_epoch(conn, lambda trusted: self._page(conn, page, trusted=trusted))

    async def _page(self, conn: Connection, page: Page, *, trusted: bool) -> bytes:
        item, joins = json_joined(self.model, self.alias)
        meets_conditions = " AND ".join(self.conditions) or "true"
        if page.since is None:
            rows = _Rows(self.order, item, joins, meets_conditions, self.parameters, trusted=trusted)
            return await self._read(conn, page, rows)
        since, reset = await sync_start.parse_cursor(conn, page.since)
        if page.cursor is not None:  # the same as on the first page, even if `since` has become too old since then
            reset = cursor_tag(page.cursor) == f"{self.table}.{RESET.tag}"
        if reset:
            rows = _Rows(RESET, item, joins, meets_conditions, self.parameters, since=since, trusted=trusted)
            return await self._read(conn, page, rows)
        tombstone = f"json_build_object('id', {self.alias}.{self.key}, 'deleted', true)"
        item = f"CASE WHEN {meets_conditions} THEN {item} ELSE {tombstone} END"
        has_changed = f"{since.condition(self.alias)} AND {self.visible_changes(since)}"
        order = CHANGED if since.time is None else UPDATED
        rows = _Rows(order, item, joins, has_changed, self.parameters | since.parameters, since=since, trusted=trusted)
        return await self._read(conn, page, rows)

    def _first_rows(self, condition: str, order: str, count: int) -> str:
        """SQL for the first rows in that order.

        For a view, each of its tables has a limit, too: otherwise Postgres would sort all rows of the view.
        """
        selects = [
            f"SELECT {self.alias}.* FROM {table} {self.alias} WHERE {condition} ORDER BY {order} LIMIT {count:d}"
            for table in self.union_of or (self.table,)
        ]
        if len(selects) == 1:
            return selects[0]
        return f"{' UNION ALL '.join(f'({select})' for select in selects)} ORDER BY {order} LIMIT {count:d}"

    async def _read(self, conn: Connection, page: Page, rows: "_Rows") -> bytes:
        alias, identity, first_sync = self.alias, self.key, None
        order, condition, parameters = rows.order, rows.condition, rows.parameters
        direction, beyond = ("DESC", "<") if order.newest_first else ("ASC", ">")
        if page.cursor is not None:
            key, row_id, first_sync = decode_cursor(page.cursor, self.table, order)
            condition += f" AND ({alias}.{order.column}, {alias}.{identity}) {beyond} "
            condition += f"(%(page_key)s::{order.type}, %(page_id)s::uuid)"
            parameters = parameters | {"page_key": key, "page_id": row_id}
        by = f"{order.column} {direction}, {identity} {direction}"
        async with conn.cursor(binary=True) as cursor:
            await cursor.execute(
                f"""
                WITH first AS MATERIALIZED ({self._first_rows(condition, by, page.limit + 1)})
                SELECT {CURSOR}, page.items, last.key::text, last.id::text
                FROM (
                    SELECT string_agg(
                        ({rows.item})::text, ',' ORDER BY {alias}.{order.column} {direction}, {alias}.{identity} {direction}
                    ) AS items
                    FROM (SELECT * FROM first ORDER BY {by} LIMIT {page.limit:d}) {alias} {rows.joins}
                ) page LEFT JOIN (
                    SELECT {order.column} AS key, {identity} AS id FROM first ORDER BY {by} OFFSET {page.limit - 1:d} LIMIT 1
                ) last ON EXISTS (SELECT FROM first OFFSET {page.limit:d})
                """.encode(),
                parameters,
            )
            assert cursor.pgresult is not None
            found, items, last_key, last_id = (cursor.pgresult.get_value(0, column) for column in range(4))
        sync = first_sync or issued(found, rows.since, trusted=rows.trusted)
        next_cursor = b"null"
        if last_key is not None and last_id is not None:
            next_cursor = b'"' + encode_cursor(self.table, order, last_key.decode(), last_id.decode(), sync) + b'"'
        return b'{"items":[%b],"nextCursor":%b,"syncTimestamp":"%b"%b}' % (
            items or b"",
            next_cursor,
            sync.encode(),
            b',"reset":true' if order is RESET else b"",
        )


def contains_pattern(text: str) -> str:
    """The pattern for LIKE that matches texts which contain this one literally."""
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def encode_cursor(table: str, order: Order, key: str, row_id: str, sync: str) -> bytes:
    """The cursor of the page after the row with that key and id. `sync` is the sync timestamp of the first page."""
    parts = [f"{table}.{order.tag}", key, row_id, sync]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=")


def decode_cursor(cursor: str, table: str, order: Order) -> tuple[date | str, UUID, str]:
    """The key, the id and the sync timestamp of a cursor. Raises Invalid for anything but a cursor of this table and order.

    A client can forge a cursor, so every part is checked. The sync timestamp is copied into the response.
    """
    try:
        tag, key, row_id, sync = _parts(cursor)
        if tag == f"{table}.{order.tag}" and CURSOR_PATTERN.fullmatch(sync):
            return _parse_key(key, order), UUID(row_id), sync
    except (ValueError, OverflowError):
        pass
    raise Invalid(
        "cursor", "This is not a valid cursor; send the nextCursor of the previous response, or none for the first page."
    )


def cursor_tag(cursor: str) -> str | None:
    """The cursor's table and order; None for an invalid cursor."""
    try:
        return _parts(cursor)[0]
    except ValueError:
        return None


def _parts(cursor: str) -> list[str]:
    """The four texts in a cursor. Raises ValueError for anything else."""
    try:
        parts = json.loads(base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except RecursionError as error:
        raise ValueError from error
    if not (isinstance(parts, list) and len(parts) == 4 and all(isinstance(part, str) for part in parts)):
        raise ValueError
    return parts


def _parse_key(text: str, order: Order) -> date | str:
    match order.type:
        case "date":
            return date.fromisoformat(text)
        case "timestamptz":
            return datetime.fromisoformat(text)
        case _:
            if not 0 <= int(text) < 2**64:
                raise ValueError
            return str(int(text))

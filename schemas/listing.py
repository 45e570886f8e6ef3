"""What a user may see, read by one statement each: a row, a page of a list, or a page of what changed in it. The JSON is made
by Postgres and passed on as bytes; a page carries the sync cursor of the very statement that read it."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from schemas import changes
from schemas.base import Row, json_joined, json_object
from schemas.changes import OURS, SYNC_TIMESTAMP, Since
from schemas.database import Connection, one_json
from schemas.errors import Invalid, NotFound

MAX_LIMIT = 1000


class Gone(Row):
    """A row that was deleted, or that its reader no longer sees."""

    id: UUID
    deleted: Literal[True]


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for; `cursor` is the previous answer's `nextCursor`, `since` a `lastSyncTimestamp`."""

    limit: int = 200
    cursor: str | None = None
    since: str | None = None


@dataclass(frozen=True)
class Order:
    """By one column and the id; `type` is the column's SQL type."""

    column: str
    type: Literal["date", "timestamptz", "xid8"]
    newest_first: bool = True
    reset: bool = False

    @property
    def tag(self) -> str:
        """What cursors of this order say that they are of."""
        return f"{self.column}{'.reset' if self.reset else ''}"


CHANGED = Order("changed_xid", "xid8", newest_first=False)
# the same for clients that send a time: an index leads to it
UPDATED = Order("updated_at", "timestamptz", newest_first=False)
# all rows, without those that are gone, when a client has to start over
RESET = Order("changed_xid", "xid8", newest_first=False, reset=True)


@dataclass
class Selection:
    """Rows of a table, narrowed by conditions that are AND-ed; `%(name)s` in them is bound from `parameters`.

    Who asks for changes is told of a row that fails a condition now, and might have met it before, as of a deleted one;
    `audible`, given the cursor, is the condition on rows that this user may hear of at all. `key` is the column that tells
    rows apart; `parts`, where the table is a view over several, are those.
    """

    noun: str
    model: type[Row]
    table: str
    alias: str
    order: Order
    audible: Callable[[Since], str] = lambda _: "true"
    conditions: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    key: str = "id"
    parts: tuple[str, ...] = ()

    def where(self, condition: str, **parameters: Any) -> None:
        """Narrows the selection by a condition of our own text; what clients sent stands in `parameters` only."""
        self.conditions.append(condition)
        self.parameters |= parameters

    async def one(self, conn: Connection, row_id: UUID) -> bytes:
        """The row as JSON. Raises NotFound when it is not in the selection, for whatever reason."""
        self.where(f"{self.alias}.{self.key} = %(row_id)s", row_id=row_id)
        found = await one_json(
            conn,
            f"""
            SELECT {json_object(self.model, self.alias)} FROM {self.table} {self.alias}
            WHERE {" AND ".join(self.conditions)}
            """,
            self.parameters,
        )
        if found is None:
            raise NotFound(f"There is no such {self.noun}, or it is not yours to see.")
        return found

    async def page(self, conn: Connection, page: Page) -> bytes:
        """`{"items": […], "nextCursor": …, "syncTimestamp": …}`, newest first; or, with `since`, what changed from there on in
        the order in which it did, what is gone as `{"id", "deleted": true}`, and `"reset": true` beside all that there is when
        the client has to start over. Raises Invalid for a cursor that is none of ours."""
        item, joins = json_joined(self.model, self.alias)
        met = " AND ".join(self.conditions) or "true"
        if page.since is None:
            return await self._page(conn, page, self.order, item, joins, met, self.parameters)
        since, reset = await changes.read(conn, page.since)
        if page.cursor is not None:  # as the first page was: what has become of the client's clock meanwhile does not matter
            reset = cursor_tag(page.cursor) == f"{self.table}.{RESET.tag}"
        if reset:
            return await self._page(conn, page, RESET, item, joins, met, self.parameters)
        item = f"CASE WHEN {met} THEN {item} ELSE json_build_object('id', {self.alias}.{self.key}, 'deleted', true) END"
        heard = f"{since.of(self.alias)} AND {self.audible(since)}"
        order = CHANGED if since.time is None else UPDATED
        return await self._page(conn, page, order, item, joins, heard, self.parameters | since.parameters)

    def _first(self, condition: str, order: str, count: int) -> str:
        """SQL for the first rows in that order. Each part of a table gives its own: the planner would sort all of them."""
        first = [
            f"SELECT {self.alias}.* FROM {part} {self.alias} WHERE {condition} ORDER BY {order} LIMIT {count:d}"
            for part in self.parts or (self.table,)
        ]
        if len(first) == 1:
            return first[0]
        return f"{' UNION ALL '.join(f'({rows})' for rows in first)} ORDER BY {order} LIMIT {count:d}"

    async def _page(
        self,
        conn: Connection,
        page: Page,
        order: Order,
        item: str,
        joins: str,
        condition: str,
        parameters: dict[str, Any],
    ) -> bytes:
        alias, identity, first_sync = self.alias, self.key, None
        direction, beyond = ("DESC", "<") if order.newest_first else ("ASC", ">")
        if page.cursor is not None:
            key, row_id, first_sync = decode_cursor(page.cursor, self.table, order)
            condition += f" AND ({alias}.{order.column}, {alias}.{identity}) {beyond} "
            condition += f"(%(page_key)s::{order.type}, %(page_id)s::uuid)"
            parameters = parameters | {"page_key": key, "page_id": row_id}
        async with conn.cursor(binary=True) as cursor:
            await cursor.execute(
                f"""
                SELECT {SYNC_TIMESTAMP}, page.item, page.key::text, page.id::text
                FROM installation LEFT JOIN LATERAL (
                    SELECT ({item})::text AS item, {alias}.{order.column} AS key, {alias}.{identity} AS id
                    FROM ({self._first(condition, f"{order.column} {direction}, {identity} {direction}", page.limit + 1)})
                        {alias} {joins}
                ) page ON true
                ORDER BY page.key {direction}, page.id {direction}
                """.encode(),
                parameters,
            )
            result = cursor.pgresult
            assert result is not None

            def text(row: int, column: int) -> str:
                return bytes(result.get_value(row, column) or b"").decode()

            sync = first_sync or text(0, 0)
            items = [bytes(value) for row in range(result.ntuples) if (value := result.get_value(row, 1)) is not None]
            next_cursor = b"null"
            if len(items) > page.limit:
                del items[page.limit :]
                last = page.limit - 1
                next_cursor = b'"' + encode_cursor(self.table, order, text(last, 2), text(last, 3), sync) + b'"'
        return b'{"items":[%b],"nextCursor":%b,"syncTimestamp":"%b"%b}' % (
            b",".join(items),
            next_cursor,
            sync.encode(),
            b',"reset":true' if order is RESET else b"",
        )


def encode_cursor(table: str, order: Order, key: str, row_id: str, sync: str) -> bytes:
    """The cursor of the page after the row with that key and id; `sync` is the first page's sync timestamp."""
    parts = [f"{table}.{order.tag}", key, row_id, sync]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=")


def decode_cursor(cursor: str, table: str, order: Order) -> tuple[date | str, UUID, str]:
    """Key, id and sync timestamp. Raises Invalid for what is no cursor of this table and order.

    A cursor can be made up: every part is checked, the sync timestamp too, which goes into the answer as it is."""
    try:
        of, key, row_id, sync = _parts(cursor)
        if of == f"{table}.{order.tag}" and OURS.fullmatch(sync):
            return _key(key, order), UUID(row_id), sync
    except (ValueError, OverflowError):
        pass
    raise Invalid("cursor", "This is no cursor of ours; send the nextCursor of an earlier answer, or none to begin anew.")


def cursor_tag(cursor: str) -> str | None:
    """What the cursor says that it is of: a table and an order. None for what is no cursor of ours."""
    try:
        return _parts(cursor)[0]
    except ValueError:
        return None


def _parts(cursor: str) -> list[str]:
    """The four texts that a cursor is made of. Raises ValueError for anything else."""
    try:
        parts = json.loads(base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except RecursionError as error:
        raise ValueError from error
    if not (isinstance(parts, list) and len(parts) == 4 and all(isinstance(part, str) for part in parts)):
        raise ValueError
    return parts


def _key(text: str, order: Order) -> date | str:
    match order.type:
        case "date":
            return date.fromisoformat(text)
        case "timestamptz":
            return datetime.fromisoformat(text)
        case _:
            if not 0 <= int(text) < 2**64:
                raise ValueError
            return str(int(text))

"""Lists: one statement each, JSON made by Postgres and passed on as bytes, keyset paged, with the sync cursor of the very
statement that read the data."""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from schemas.base import Row, json_object
from schemas.database import Connection
from schemas.errors import Invalid

MAX_LIMIT = 1000


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for; `cursor` is the previous answer's `nextCursor`."""

    limit: int = 200
    cursor: str | None = None


@dataclass(frozen=True)
class Order:
    """Newest first, by one column and the id. `field` is the column's name in the answer, `type` its SQL type."""

    column: str
    field: str
    type: Literal["date", "timestamptz"]


@dataclass
class Listing:
    """What a list reads: a table, the conditions that narrow it (AND-ed; `%(name)s` is bound from `parameters`)."""

    model: type[Row]
    table: str
    alias: str
    order: Order
    conditions: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    def where(self, condition: str, **parameters: Any) -> None:
        """Narrows the list by a condition of our own text; what clients sent stands in `parameters` only."""
        self.conditions.append(condition)
        self.parameters |= parameters

    async def read(self, conn: Connection, page: Page) -> bytes:
        """`{"items": […], "nextCursor": …, "syncTimestamp": …}`. Raises Invalid for a cursor that is none of ours."""
        order, alias = self.order, self.alias
        conditions, parameters = list(self.conditions), dict(self.parameters)
        first_sync: str | None = None
        if page.cursor is not None:
            key, row_id, first_sync = _decode(page.cursor, self.table, order)
            conditions.append(f"({alias}.{order.column}, {alias}.id) < (%(page_key)s::{order.type}, %(page_id)s::uuid)")
            parameters |= {"page_key": key, "page_id": row_id}
        async with conn.cursor(binary=True) as cursor:
            await cursor.execute(
                f"""
                SELECT i.id::text || '.' || pg_snapshot_xmin(pg_current_snapshot())::text, page.item
                FROM installation i LEFT JOIN LATERAL (
                    SELECT {json_object(self.model, alias)}::text AS item, {alias}.{order.column} AS key, {alias}.id AS id
                    FROM {self.table} {alias}
                    WHERE {" AND ".join(conditions)}
                    ORDER BY {alias}.{order.column} DESC, {alias}.id DESC
                    LIMIT {page.limit + 1:d}
                ) page ON true
                ORDER BY page.key DESC, page.id DESC
                """.encode(),
                parameters,
            )
            result = cursor.pgresult
            assert result is not None
            sync = bytes(result.get_value(0, 0) or b"").decode()
            items = [bytes(item) for row in range(result.ntuples) if (item := result.get_value(row, 1)) is not None]
        return self._answer(items, page.limit, first_sync or sync)

    def _answer(self, items: list[bytes], limit: int, sync: str) -> bytes:
        next_cursor = b"null"
        if len(items) > limit:
            del items[limit:]
            last = json.loads(items[-1])
            next_cursor = b'"' + _encode(self.table, last[self.order.field], last["id"], sync) + b'"'
        return b'{"items":[%b],"nextCursor":%b,"syncTimestamp":"%b"}' % (b",".join(items), next_cursor, sync.encode())


def _encode(table: str, key: str, row_id: str, sync: str) -> bytes:
    return base64.urlsafe_b64encode(json.dumps([table, key, row_id, sync]).encode()).rstrip(b"=")


_SYNC = re.compile(r"[0-9a-f-]{36}\.[0-9]{1,20}")


def _decode(cursor: str, table: str, order: Order) -> tuple[date, UUID, str]:
    """A cursor can be made up: every part is checked, the sync timestamp too, which goes into the answer as it is."""
    try:
        parts = json.loads(base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        of_table, key, row_id, sync = parts
        if of_table == table and _SYNC.fullmatch(sync):
            read = date.fromisoformat if order.type == "date" else datetime.fromisoformat
            return read(key), UUID(row_id), sync
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise Invalid("cursor", "This is no cursor of ours; send the nextCursor of an earlier answer, or none to begin anew.")

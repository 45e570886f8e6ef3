"""What a user may see, read by one statement each: a row, or a page of a list. The JSON is made by Postgres and passed on as
bytes; a page carries the sync cursor of the very statement that read it."""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from schemas.base import Row, json_object
from schemas.database import Connection, one_json
from schemas.errors import Invalid, NotFound

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
class Selection:
    """Rows of a table, narrowed by conditions that are AND-ed; `%(name)s` in them is bound from `parameters`."""

    noun: str
    model: type[Row]
    table: str
    alias: str
    order: Order
    conditions: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    def where(self, condition: str, **parameters: Any) -> None:
        """Narrows the selection by a condition of our own text; what clients sent stands in `parameters` only."""
        self.conditions.append(condition)
        self.parameters |= parameters

    async def one(self, conn: Connection, row_id: UUID) -> bytes:
        """The row as JSON. Raises NotFound when it is not in the selection, for whatever reason."""
        self.where(f"{self.alias}.id = %(row_id)s", row_id=row_id)
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

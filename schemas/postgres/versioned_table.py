"""What creates, changes and deletes of rows with an id, a version and a tombstone have in common.

Such rows are customers, pillars, tasks, time entries and channel mappings.

    TASKS = VersionedTable("task", Task, "tasks")

    create   body: NewRow         `await TASKS.created_before(conn, body)` is the row of an earlier, equal request, or None;
                                  after an INSERT … ON CONFLICT (id) DO NOTHING without a row: `raise TASKS.id_is_taken()`
    change   patch: TaskChange    `await TASKS.lock(conn, task_id, patch.version)`, or your own lock and `TASKS.check_version`;
                                  then `await TASKS.update(conn, task_id, sent_values(patch, nullable=("due_date",)))`
    delete   version: int | None  lock the row in the same way
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from schemas.base import Body, Row, json_object
from schemas.errors import Conflict, Invalid, NotFound
from schemas.postgres.connection import Connection

Model = TypeVar("Model", bound=Row)


class NewRow(Body):
    """A row to create; if the client chooses its `id`, the request can be repeated safely."""

    id: UUID | None = None


@dataclass(frozen=True)
class VersionedTable(Generic[Model]):
    """A table with the columns id, version and deleted_at, and the model of its rows. Error messages call a row `noun`.

    For `created_before` it also has created_from: the fingerprint of the create's body."""

    noun: str
    model: type[Model]
    table: str

    async def created_before(
        self, conn: Connection, body: NewRow, *, condition: str = "true", ids_in_use: str = "", **parameters: Any
    ) -> Model | None:
        """The row that an earlier request with this id and this body has created. None: the body has no id, or a free one.

        - `condition` is SQL on the row `r`, which must be true for the same request. An example: it is of the same customer.
        - `ids_in_use` is SQL for ids that are used outside the table: `UNION ALL SELECT NULL, false …`.
        - `parameters` are bound in both, and `id` is, too.

        Raises Conflict if another row has the id.
        """
        if body.id is None:
            return None
        found = await conn.maybe(
            f"""
            SELECT {json_object(self.model, "r")}::text,
                   coalesce(created_from = %(fingerprint)s, false) AND {condition} AND deleted_at IS NULL
            FROM {self.table} r WHERE id = %(id)s {ids_in_use} LIMIT 1
            """,
            {"id": body.id, "fingerprint": body.fingerprint(), **parameters},
        )
        if found is None:
            return None
        row, same_request = found
        if not same_request:
            raise self.id_is_taken()
        return self.model.from_json(row)

    def id_is_taken(self) -> Conflict:
        """The error for an id that another row has."""
        return Conflict(f"Another {self.noun} has this id; choose a new one.")

    async def lock(self, conn: Connection, row_id: UUID, version: int | None = None) -> Model:
        """Locks the row until the transaction ends, and returns it.

        Raises NotFound if there is no such row, or only a tombstone. Raises Conflict for another version than the expected one.
        """
        found = await conn.value(
            f"""
            SELECT {json_object(self.model, "r")}::text FROM {self.table} r
            WHERE id = %s AND deleted_at IS NULL FOR NO KEY UPDATE
            """,
            (row_id,),
        )
        if found is None:
            raise NotFound(f"There is no such {self.noun}.")
        row = self.model.from_json(found)
        self.check_version(version, row)
        return row

    def check_version(self, expected: int | None, current: Model | dict[str, Any]) -> None:
        """Raises Conflict with the `current` row if the client expects another version of it. None: any version is accepted."""
        if expected is None:
            return
        row = current if isinstance(current, dict) else current.model_dump(mode="json")
        if expected != row["version"]:
            raise Conflict(f"The {self.noun} has changed since you read it.", current=row)

    async def current(self, conn: Connection, row_id: UUID) -> dict[str, Any]:
        """The row as it is answered, for the body of a Conflict. The row must exist, or have a tombstone."""
        row: dict[str, Any] = await conn.value(
            f"SELECT {json_object(self.model, 'r')} FROM {self.table} r WHERE r.id = %s", (row_id,)
        )
        return row

    async def update(self, conn: Connection, row_id: UUID, values: dict[str, Any]) -> Model:
        """Writes the columns `values` of a locked row, and increments its version. Raises Invalid if there are no values."""
        if not values:
            raise Invalid("", "Send at least one field to change.")
        assignments = ", ".join(f"{column} = %({column})s" for column in values)
        row = await conn.value(
            f"""
            UPDATE {self.table} r SET {assignments}, version = version + 1 WHERE id = %(id)s
            RETURNING {json_object(self.model, "r")}::text
            """,
            {**values, "id": row_id},
        )
        return self.model.from_json(row)


def sent_values(patch: Body, *, nullable: Collection[str] = (), exclude: Collection[str] = ()) -> dict[str, Any]:
    """The columns that a change sets, with their values, without `version` and the columns of `exclude`.

    Null is a value for `nullable` columns. For other columns, a field with null counts as not sent.
    """
    sent = patch.model_dump(include=patch.model_fields_set - {"version", *exclude})
    return {name: value for name, value in sent.items() if value is not None or name in nullable}

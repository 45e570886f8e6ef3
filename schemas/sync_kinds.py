"""What an operation of a client that was offline can be. Each does what a route does, by the same function.

Its `data` is that route's body and the `id` of the row. A change says by `baseVersion` what it was made to, so that no edit
is written over another one unseen.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas import editing, offline_timers, tasks
from schemas.base import Row, json_object
from schemas.database import Connection
from schemas.editing import NewTimeEntry, NotesChange, TimeEntryChange
from schemas.errors import Invalid
from schemas.listing import Gone
from schemas.offline_timers import OfflineStart, OfflineStop
from schemas.tasks import NewTask, Task, TaskChange
from schemas.time_entries import TimeEntry
from schemas.timers import Timer
from schemas.users import User


@dataclass(frozen=True)
class Firm:
    """What of the settings it takes to make an entry of a stop."""

    zone: str
    long_seconds: float


@dataclass(frozen=True)
class Asked:
    """An operation; `base` is the version that it was made to. `on_refused`: it was made to what an earlier one had made of the
    row, and that one was refused."""

    kind: str
    data: dict[str, Any]
    base: int | None
    on_refused: bool = False

    @property
    def row_id(self) -> UUID | None:
        """The row's id, if `data` has one."""
        try:
            return UUID(self.data["id"]) if isinstance(self.data.get("id"), str) else None
        except ValueError:
            return None

    @property
    def named(self) -> UUID:
        """The row's id. Raises Invalid without one."""
        if (row_id := self.row_id) is None:
            raise Invalid("id", "Name the row by its id, a UUID; a new row by an id of your own.")
        return row_id

    @property
    def change(self) -> dict[str, Any]:
        """The body of a change: without the id, which a path would carry, and with the version. Raises Invalid."""
        if self.base is None:
            raise Invalid("baseVersion", "Say which version of the row the change was made to; a new row's is 1.")
        return self._body | {"version": self.base}

    @property
    def _body(self) -> dict[str, Any]:
        if "version" in self.data:
            raise Invalid("version", "Say it as baseVersion, beside data.")
        return {name: value for name, value in self.data.items() if name != "id"}

    def is_new(self) -> None:
        """Raises Invalid when the operation names a version, and so is meant for a row that is there."""
        if self.base is not None:
            raise Invalid("baseVersion", "This kind makes a new row, which has no version yet; leave it out.")


Do = Callable[..., Awaitable[Row]]


@dataclass(frozen=True)
class Kind:
    """One kind of operation, and the rows that it is about."""

    do: Do
    model: type[Row]
    table: str
    has_tombstones: bool = True

    async def current(self, conn: Connection, asked: Asked) -> dict[str, Any] | None:
        """The row as it is, or its tombstone; None when there is none."""
        if not self.has_tombstones or asked.row_id is None:
            return None
        cursor = await conn.execute(
            f"""
            SELECT CASE WHEN deleted_at IS NULL THEN {json_object(self.model, "r")}
                        ELSE json_build_object('id', id, 'deleted', true) END
            FROM {self.table} r WHERE id = %s
            """.encode(),
            (asked.row_id,),
        )
        row = await cursor.fetchone()
        return None if row is None else row[0]

    async def missed(self, conn: Connection, asked: Asked, *, by: User) -> dict[str, Any] | None:
        """What became of an operation on a row that is not there, if it once was, and was this user's to change: deleting it
        again is done, anything else has to be decided by a person."""
        current = await self.current(conn, asked)
        if current is None or not current.get("deleted") or not await self._was_theirs(conn, asked, by):
            return None
        if asked.kind == "entry.delete":
            return {"outcome": "applied", "current": current}
        return {"outcome": "conflict", "detail": "It was deleted from elsewhere.", "current": current}

    async def _was_theirs(self, conn: Connection, asked: Asked, by: User) -> bool:
        if self.model is not TimeEntry or by.is_admin:
            return True
        cursor = await conn.execute("SELECT 1 FROM time_entries WHERE id = %s AND user_id = %s", (asked.row_id, by.id))
        return await cursor.fetchone() is not None


async def _put_task(conn: Connection, asked: Asked, *, by: User, firm: Firm) -> Task:
    task_id = asked.named
    if asked.base is None:
        return await tasks.create(conn, NewTask.model_validate(asked.data), by=by)
    return await tasks.change(conn, task_id, TaskChange.model_validate(asked.change), by=by)


async def _start_timer(conn: Connection, asked: Asked, *, by: User, firm: Firm) -> Row:
    asked.is_new()
    return await offline_timers.start(conn, OfflineStart.model_validate(asked.data), user_id=by.id)


async def _stop_timer(conn: Connection, asked: Asked, *, by: User, firm: Firm) -> Row:
    return await offline_timers.stop(conn, OfflineStop.model_validate(asked.data), asked.base, user_id=by.id)


async def _put_entry(conn: Connection, asked: Asked, *, by: User, firm: Firm) -> TimeEntry:
    asked.is_new()
    _ = asked.named
    return await editing.create(conn, NewTimeEntry.model_validate(asked.data), by=by, zone=firm.zone)


async def _patch_entry(conn: Connection, asked: Asked, *, by: User, firm: Firm) -> TimeEntry:
    wanted = TimeEntryChange.model_validate(asked.change)
    await _finish_stop(conn, asked.named, by=by, firm=firm)
    return await editing.change(conn, asked.named, wanted, by=by, zone=firm.zone)


async def _write_notes(conn: Connection, asked: Asked, *, by: User, firm: Firm) -> TimeEntry:
    # a line that is added takes nothing away, whatever else has been written meanwhile
    adds = asked.base is None and asked.data.get("notes") is None and "version" not in asked.data
    body = {name: value for name, value in asked.data.items() if name != "id"} if adds else asked.change
    wanted = NotesChange.model_validate(body)
    await _finish_stop(conn, asked.named, by=by, firm=firm)
    return await editing.write_notes(conn, asked.named, wanted, by=by)


async def _delete_entry(conn: Connection, asked: Asked, *, by: User, firm: Firm) -> Gone:
    entry_id, version = asked.named, asked.change["version"]
    if unknown := set(asked.data) - {"id"}:
        raise Invalid(min(unknown), "There is no such field.")
    await _finish_stop(conn, entry_id, by=by, firm=firm)
    await editing.delete(conn, entry_id, version=version, by=by)
    return Gone(id=entry_id, deleted=True)


async def _finish_stop(conn: Connection, entry_id: UUID, *, by: User, firm: Firm) -> None:
    await offline_timers.finish_stop(conn, entry_id, user_id=by.id, zone=firm.zone, long_seconds=firm.long_seconds)


KINDS = {
    "task.put": Kind(_put_task, Task, "tasks"),
    "timer.start": Kind(_start_timer, Timer, "timers", has_tombstones=False),
    "timer.stop": Kind(_stop_timer, Timer, "timers", has_tombstones=False),
    "entry.put": Kind(_put_entry, TimeEntry, "time_entries"),
    "entry.patch": Kind(_patch_entry, TimeEntry, "time_entries"),
    "entry.notes": Kind(_write_notes, TimeEntry, "time_entries"),
    "entry.delete": Kind(_delete_entry, TimeEntry, "time_entries"),
}

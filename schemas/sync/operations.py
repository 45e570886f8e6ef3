"""The kinds of operations that a client can queue while it is offline. Each does what a route does, with the same function.

An operation's `data` is the body of that route and the `id` of the row. A change names in `baseVersion` the version that it was
made to, so that it does not overwrite another user's change unnoticed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.base import Row, json_object
from schemas.customers import tasks
from schemas.customers.tasks import NewTask, Task, TaskChange
from schemas.errors import Invalid
from schemas.hours import entry_changes, entry_creation
from schemas.hours.entry_changes import NotesChange, TimeEntryChange
from schemas.hours.entry_creation import NewTimeEntry
from schemas.hours.entry_rules import EntryRules
from schemas.hours.time_entries import TimeEntry
from schemas.hours.timer_stops import Timer
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Tombstone
from schemas.sync import offline_timers
from schemas.sync.offline_timers import OfflineStart, OfflineStop


@dataclass(frozen=True)
class Command:
    """An operation to execute. `base_version` is the version that the change was made to. `builds_on_refused`: it was made
    after another change to the same row, which was refused."""

    kind: str
    data: dict[str, Any]
    base_version: int | None
    builds_on_refused: bool = False

    @property
    def row_id(self) -> UUID | None:
        """The row's id, if `data` has one."""
        try:
            return UUID(self.data["id"]) if isinstance(self.data.get("id"), str) else None
        except ValueError:
            return None

    @property
    def required_id(self) -> UUID:
        """The row's id. Raises Invalid without one."""
        if (row_id := self.row_id) is None:
            raise Invalid("id", "Send the row's id, a UUID; for a new row an id that you generate.")
        return row_id

    @property
    def change(self) -> dict[str, Any]:
        """The route's body of a change: `data` without the id, which a route has in its path, and with the version. Raises
        Invalid."""
        if self.base_version is None:
            raise Invalid("baseVersion", "Send the version of the row that the change was made to; a new row's is 1.")
        return self.data_without_id | {"version": self.base_version}

    @property
    def data_without_id(self) -> dict[str, Any]:
        """`data` as a route would get it. Raises Invalid for a version in it."""
        if "version" in self.data:
            raise Invalid("version", "Send it as the operation's baseVersion, not in data.")
        return {name: value for name, value in self.data.items() if name != "id"}

    def require_new(self) -> None:
        """Raises Invalid when the operation has a version, since it is meant to create a row."""
        if self.base_version is not None:
            raise Invalid("baseVersion", "This kind creates a row, which has no version yet; leave it out.")


Execute = Callable[..., Awaitable[Row]]


@dataclass(frozen=True)
class OperationKind:
    """One kind of operation, and the table of its rows. `execute(conn, command, by=, rules=)` returns the row as it is then."""

    execute: Execute
    model: type[Row]
    table: str
    has_tombstones: bool = True

    async def current(self, conn: Connection, command: Command) -> dict[str, Any] | None:
        """The row as it is now, or its tombstone; None when there is none."""
        if not self.has_tombstones or command.row_id is None:
            return None
        row: dict[str, Any] | None = await conn.value(
            f"""
            SELECT CASE WHEN deleted_at IS NULL THEN {json_object(self.model, "r")}
                        ELSE json_build_object('id', id, 'deleted', true) END
            FROM {self.table} r WHERE id = %s
            """,
            (command.row_id,),
        )
        return row

    async def result_for_missing_row(self, conn: Connection, command: Command, *, by: User) -> dict[str, Any] | None:
        """The result of an operation on a deleted row: deleting it again is applied, anything else is a conflict, which a
        person has to resolve. None when there was no such row, or the user was not allowed to change it."""
        current = await self.current(conn, command)
        if current is None or not current.get("deleted") or not await self._was_own(conn, command, by):
            return None
        if command.kind == "entry.delete":
            return {"outcome": "applied", "current": current}
        return {"outcome": "conflict", "detail": "It was deleted by another client.", "current": current}

    async def _was_own(self, conn: Connection, command: Command, by: User) -> bool:
        if self.model is not TimeEntry or by.is_admin:
            return True
        own = await conn.maybe("SELECT 1 FROM time_entries WHERE id = %s AND user_id = %s", (command.row_id, by.id))
        return own is not None


async def _put_task(conn: Connection, command: Command, *, by: User, rules: EntryRules) -> Task:
    task_id = command.required_id
    if command.base_version is None:
        return await tasks.create(conn, NewTask.model_validate(command.data), by=by)
    return await tasks.change(conn, task_id, TaskChange.model_validate(command.change), by=by)


async def _start_timer(conn: Connection, command: Command, *, by: User, rules: EntryRules) -> Row:
    command.require_new()
    return await offline_timers.start(conn, OfflineStart.model_validate(command.data), user_id=by.id)


async def _stop_timer(conn: Connection, command: Command, *, by: User, rules: EntryRules) -> Row:
    return await offline_timers.stop(conn, OfflineStop.model_validate(command.data), command.base_version, user_id=by.id)


async def _put_entry(conn: Connection, command: Command, *, by: User, rules: EntryRules) -> TimeEntry:
    command.require_new()
    _ = command.required_id
    return await entry_creation.create(conn, NewTimeEntry.model_validate(command.data), by=by, rules=rules)


async def _patch_entry(conn: Connection, command: Command, *, by: User, rules: EntryRules) -> TimeEntry:
    patch = TimeEntryChange.model_validate(command.change)
    await _create_pending_entry(conn, command.required_id, by=by, rules=rules)
    return await entry_changes.change(conn, command.required_id, patch, by=by, rules=rules)


async def _write_notes(conn: Connection, command: Command, *, by: User, rules: EntryRules) -> TimeEntry:
    # appending a line needs no version: it overwrites nothing, whatever the notes contain by now
    only_appends = command.base_version is None and command.data.get("notes") is None and "version" not in command.data
    body = command.data_without_id if only_appends else command.change
    patch = NotesChange.model_validate(body)
    await _create_pending_entry(conn, command.required_id, by=by, rules=rules)
    return await entry_changes.write_notes(conn, command.required_id, patch, by=by)


async def _delete_entry(conn: Connection, command: Command, *, by: User, rules: EntryRules) -> Tombstone:
    entry_id, version = command.required_id, command.change["version"]
    if unknown := set(command.data) - {"id"}:
        raise Invalid(min(unknown), "There is no such field.")
    await _create_pending_entry(conn, entry_id, by=by, rules=rules)
    await entry_changes.delete(conn, entry_id, version=version, by=by)
    return Tombstone(id=entry_id, deleted=True)


async def _create_pending_entry(conn: Connection, entry_id: UUID, *, by: User, rules: EntryRules) -> None:
    await offline_timers.create_pending_entry(conn, entry_id, user_id=by.id, zone=rules.zone)


KINDS = {
    "task.put": OperationKind(_put_task, Task, "tasks"),
    "timer.start": OperationKind(_start_timer, Timer, "timers", has_tombstones=False),
    "timer.stop": OperationKind(_stop_timer, Timer, "timers", has_tombstones=False),
    "entry.put": OperationKind(_put_entry, TimeEntry, "time_entries"),
    "entry.patch": OperationKind(_patch_entry, TimeEntry, "time_entries"),
    "entry.notes": OperationKind(_write_notes, TimeEntry, "time_entries"),
    "entry.delete": OperationKind(_delete_entry, TimeEntry, "time_entries"),
}

"""What is known of a time bill's entry in Xero: one row per bill, written before each call and after it.

nothing known            no entry there
attempted, unsure        a creation went out, and its answer was lost: look for it by its mark
attempted, not unsure    looked, and not found; it may still be done for a while
entry_ids                it is there
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from schemas.clients.xero import Entry, Time
from schemas.database import Connection


@dataclass(frozen=True)
class Known:
    """The row, read under its lock; without a row, as if nothing were known. `attempt_age` is in seconds."""

    withdrawing: bool = False
    tenant_id: str | None = None
    project_id: str | None = None
    entry_ids: tuple[str, ...] = ()
    revision: int = 0
    written: Time | None = None
    attempt_age: float | None = None
    unsure: bool = False
    looked_pages: int = 0
    entry_status: str | None = None
    refused: bool = False
    note: str | None = None
    turn_at: datetime | None = None
    busy: bool = False  # another message is calling for this bill

    @property
    def may_exist(self) -> bool:
        """Whether the bill has an entry in Xero, or may have one."""
        return bool(self.entry_ids) or self.attempt_age is not None


async def lock(conn: Connection, bill_id: UUID, *, message_id: UUID) -> Known:
    """The row of a locked bill, made if there is none, locked."""
    await conn.execute("INSERT INTO xero_entries (bill_id) VALUES (%s) ON CONFLICT DO NOTHING", (bill_id,))
    cursor = await conn.execute(
        """
        SELECT withdrawing, tenant_id, project_id, entry_ids, revision, written,
               extract(epoch FROM clock_timestamp() - attempted_at)::float, unsure, looked_pages, entry_status, refused,
               note, turn_at,
               EXISTS (SELECT FROM messages m WHERE m.id = held_by AND m.id <> %s AND m.state = 'calling')
        FROM xero_entries WHERE bill_id = %s FOR NO KEY UPDATE
        """,
        (message_id, bill_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    withdrawing, tenant_id, project_id, entry_ids, revision, written, *rest = row
    time = None if written is None else Time.model_validate(written)
    return Known(withdrawing, tenant_id, project_id, tuple(entry_ids), revision, time, *rest)


async def may_exist(conn: Connection, bill_id: UUID) -> bool:
    """Whether a locked bill has an entry in Xero, or may have one."""
    cursor = await conn.execute(
        "SELECT 1 FROM xero_entries WHERE bill_id = %s AND (entry_ids <> '{}' OR attempted_at IS NOT NULL)", (bill_id,)
    )
    return await cursor.fetchone() is not None


async def is_withdrawing(conn: Connection, bill_id: UUID) -> bool:
    """Whether an admin has reopened the bill, and its entry has to go."""
    cursor = await conn.execute("SELECT 1 FROM xero_entries WHERE bill_id = %s AND withdrawing", (bill_id,))
    return await cursor.fetchone() is not None


async def withdraw(conn: Connection, bill_id: UUID) -> None:
    """An admin reopens a locked bill: its entry has to go."""
    await conn.execute("UPDATE xero_entries SET withdrawing = true, note = NULL WHERE bill_id = %s", (bill_id,))


async def withdrawn(conn: Connection, bill_id: UUID) -> None:
    """It is gone."""
    await conn.execute("UPDATE xero_entries SET withdrawing = false, attempted_at = NULL WHERE bill_id = %s", (bill_id,))


async def stays(conn: Connection, bill_id: UUID, *, status: str, note: str) -> None:
    """The entry is locked or invoiced: it cannot go, and need not be asked about any more."""
    await conn.execute(
        """
        UPDATE xero_entries
        SET note = CASE WHEN withdrawing THEN %s END, withdrawing = false, entry_status = %s, refused = false, checked_at = NULL
        WHERE bill_id = %s
        """,
        (note, status, bill_id),
    )


async def hold(conn: Connection, bill_id: UUID, *, message_id: UUID) -> None:
    """This message calls for the bill now, and its turn is used up."""
    await conn.execute("UPDATE xero_entries SET held_by = %s, turn_at = NULL WHERE bill_id = %s", (message_id, bill_id))


async def stand_in_line(conn: Connection, bill_id: UUID, *, seconds: float) -> None:
    """The bill's turn comes in so many seconds."""
    await conn.execute(
        "UPDATE xero_entries SET turn_at = clock_timestamp() + make_interval(secs => %s) WHERE bill_id = %s", (seconds, bill_id)
    )


async def attempt(conn: Connection, bill_id: UUID, *, tenant_id: str, project_id: str, time: Time, revision: int) -> None:
    """A creation is about to go out; until its outcome is known, it may have been done."""
    await conn.execute(
        """
        UPDATE xero_entries
        SET tenant_id = %s, project_id = %s, written = %s, revision = %s, attempted_at = clock_timestamp(), unsure = true,
            looked_pages = 0
        WHERE bill_id = %s
        """,
        (tenant_id, project_id, Jsonb(time.model_dump(mode="json")), revision, bill_id),
    )


async def not_done(conn: Connection, bill_id: UUID, *, before: Known) -> None:
    """The creation was surely not done; one that went out before it may have been."""
    await conn.execute(
        """
        UPDATE xero_entries
        SET unsure = false, attempted_at = clock_timestamp() - make_interval(secs => %s::float) WHERE bill_id = %s
        """,
        (before.attempt_age, bill_id),
    )


async def found(conn: Connection, bill_id: UUID, entries: list[Entry]) -> None:
    """These are in Xero for the bill, the first of them to stay."""
    await conn.execute(
        """
        UPDATE xero_entries
        SET entry_ids = %s, written = %s, entry_status = %s, attempted_at = NULL, unsure = false, looked_pages = 0,
            refused = false, checked_at = clock_timestamp()
        WHERE bill_id = %s
        """,
        ([entry.id for entry in entries], Jsonb(entries[0].time.model_dump(mode="json")), entries[0].status, bill_id),
    )


async def not_found(conn: Connection, bill_id: UUID, *, pages: int, last: bool) -> None:
    """So many pages were looked through in vain; after the `last` one it is not there, or not yet."""
    await conn.execute(
        "UPDATE xero_entries SET unsure = NOT %s, looked_pages = %s WHERE bill_id = %s", (last, 0 if last else pages, bill_id)
    )


async def look_again(conn: Connection, bill_id: UUID) -> None:
    """What was looked for too early is to be looked for once more."""
    await conn.execute("UPDATE xero_entries SET unsure = true WHERE bill_id = %s AND attempted_at IS NOT NULL", (bill_id,))


async def gone(conn: Connection, bill_id: UUID, entry_id: str) -> None:
    """This entry is not in Xero any more."""
    await conn.execute(
        """
        UPDATE xero_entries
        SET entry_ids = array_remove(entry_ids, %s), refused = false,
            checked_at = CASE WHEN array_remove(entry_ids, %s) <> '{}' THEN checked_at END
        WHERE bill_id = %s
        """,
        (entry_id, entry_id, bill_id),
    )


async def rewritten(conn: Connection, bill_id: UUID, time: Time) -> None:
    """The entry says this now."""
    await conn.execute(
        "UPDATE xero_entries SET written = %s, refused = false WHERE bill_id = %s",
        (Jsonb(time.model_dump(mode="json")), bill_id),
    )


async def refused(conn: Connection, bill_id: UUID, *, refused: bool) -> None:
    """Xero would not change or delete the entry; or, now that it was read, nothing is in the way."""
    await conn.execute("UPDATE xero_entries SET refused = %s WHERE bill_id = %s", (refused, bill_id))

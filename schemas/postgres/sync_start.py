"""The start of a client's changes, from the cursor or the time that it sends as `lastSyncTimestamp`."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from schemas.errors import Invalid
from schemas.postgres import sync_epochs
from schemas.postgres.connection import Connection
from schemas.postgres.sync_cursor import CURSOR_PATTERN, Since

# For clients that send a time instead: the longest time between the `updated_at` of a row and its commit.
OVERLAP = timedelta(minutes=5)
TOMBSTONE_DAYS = 90
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


async def parse_cursor(conn: Connection, text: str, *, field: str = "lastSyncTimestamp") -> tuple[Since, bool]:
    """The start of the client's changes, and whether the client must start again with all rows.

    `text` is the value of a client's `field`: the `syncTimestamp` of an earlier response, or a time (RFC 3339, or milliseconds
    since 1970). Raises Invalid for any other text.

    A client that sends a cursor must start again if

    - the cursor is of another database, or is in the future of this one;
    - it was issued in an earlier epoch, after the position up to which this database is known to contain that epoch's WAL.

    A client that sends a time must start again if

    - tombstones are kept for a shorter time;
    - writes since that time may have been lost.
    """
    cursor, time = CURSOR_PATTERN.fullmatch(text), None
    if cursor is None and (time := _parse_time(text)) is None:
        raise Invalid(
            field,
            "Send the syncTimestamp of an earlier response, or a time such as 2026-11-23T09:30:00Z or milliseconds since 1970.",
        )
    name, xid = (UUID(cursor[1]), int(cursor[2])) if cursor is not None else (UUID(int=0), 0)
    since = Since(xid=xid) if time is None else Since(time=max(time, _BEGINNING + OVERLAP) - OVERLAP)
    state = await _State.read(conn, name, since)
    if state.epoch is None and await sync_epochs.begin(conn):
        state = await _State.read(conn, name, since)
    since = replace(since, epoch=state.epoch)
    if time is not None:
        oldest = state.now - timedelta(days=TOMBSTONE_DAYS)
        return since, not (oldest < time <= state.now + OVERLAP and state.unbroken_since_time)
    is_known = state.is_current or state.is_earlier or (name == state.installation and state.never_broken)
    is_valid = is_known and xid <= state.next_xid
    return replace(since, xid=xid if is_valid else 0), not is_valid


@dataclass(frozen=True)
class _State:
    """What the database knows of a cursor or a time."""

    next_xid: Decimal
    now: datetime
    installation: UUID  # the first part of cursors before version 0.3.0
    epoch: int | None  # of the running server
    is_current: bool  # the cursor was issued in it
    is_earlier: bool  # the cursor was issued in an earlier epoch, and nothing of what its reader saw was lost
    never_broken: bool  # this database was never recovered or restored since it has epochs
    unbroken_since_time: bool  # nothing was lost since the time

    @staticmethod
    async def read(conn: Connection, name: UUID, since: Since) -> "_State":
        epoch, position = divmod(name.int, 2**64)
        return await conn.one(
            """
            SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric AS next_xid, now(), i.id AS installation,
                   c.id AS epoch, coalesce(c.id = %(epoch)s, false) AS is_current,
                   c.id IS NOT NULL AND EXISTS (
                       SELECT FROM sync_epochs e
                       WHERE e.id = %(epoch)s AND %(position)s::pg_lsn <= e.position
                           AND e.valid_below <> '0' AND %(xid)s::numeric <= e.valid_below::text::numeric) AS is_earlier,
                   coalesce(c.unbroken_since = '-infinity', false) AS never_broken,
                   coalesce(c.unbroken_since <= %(time)s, false) AND NOT EXISTS (
                       -- nothing was answered then, unless these are the files of an earlier moment
                       SELECT FROM sync_epochs e WHERE e.recorded_at < %(sent)s AND %(sent)s < e.ended_at
                   ) AS unbroken_since_time
            FROM installation i LEFT JOIN sync_epochs c ON c.id = (SELECT sync_epoch())
            """,
            {
                "epoch": epoch if epoch < 2**63 else None,
                "position": f"{position >> 32:X}/{position & 0xFFFFFFFF:X}",
                "xid": since.xid,
                "time": since.time,
                "sent": None if since.time is None else since.time + OVERLAP,
            },
            row=_State,
        )


def _parse_time(text: str) -> datetime | None:
    try:
        if re.fullmatch(r"[0-9]{1,15}", text):
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        # a + that was not escaped in the URL is decoded as a space
        time = datetime.fromisoformat(text.replace(" ", "+") if " " in text.partition("T")[2] else text)
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None

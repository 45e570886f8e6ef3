"""The sync cursor: how a client asks for what changed since it last looked, and misses no write that commits late.

Rows carry the id of the transaction that changed them (`changed_xid`, by a trigger). An answer's `syncTimestamp` names this
database and the oldest transaction that was still running when the answer was read: whatever is of that transaction or a later
one is read next time. A row may so come twice, but never not at all; clocks cannot promise that.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.database import Connection
from schemas.errors import Invalid

# of the statement that it stands in, whose table or alias `installation` is
SYNC_TIMESTAMP = "installation.id::text || '.' || pg_snapshot_xmin(pg_current_snapshot())::text"
OURS = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,20})")

# For clients that keep a time instead: how far a transaction's commit may lag behind the time that its rows carry.
OVERLAP = timedelta(minutes=5)
TOMBSTONE_DAYS = 90


@dataclass(frozen=True)
class Since:
    """From where on a client wants changes: a transaction, or a time for those that keep one."""

    xid: int = 0
    time: datetime | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {"since_xid": str(self.xid), "since_time": self.time}

    def of(self, alias: str) -> str:
        """The condition on a row of `alias`."""
        if self.time is not None:
            return f"{alias}.updated_at >= %(since_time)s"
        return f"{alias}.changed_xid >= %(since_xid)s::xid8"


async def read(conn: Connection, text: str, *, field: str = "lastSyncTimestamp") -> tuple[Since, bool]:
    """What a `lastSyncTimestamp`, or another `field`, means here: a `syncTimestamp` of ours, or a plain time (RFC 3339, or
    milliseconds since 1970).

    True beside it when the client has to start over: the cursor is another database's, or lies in this one's future, or the
    time is older than tombstones are promised to live. Raises Invalid for what is neither.
    """
    cursor = await conn.execute(
        "SELECT id::text, pg_snapshot_xmax(pg_current_snapshot())::text::numeric, now() FROM installation"
    )
    row = await cursor.fetchone()
    assert row is not None
    installation, next_xid, now = row
    if (ours := OURS.fullmatch(text)) is not None:
        known = ours[1] == installation and int(ours[2]) <= next_xid
        return Since(xid=int(ours[2]) if known else 0), not known
    if (time := _plain_time(text)) is None:
        raise Invalid(
            field,
            "Send the syncTimestamp of an earlier answer, or a time such as 2026-11-23T09:30:00Z or milliseconds since 1970.",
        )
    if not now - timedelta(days=TOMBSTONE_DAYS) < time <= now + OVERLAP:
        return Since(), True
    return Since(time=time - OVERLAP), False


def _plain_time(text: str) -> datetime | None:
    try:
        if re.fullmatch(r"[0-9]{1,15}", text):
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        # a + that was not escaped in the URL arrives as a space
        time = datetime.fromisoformat(text.replace(" ", "+") if re.search(r"T.* ", text) else text)
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None

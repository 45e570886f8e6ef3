"""The sync cursor: a client gets all rows that changed since its last request, including writes that committed late.

A trigger stores in each row the id of the transaction that changed it (`changed_xid`). The `syncTimestamp` of a response
contains the oldest transaction that was still running when the response was read. The next request returns the rows of that
transaction and of all later ones. So a row may be returned twice, but is never skipped. Timestamps cannot guarantee that.

Transaction ids are unique only within an epoch (sync_epochs.py). So the cursor also contains the epoch, and a position in the
WAL: everything that the client has seen was written before it. A cursor of an earlier epoch is valid if this database contains
the WAL up to that position.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.postgres import sync_epochs
from schemas.postgres.connection import Connection

# SQL for the cursor of the statement that contains it, to be read with `issued`; null: the server has no epoch. Within a
# statement it is evaluated once, after the snapshot was taken: what the snapshot shows was written before that position.
CURSOR = """(SELECT sync_epoch()::text
    || ' ' || CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text
    || ' ' || pg_snapshot_xmin(pg_current_snapshot())::text)"""
# To a client it is opaque. The first part has the form of a UUID, which it was before version 0.3.0: the API processes of that
# version, which may still run, take it for the cursor of another database.
CURSOR_PATTERN = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,20})")
UNTRUSTED = f"{UUID(int=0)}.0"  # a cursor of no epoch: with it, a client starts again

_ATTEMPTS = 3


class EpochChanged(Exception):
    """The statement was executed in another epoch than the check of the client's cursor, or in no epoch."""


@dataclass(frozen=True)
class Since:
    """The start of a client's changes: a transaction id, or a time for clients that send a time. It is valid in `epoch`."""

    xid: int = 0
    time: datetime | None = None
    epoch: int | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {"since_xid": str(self.xid), "since_time": self.time}

    def condition(self, alias: str) -> str:
        """SQL: whether the row of `alias` has changed since then."""
        if self.time is not None:
            return f"{alias}.updated_at >= %(since_time)s"
        return f"{alias}.changed_xid >= %(since_xid)s::xid8"


def issued(found: bytes | None, since: Since | None, *, trusted: bool) -> str:
    """The cursor as a client gets it. `found` is the value of CURSOR in the statement that has read the rows since `since`.

    If the cursor must not be trusted, it is UNTRUSTED. Raises EpochChanged if the statement was executed in another epoch.
    """
    if not trusted:
        return UNTRUSTED
    if found is None:
        raise EpochChanged
    epoch, position, xid = found.decode().split(" ")
    if since is not None and since.epoch != int(epoch):
        raise EpochChanged
    high, _, low = position.partition("/")
    return f"{UUID(int=int(epoch) << 64 | int(high, 16) << 32 | int(low, 16))}.{xid}"


async def in_one_epoch(conn: Connection, read: Callable[[bool], Awaitable[bytes]]) -> bytes:
    """The answer of `read(True)`, which checks the client's cursor and reads the rows, in two statements.

    Between these statements, a pooler may switch to another server. Then both are executed again. If the server has no epoch,
    and none can begin, it is the answer of `read(False)`, which contains UNTRUSTED.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await read(True)
        except EpochChanged:
            if not await sync_epochs.begin(conn):
                break
    return await read(False)

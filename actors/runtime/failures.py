"""Records failed attempts, and the effect of a dead message on the row that the message is about.

Workers and relays both make messages dead, so both need ON_DEAD_LETTER. It is a table that both import: what happens must not
depend on which other modules a process has imported.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from schemas.messages import SyncBill
from schemas.outbox import failed_attempts
from schemas.outbox.failed_attempts import Failure
from schemas.outbox.outbox import Record, State
from schemas.postgres.connection import Connection
from schemas.xero import bill_sync

# By the message's actor: called with the body of a message that has just become dead, in the same transaction.
ON_DEAD_LETTER: Mapping[str, Callable[[Connection, dict[str, Any]], Awaitable[None]]] = {SyncBill.actor: bill_sync.mark_failed}


async def record_failure(conn: Connection, record: Record, failure: Failure, *, base_seconds: float) -> State:
    """Records a failed attempt of a locked message in the caller's transaction. Returns its new state: `ready`, to be retried,
    or `dead`. The wait before a retry starts at `base_seconds` and doubles with each attempt."""
    state = await failed_attempts.record_failed_attempt(conn, record, failure, base_seconds=base_seconds)
    if state is State.dead and record.actor in ON_DEAD_LETTER:
        await ON_DEAD_LETTER[record.actor](conn, record.body)
    return state

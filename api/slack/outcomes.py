"""What became of a change whose transaction ended without an answer of Postgres: it may be committed all the same."""

import asyncio
import time
from dataclasses import dataclass

from schemas.postgres.connection import UNREACHABLE
from schemas.postgres.pool import Database
from schemas.slack import deduplication

SETTLE_SECONDS = 60.0  # that Stint tries to find out, while Postgres does not answer
PAUSE_SECONDS = 0.5
UNKNOWN = (
    "Sorry, Stint can't reach its database, and does not know whether this was done. Look at `/task status` or `/task today` "
    "before you press the button again."
)


@dataclass
class Attempt:
    """One try to make a change, whose transaction records the key first. `began`: the transaction may have begun."""

    key: str
    began: bool = False


async def is_done(database: Database, attempt: Attempt) -> bool | None:
    """Whether the change was made, which is final: if it was not, it will not be made any more. None: Postgres does not answer.

    Recording the key waits for the end of a transaction that has recorded it. If it is new, that transaction did not get so
    far, and does nothing when it comes to it."""
    if not attempt.began:
        return False
    until, undone = time.monotonic() + SETTLE_SECONDS, f"undone:{attempt.key}"
    while time.monotonic() < until:
        try:
            async with database.transaction(queued=False) as conn:
                if await deduplication.record_once(conn, attempt.key):
                    await deduplication.record_once(conn, undone)
                    return False
                return not await deduplication.is_recorded(conn, undone)
        except UNREACHABLE:  # perhaps during the COMMIT: then the next try finds what this one has recorded
            await asyncio.sleep(PAUSE_SECONDS)
    return None


async def apology(database: Database, attempt: Attempt | None, text: str, *, waits: bool) -> str | None:
    """What a person reads whose button got no result: `text`, the reason, if the change was not made. None if it was made: then
    its transaction has enqueued the answer. Without `waits`, the outcome of an attempt that began counts as unknown."""
    if attempt is None or not attempt.began:
        return text
    match await is_done(database, attempt) if waits else None:
        case True:
            return None
        case False:
            return text
        case None:
            return UNKNOWN

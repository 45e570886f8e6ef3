"""What became of a change whose transaction ended without an answer of Postgres: it may be committed all the same."""

import asyncio
import time
from dataclasses import dataclass

from schemas.postgres.connection import UNREACHABLE
from schemas.postgres.pool import Database
from schemas.slack import deduplication

SETTLE_SECONDS = 60.0  # that Stint tries to find out, while Postgres does not answer
PAUSE_SECONDS = 0.5


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
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until:
        try:
            async with database.transaction(queued=False) as conn:
                is_new = await deduplication.record_once(conn, attempt.key)
        except UNREACHABLE:
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return not is_new
    return None

"""Dead letters: messages that will not be retried automatically, and unrecognized messages, which arrived through RabbitMQ but
have no row in `messages`. Lists of both.

Everything is returned for people to read, so all of it is redacted (schemas/masking.py): in a thread, because an API process
answers other requests meanwhile.
"""

import asyncio
import json
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Row
from schemas.masking import Redactor
from schemas.outbox.dead_letters.selecting import DeadLetterFilter, DeadLetterState, filter_sql, state_sql
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection

Kind = Literal["message", "unrecognized"]
KINDS: tuple[Kind, ...] = ("message", "unrecognized")
TABLES = ("dead_messages", "listed_unrecognized_messages")  # of each kind


class DeadLetter(Row):
    """A dead letter in a list."""

    id: UUID
    kind: Annotated[
        Kind, Field(description="unrecognized: arrived through RabbitMQ, but was not sent by Stint; cannot be replayed")
    ]
    actor: str | None
    queue: str
    state: DeadLetterState
    error: Annotated[str | None, Field(description="the error of the last attempt")]
    fingerprint: Annotated[
        str | None,
        Field(description="its group: dead letters with the same actor, error, frame and words of the error"),
    ]
    attempts: int
    replays: Annotated[int, Field(description="how often it was replayed")]
    created_at: datetime
    died_at: datetime


async def list_page(
    conn: Connection,
    page: Page,
    filters: DeadLetterFilter,
    redactor: Redactor,
    *,
    state: DeadLetterState = "dead",
    kind: Kind | None = None,
) -> bytes:
    """A page of dead letters as JSON, the latest death first. `kind`: only these."""
    selection = Selection("dead letter", DeadLetter, "dead_letters", "m", Order("died_at", "timestamptz"))
    selection.union_of = TABLES if kind is None else (TABLES[KINDS.index(kind)],)
    condition = filter_sql(filters)
    selection.where(condition.text, **condition.parameters)
    selection.where(state_sql(state))
    return await asyncio.to_thread(_redact_page, await selection.page(conn, page), redactor)


def _redact_page(content: bytes, redactor: Redactor) -> bytes:
    found = json.loads(content)
    # each error separately: in the whole text, a pattern could match from one dead letter into another
    found["items"] = [item | {"error": item["error"] and redactor.text(item["error"])} for item in found["items"]]
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()

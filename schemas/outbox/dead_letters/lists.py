"""Dead letters: messages that will not be retried automatically, and unrecognized messages, which arrived through RabbitMQ but
have no row in `messages`. Lists and groups. Details are in details.py, actions in actions.py.

Everything is returned for people to read, so all of it is redacted (schemas/masking.py): in a thread, because an API process
answers other requests meanwhile.
"""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Instant, Row
from schemas.masking import Redactor
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection, contains_pattern

Kind = Literal["message", "unrecognized"]
KINDS: tuple[Kind, ...] = ("message", "unrecognized")
TABLES = ("dead_messages", "listed_unrecognized_messages")  # of each kind
DeadLetterState = Literal["dead", "discarded"]


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
        Field(description="its group: dead letters with the same actor, error and frame, and refused for one reason"),
    ]
    attempts: int
    replays: Annotated[int, Field(description="how often it was replayed")]
    created_at: datetime
    died_at: datetime


class Group(Row):
    """Dead letters with the same actor, error and frame; if another system refused the call, for the same reason."""

    fingerprint: str
    actor: str
    error: Annotated[str, Field(description="the class of the error")]
    frame: Annotated[
        str, Field(description="the innermost stack frame in Stint's own code, as file:function; empty if there is none")
    ]
    count: Annotated[int, Field(description="dead letters now")]
    first: datetime
    last: datetime
    replayed: Annotated[int, Field(description="messages of this group that were replayed at least once, in any state now")]
    failed_again: Annotated[int, Field(description="of those, the ones that are dead now")]
    example: Annotated[str | None, Field(description="the whole error of the latest dead letter")]


class Groups(Row):
    """All groups, the latest death first, and totals."""

    items: list[Group]
    dead: Annotated[int, Field(description="dead letters in all groups")]
    unrecognized: Annotated[int, Field(description="unrecognized messages that were not discarded")]


class DeadLetterFilter(Body):
    """Selects dead letters that meet all conditions that are given."""

    actor: Annotated[str | None, Field(max_length=100, examples=["send_mail"])] = None
    queue: Annotated[str | None, Field(max_length=100)] = None
    group: Annotated[str | None, Field(alias="fingerprint", max_length=64, description="the fingerprint of a group")] = None
    since: Annotated[Instant | None, Field(description="died at this time or later")] = None
    until: Annotated[Instant | None, Field(description="died before this time")] = None
    q: Annotated[
        str | None, Field(min_length=1, max_length=200, description="text in the error or the body; upper and lower case match")
    ] = None


@dataclass(frozen=True)
class SqlCondition:
    """A condition on dead letters `m`, and its parameters."""

    text: str
    parameters: dict[str, Any]


def filter_sql(filters: DeadLetterFilter) -> SqlCondition:
    """The filter as SQL. The text in `q` is matched literally."""
    conditions = {
        "actor": "m.actor = %(actor)s",
        "queue": "m.queue = %(queue)s",
        "group": "m.fingerprint = %(group)s",
        "since": "m.died_at >= %(since)s",
        "until": "m.died_at < %(until)s",
        "q": "(m.error ILIKE %(q)s OR m.body::text ILIKE %(q)s)",
    }
    given = {name: value for name, value in filters.model_dump().items() if value is not None}
    text = " AND ".join(conditions[name] for name in given) or "true"
    if "q" in given:
        given["q"] = contains_pattern(str(given["q"]))
    return SqlCondition(text, given)


def state_sql(state: DeadLetterState) -> str:
    """The state as a condition on dead letters `m`. A literal, because a cached plan for a bound parameter could not use the
    partial index on dead messages."""
    return {"dead": "m.state = 'dead'", "discarded": "m.state = 'discarded'"}[state]


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


async def list_groups(conn: Connection, redactor: Redactor) -> Groups:
    """All groups that have dead letters now."""
    items = await conn.all(
        """
        SELECT g.fingerprint, g.actor, g.error_class AS error, g.frame, dead.count, dead.first, dead.last,
               (SELECT count(*) FROM messages r WHERE r.fingerprint = g.fingerprint AND r.replays > 0) AS replayed,
               (SELECT count(*) FROM messages r WHERE r.fingerprint = g.fingerprint AND r.replays > 0 AND r.state = 'dead')
                   AS failed_again,
               (SELECT error FROM messages l WHERE l.fingerprint = g.fingerprint AND l.state = 'dead'
                ORDER BY l.died_at DESC LIMIT 1) AS example
        FROM (
            SELECT fingerprint, count(*) AS count, min(died_at) AS first, max(died_at) AS last
            FROM messages WHERE state = 'dead' GROUP BY fingerprint
        ) dead JOIN failure_groups g ON g.fingerprint = dead.fingerprint
        ORDER BY dead.last DESC
        """,
        row=Group,
    )
    examples = await asyncio.to_thread(lambda: [redactor.text(group.example or "") for group in items])
    return Groups(
        items=[group.model_copy(update={"example": example}) for group, example in zip(items, examples, strict=True)],
        dead=sum(group.count for group in items),
        unrecognized=await conn.value("SELECT count(*) FROM unrecognized_messages WHERE discarded_at IS NULL"),
    )

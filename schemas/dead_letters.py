"""Dead letters: messages that nobody will try again by themselves, and foreign letters, which came through RabbitMQ and are no
messages of ours. Found, understood, discarded, restored and edited here; replayed by schemas/replays.py.

Whatever is read here is shown to people, so it is masked (schemas/masking.py) on its way out.
"""

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Instant, Row, json_object
from schemas.database import Connection, one_json
from schemas.errors import NotFound
from schemas.ledger import State
from schemas.listing import Order, Page, Selection
from schemas.masking import masked, masked_text

Kind = Literal["message", "foreign"]
LetterState = Literal["dead", "discarded"]
RELATED = 100  # messages that a letter caused, as shown
SHOWN_BYTES = 256 * 1024  # of a foreign letter: RabbitMQ takes 128 MB, and masking that would keep everybody else waiting


class DeadLetter(Row):
    """A dead letter, as listed."""

    id: UUID
    kind: Annotated[Kind, Field(description="foreign: came through RabbitMQ and is no message of ours; can't be replayed")]
    actor: str | None
    queue: str
    state: LetterState
    error: Annotated[str | None, Field(description="what it died of, the last time")]
    fingerprint: Annotated[str | None, Field(description="its group's: letters of one actor that died of the same thing")]
    attempts: int
    replays: Annotated[int, Field(description="how often it was replayed")]
    created_at: datetime
    died_at: datetime


class Group(Row):
    """Letters of one actor that died of the same error at the same place."""

    fingerprint: str
    actor: str
    error: Annotated[str, Field(description="the class of the error")]
    frame: Annotated[str, Field(description="the innermost place of ours, as file:function; empty when none was there")]
    count: Annotated[int, Field(description="that are dead now")]
    first: datetime
    last: datetime
    replayed: Annotated[int, Field(description="letters of it that were replayed at least once, whatever became of them")]
    failed_again: Annotated[int, Field(description="of those, the ones that are dead now")]
    example: Annotated[str | None, Field(description="the latest letter's whole error")]


class Groups(Row):
    """All groups, the one with the latest death first, and how much else there is."""

    items: list[Group]
    dead: Annotated[int, Field(description="letters in all groups")]
    foreign: Annotated[int, Field(description="foreign letters that nobody discarded")]


class Attempt(Row):
    """One failed attempt."""

    n: int
    at: datetime
    error_class: str
    error: str
    frame: str
    traceback: str
    worker: str


class LetterEvent(Row):
    """What a person did to the letter."""

    at: datetime
    who: str
    action: Literal["replay", "discard", "restore", "edit"]
    reason: str


class Related(Row):
    """A message that caused this one, or that this one caused."""

    id: UUID
    actor: str
    state: State
    created_at: datetime


class WholeLetter(Row):
    """A message with all that is known of it; also one that is no dead letter any more. Secrets are masked."""

    id: UUID
    kind: Kind
    actor: str | None
    queue: str
    state: str
    error: str | None
    fingerprint: str | None
    attempts: int
    allowance: int
    replays: int
    created_at: datetime
    created_by: Annotated[UUID | None, Field(description="the user whose request put it")]
    died_at: datetime | None
    body: Annotated[Any, Field(description="of a foreign letter: its text, as far as it is any")]
    raw: Annotated[
        str | None,
        Field(description="a foreign letter's bytes, base64; null when a secret in it is masked, or it is too long to show"),
    ]
    headers: Annotated[str | None, Field(description="a foreign letter's")]
    cause: Annotated[Related | None, Field(description="the message whose handler put it")]
    caused: Annotated[list[Related], Field(description=f"what its own handler put, up to {RELATED}")]
    failures: Annotated[list[Attempt], Field(description="every failed attempt, over all replays")]
    history: list[LetterEvent]


class LetterFilter(Body):
    """Which letters; what is left out does not narrow."""

    actor: Annotated[str | None, Field(max_length=100, examples=["send_mail"])] = None
    queue: Annotated[str | None, Field(max_length=100)] = None
    group: Annotated[str | None, Field(alias="fingerprint", max_length=64, description="a group's")] = None
    since: Annotated[Instant | None, Field(description="that died then or later")] = None
    until: Annotated[Instant | None, Field(description="that died before")] = None
    q: Annotated[str | None, Field(min_length=1, max_length=200, description="text in the error or the body, in any case")] = (
        None
    )


@dataclass(frozen=True)
class Condition:
    """The filter in SQL, on letters `m`."""

    text: str
    parameters: dict[str, Any]


def condition(chosen: LetterFilter) -> Condition:
    """What a filter means. The text that is looked for is taken literally."""
    parts = {
        "actor": "m.actor = %(actor)s",
        "queue": "m.queue = %(queue)s",
        "group": "m.fingerprint = %(group)s",
        "since": "m.died_at >= %(since)s",
        "until": "m.died_at < %(until)s",
        "q": "(m.error ILIKE %(q)s OR m.body::text ILIKE %(q)s)",
    }
    given = {name: value for name, value in chosen.model_dump().items() if value is not None}
    text = " AND ".join(parts[name] for name in given) or "true"
    if "q" in given:
        given["q"] = "%" + str(given["q"]).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return Condition(text, given)


def in_state(state: LetterState) -> str:
    """The state as a condition on letters `m`. A literal: for a bound parameter no plan that is kept could use an index of the
    dead ones."""
    return {"dead": "m.state = 'dead'", "discarded": "m.state = 'discarded'"}[state]


async def list_page(conn: Connection, page: Page, chosen: LetterFilter, *, state: LetterState = "dead") -> bytes:
    """Letters, the latest death first."""
    selection = Selection("dead letter", DeadLetter, "dead_letters", "m", Order("died_at", "timestamptz"))
    selection.parts = ("dead_messages", "listed_foreign_letters")
    found = condition(chosen)
    selection.where(found.text, **found.parameters)
    selection.where(in_state(state))
    found = json.loads(await selection.page(conn, page))
    # letter by letter: what looks like a secret may begin in one and end in another
    found["items"] = [item | {"error": item["error"] and masked_text(item["error"])} for item in found["items"]]
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


async def groups(conn: Connection) -> Groups:
    """What letters die of, the latest first."""
    cursor = await conn.execute(
        """
        SELECT g.fingerprint, g.actor, g.error_class, g.frame, dead.count, dead.first, dead.last,
               (SELECT count(*) FROM messages r WHERE r.fingerprint = g.fingerprint AND r.replays > 0),
               (SELECT count(*) FROM messages r WHERE r.fingerprint = g.fingerprint AND r.replays > 0 AND r.state = 'dead'),
               (SELECT error FROM messages l WHERE l.fingerprint = g.fingerprint AND l.state = 'dead'
                ORDER BY l.died_at DESC LIMIT 1)
        FROM (
            SELECT fingerprint, count(*) AS count, min(died_at) AS first, max(died_at) AS last
            FROM messages WHERE state = 'dead' GROUP BY fingerprint
        ) dead JOIN failure_groups g ON g.fingerprint = dead.fingerprint
        ORDER BY dead.last DESC
        """
    )
    names = tuple(Group.model_fields)
    items = [Group(**dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]
    cursor = await conn.execute("SELECT count(*) FROM foreign_letters WHERE discarded_at IS NULL")
    row = await cursor.fetchone()
    assert row is not None
    return Groups(
        items=[group.model_copy(update={"example": masked_text(group.example or "")}) for group in items],
        dead=sum(group.count for group in items),
        foreign=row[0],
    )


async def show(conn: Connection, letter_id: UUID) -> WholeLetter:
    """All that is known of one message or foreign letter. Raises NotFound."""
    found = await one_json(
        conn,
        f"""
        SELECT json_build_object(
            'id', m.id, 'kind', 'message', 'actor', m.actor, 'queue', m.queue, 'state', m.state, 'error', m.error,
            'fingerprint', m.fingerprint, 'attempts', m.attempts, 'allowance', m.allowance, 'replays', m.replays,
            'createdAt', m.created_at, 'createdBy', m.created_by, 'diedAt', m.died_at,
            'body', m.body, 'raw', NULL, 'headers', NULL,
            'cause', (SELECT {json_object(Related, "c")} FROM messages c WHERE c.id = m.cause_id),
            'caused', (SELECT coalesce(json_agg({json_object(Related, "c")} ORDER BY c.created_at, c.id), '[]')
                       FROM (SELECT * FROM messages WHERE cause_id = m.id ORDER BY created_at, id LIMIT {RELATED}) c),
            'failures', (SELECT coalesce(json_agg({json_object(Attempt, "a")} ORDER BY a.n), '[]')
                         FROM message_attempts a WHERE a.message_id = m.id),
            'history', (SELECT coalesce(json_agg({json_object(LetterEvent, "e")} ORDER BY e.id), '[]')
                        FROM message_events e WHERE e.message_id = m.id))
        FROM messages m WHERE m.id = %(id)s
        """,
        {"id": letter_id},
    )
    if found is None:
        return await _show_foreign(conn, letter_id)
    return WholeLetter.model_validate(masked(json.loads(found)))


async def _show_foreign(conn: Connection, letter_id: UUID) -> WholeLetter:
    cursor = await conn.execute(
        f"""
        SELECT queue, reason, substring(body FOR %s), octet_length(body), left(headers, %s), at,
               discarded_at, discarded_by, discarded_because,
               (SELECT coalesce(json_agg({json_object(LetterEvent, "e")} ORDER BY e.id), '[]')
                FROM foreign_letter_events e WHERE e.letter_id = l.id)
        FROM foreign_letters l WHERE id = %s
        """.encode(),
        (SHOWN_BYTES, SHOWN_BYTES, letter_id),
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such letter; GET /api/dead-letters, or ./stint dead list, shows what there is.")
    queue, reason, body, size, headers, at, discarded_at, by, because, events = row
    text = bytes(body).decode(errors="backslashreplace")
    shown = _masked_foreign(text)
    whole = size == len(body)
    history = [LetterEvent.model_validate(masked(event)) for event in events]
    if discarded_at is not None and (not history or history[-1].action != "discard"):  # by a version that kept no history
        history.append(LetterEvent(at=discarded_at, who=by, action="discard", reason=masked_text(because)))
    return WholeLetter(
        id=letter_id, kind="foreign", actor=None, queue=queue, state="dead" if discarded_at is None else "discarded",
        error=masked_text(reason), fingerprint=None, attempts=0, allowance=0, replays=0, created_at=at, created_by=None,
        died_at=at, body=shown if whole else f"{shown}… ({size:,} bytes in all)",
        raw=base64.b64encode(body).decode() if whole and shown == text else None,
        headers=masked_text(headers), cause=None, caused=[], failures=[], history=history,
    )  # fmt: skip


def _masked_foreign(text: str) -> str:
    """A stranger's body: where it is JSON, what is named like a secret is masked, whatever it looks like."""
    try:
        value = json.loads(text)
        shown = masked(value)
        return text if shown == value else json.dumps(shown, ensure_ascii=False)
    except (ValueError, RecursionError):
        return masked_text(text)

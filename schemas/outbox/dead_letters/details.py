"""Everything about one dead letter, or about any other message: its body, its failed attempts and its history.

Secrets are masked (schemas/masking.py): in a thread, because an API process answers other requests meanwhile.
"""

import asyncio
import base64
import difflib
import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Row, Sql, json_object
from schemas.errors import NotFound
from schemas.masking import Redactor
from schemas.outbox.dead_letters.lists import Kind
from schemas.outbox.message_subjects import Subject, find_subjects
from schemas.outbox.outbox import State
from schemas.postgres.connection import Connection

MAX_RELATED = 100  # messages in `caused`
# Bytes of an unrecognized message that are shown. RabbitMQ takes 128 MB, and to mask that would block the process for long.
MAX_SHOWN_BYTES = 256 * 1024


class Attempt(Row):
    """One failed attempt."""

    n: int
    at: datetime
    error_class: str
    error: str
    frame: str
    traceback: str
    worker: str


class DeadLetterEvent(Row):
    """An action of a person on the dead letter."""

    at: datetime
    who: str
    action: Annotated[
        Literal["replay", "discard", "restore", "edit", "trigger"],
        Field(description="trigger: a person has asked for this work again"),
    ]
    reason: str
    before: Annotated[Any, Field(description="of an edit: the body before it; null: not recorded by that version")]
    after: Annotated[Any, Field(description="of an edit: the body after it")]


class Related(Row):
    """The message that caused this one, or a message that this one caused."""

    id: UUID
    actor: str
    state: State
    created_at: datetime


class BillOfMessage(Row):
    """The time bill that a message sends to Xero."""

    id: UUID
    date: date
    minutes: int
    consultant: Annotated[str, Sql("(SELECT concat_ws(' ', nullif(name, ''), email) FROM users WHERE id = {t}.user_id)")]
    customer: Annotated[str, Sql("(SELECT name FROM customers WHERE id = {t}.customer_id)")]
    pillar: Annotated[str, Sql("(SELECT name FROM pillars WHERE id = {t}.pillar_id)")]
    xero_project_id: Annotated[
        str | None,
        Sql("(SELECT xero_project_id FROM customers WHERE id = {t}.customer_id)"),
        Field(description="the customer's"),
    ]
    xero_task_id: Annotated[
        str | None, Sql("(SELECT xero_task_id FROM pillars WHERE id = {t}.pillar_id)"), Field(description="the pillar's")
    ]
    xero_status: str
    xero_error: str | None


class DeadLetterDetail(Row):
    """Everything about a message, in any state, or about an unrecognized message. Secrets are masked."""

    id: UUID
    kind: Kind
    actor: str | None
    queue: str
    state: str
    error: str | None
    fingerprint: str | None
    attempts: int
    max_attempts: int
    replays: int
    created_at: datetime
    created_by: Annotated[UUID | None, Field(description="the user whose request enqueued it")]
    died_at: datetime | None
    body: Annotated[Any, Field(description="of an unrecognized message: its bytes as text")]
    raw: Annotated[
        str | None,
        Field(description="the bytes of an unrecognized message, in base64; null if with a secret, or too long to show"),
    ]
    headers: Annotated[str | None, Field(description="the headers of an unrecognized message")]
    bill: Annotated[BillOfMessage | None, Field(description="of a message that sends a time bill to Xero")]
    subjects: Annotated[
        list[Subject], Field(description="the people, customers, tasks, entries and time bills that its body names")
    ]
    cause: Annotated[Related | None, Field(description="the message whose handler enqueued this one")]
    caused: Annotated[list[Related], Field(description=f"the messages that its own handler enqueued, at most {MAX_RELATED}")]
    failures: Annotated[list[Attempt], Field(description="all failed attempts, also those before a replay")]
    history: list[DeadLetterEvent]


async def get_detail(conn: Connection, letter_id: UUID, redactor: Redactor, *, zone: str) -> DeadLetterDetail:
    """Everything about one message or unrecognized message. `zone`: the firm's. Raises NotFound."""
    for found in await get_details(conn, [letter_id], redactor, zone=zone):
        return found
    raise NotFound("There is no such dead letter; GET /api/dead-letters, or ./stint dead list, lists them.")


async def get_details(conn: Connection, letter_ids: Sequence[UUID], redactor: Redactor, *, zone: str) -> list[DeadLetterDetail]:
    """Everything about each of these messages and unrecognized messages, in this order. Unknown ids are left out."""
    found = {detail.id: detail for detail in await _get_messages(conn, letter_ids, redactor, zone)}
    others = [letter_id for letter_id in letter_ids if letter_id not in found]
    found |= {detail.id: detail for detail in await _get_unrecognized(conn, others, redactor)} if others else {}
    return [found[letter_id] for letter_id in letter_ids if letter_id in found]


async def _get_messages(conn: Connection, message_ids: Sequence[UUID], redactor: Redactor, zone: str) -> list[DeadLetterDetail]:
    found = await conn.values(
        f"""
        SELECT json_build_object(
            'id', m.id, 'kind', 'message', 'actor', m.actor, 'queue', m.queue, 'state', m.state, 'error', m.error,
            'fingerprint', m.fingerprint, 'attempts', m.attempts, 'max_attempts', m.max_attempts, 'replays', m.replays,
            'createdAt', m.created_at, 'createdBy', m.created_by, 'diedAt', m.died_at,
            'body', m.body, 'raw', NULL, 'headers', NULL,
            'bill', (SELECT {json_object(BillOfMessage, "b")} FROM time_bills b WHERE m.actor = 'sync_bill' AND b.id = CASE
                     WHEN m.body->>'bill_id' ~* '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
                     THEN (m.body->>'bill_id')::uuid END),
            'cause', (SELECT {json_object(Related, "c")} FROM messages c WHERE c.id = m.cause_id),
            'caused', (SELECT coalesce(json_agg({json_object(Related, "c")} ORDER BY c.created_at, c.id), '[]')
                       FROM (SELECT * FROM messages WHERE cause_id = m.id ORDER BY created_at, id LIMIT {MAX_RELATED}) c),
            'failures', (SELECT coalesce(json_agg({json_object(Attempt, "a")} ORDER BY a.n), '[]')
                         FROM message_attempts a WHERE a.message_id = m.id),
            'history', (SELECT coalesce(json_agg({json_object(DeadLetterEvent, "e")} ORDER BY e.id), '[]')
                        FROM message_events e WHERE e.message_id = m.id))
        FROM messages m WHERE m.id = ANY(%(ids)s)
        """,
        {"ids": list(message_ids)},
    )
    subjects = await find_subjects(conn, [row["body"] for row in found], zone=zone)
    return await asyncio.to_thread(
        lambda: [
            DeadLetterDetail.model_validate(redactor.json(row) | {"subjects": of_row})
            for row, of_row in zip(found, subjects, strict=True)
        ]
    )


def difference(before: Any, after: Any) -> list[str]:
    """The lines of a unified diff of two redacted bodies; empty if they are the same."""

    def lines(body: Any) -> list[str]:
        return json.dumps(body, indent=2, ensure_ascii=False, sort_keys=True).splitlines()

    return list(difflib.unified_diff(lines(before), lines(after), "before", "after", lineterm=""))


async def _get_unrecognized(conn: Connection, message_ids: Sequence[UUID], redactor: Redactor) -> list[DeadLetterDetail]:
    rows = await conn.all(
        f"""
        SELECT id, queue, reason, substring(body FOR %(most)s), octet_length(body), left(headers, %(most)s), at, discarded_at,
               left(md5(queue || ' ' || reason), 16),
               (SELECT coalesce(json_agg({json_object(DeadLetterEvent, "e")} ORDER BY e.id), '[]')
                FROM (SELECT *, NULL::jsonb AS before, NULL::jsonb AS after FROM unrecognized_message_events) e
                WHERE e.message_id = m.id)
        FROM unrecognized_messages m WHERE id = ANY(%(ids)s)
        """,
        {"most": MAX_SHOWN_BYTES, "ids": list(message_ids)},
    )
    return await asyncio.to_thread(lambda: [_unrecognized_detail(row, redactor) for row in rows])


def _unrecognized_detail(row: tuple[Any, ...], redactor: Redactor) -> DeadLetterDetail:
    message_id, queue, reason, body, size, headers, at, discarded_at, fingerprint, events = row
    text = bytes(body).decode(errors="backslashreplace")
    shown = _redact_unrecognized(text, redactor)
    is_whole = size == len(body)
    return DeadLetterDetail(
        id=message_id, kind="unrecognized", actor=None, queue=queue, state="dead" if discarded_at is None else "discarded",
        error=redactor.text(reason), fingerprint=fingerprint, attempts=0, max_attempts=0, replays=0, created_at=at,
        created_by=None, died_at=at, body=shown if is_whole else f"{shown}… ({size:,} bytes in all)",
        raw=base64.b64encode(body).decode() if is_whole and shown == text else None,
        headers=redactor.text(headers), bill=None, subjects=[], cause=None, caused=[], failures=[],
        history=[DeadLetterEvent.model_validate(redactor.json(event)) for event in events],
    )  # fmt: skip


def _redact_unrecognized(text: str, redactor: Redactor) -> str:
    """The body as text. If it is JSON, fields that are named like a secret are masked, too."""
    try:
        value = json.loads(text)
        shown = redactor.json(value)
        return text if shown == value else json.dumps(shown, ensure_ascii=False)
    except (ValueError, RecursionError):
        return redactor.text(text)

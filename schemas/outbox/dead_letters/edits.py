"""Edits: a person corrects the body of a dead message, which is then replayed. Its history keeps both bodies."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator

from schemas.base import Body
from schemas.errors import Conflict, Invalid, InvalidBody, NotFound
from schemas.masking import MASK, Redactor, leftover_mask
from schemas.messages import Message, parse_body
from schemas.outbox import outbox
from schemas.outbox.dead_letters.actions import Reason, replay
from schemas.outbox.outbox import State
from schemas.postgres.connection import Connection

# Checks what a message means, for the packages above this one, with its body before the edit. Raises Invalid with the field of
# the body.
Check = Callable[[Connection, Message, dict[str, Any]], Awaitable[None]]
MAX_DEPTH = 32


def _check_storable(body: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for a body that Postgres cannot store, or that is nested too deeply to be masked."""
    waiting: list[tuple[Any, int]] = [(body, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            waiting += [(item, depth + 1) for item in (*value, *value.values())]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
        elif isinstance(value, str) and ("\0" in value or value.encode(errors="replace").decode() != value):
            raise ValueError("a text of it has a NUL or half a surrogate pair")
    return body


class Edit(Body):
    """A corrected body. Masked values that are left as they were shown keep their secret."""

    body: Annotated[dict[str, Any], AfterValidator(_check_storable)]
    reason: Reason


async def edit(
    conn: Connection,
    letter_id: UUID,
    corrected: Edit,
    redactor: Redactor,
    *,
    check: Check,
    who: str,
    shown_replays: int | None = None,
) -> None:
    """Replaces the body of a dead message, and replays it. Raises as `validated_body` does. `shown_replays`: how often it had
    been replayed when the person saw it; each edit replays it, so the body may be another one since."""
    body = await validated_body(conn, letter_id, corrected.body, redactor, check=check, shown_replays=shown_replays)
    await conn.execute(
        """
        WITH before AS (SELECT id, body FROM messages WHERE id = %(id)s), edited AS (
            UPDATE messages SET body = %(body)s WHERE id = %(id)s RETURNING id, body
        )
        INSERT INTO message_events (message_id, who, action, reason, before, after)
        SELECT id, %(who)s, 'edit', %(reason)s, before.body, edited.body FROM edited JOIN before USING (id)
        """,
        {"id": letter_id, "body": body.model_dump_json(), "who": who, "reason": corrected.reason},
    )
    await replay(conn, [letter_id], who=who, reason=corrected.reason)


async def validated_body(
    conn: Connection,
    letter_id: UUID,
    body: dict[str, Any],
    redactor: Redactor,
    *,
    check: Check,
    shown_replays: int | None = None,
) -> Message:
    """A person's edit of a dead message's masked body, with the secrets restored. The message is locked until the transaction
    ends. Raises NotFound, Conflict if it is not dead or was replayed since it was shown, and Invalid, with the field, if the
    body does not fit its actor, or `check` refuses it.
    """
    record = await outbox.lock(conn, letter_id)
    if record is None:
        raise NotFound("There is no such message; an unrecognized message cannot be edited, because no actor handles it.")
    if record.state is not State.dead:
        raise Conflict(f"The message is {record.state}; only a dead one can be edited.")
    if shown_replays is not None and record.replays != shown_replays:
        raise Conflict("Somebody else has replayed this message since it was shown, and it failed again. Look at it once more.")
    restored = await asyncio.to_thread(redactor.restore, body, record.body)
    if (path := leftover_mask(restored, record.body)) is not None:
        raise Invalid(path, f"Leave it as it was shown, or write it without {MASK}: the mask would overwrite the secret.")
    try:
        message = parse_body(record.actor, restored)
    except InvalidBody as error:
        raise Invalid(f"body.{error.path}" if error.path else "body", redactor.text(str(error))) from None
    await check(conn, message, record.body)
    return message

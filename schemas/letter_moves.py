"""What a person does to dead letters: replay, discard, restore, edit. Each says who and why, and is written down for good."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas import ledger
from schemas.base import Body, Row
from schemas.database import Connection
from schemas.dead_letters import Condition, LetterFilter, LetterState, condition, in_state
from schemas.errors import Conflict, Invalid, Misfit, NotFound
from schemas.ledger import CHANNEL, State
from schemas.masking import MASK, half_masked, masked_text, unmasked
from schemas.messages import DEFAULT_ALLOWANCE, Message, check_body

MOST_IDS = 1000
Reason = Annotated[str, Field(min_length=1, max_length=500, examples=["Xero is back"])]


class Select(Body):
    """Which dead letters: exactly one of these."""

    ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MOST_IDS)] = None
    group: Annotated[str | None, Field(max_length=64, description="a group's fingerprint")] = None
    filter: LetterFilter | None = None
    all: Annotated[Literal[True] | None, Field(description="every dead letter there is")] = None


class Move(Body):
    """Letters to discard or to restore."""

    select: Select
    reason: Reason


class Moved(Row):
    """How many letters it was."""

    count: int


class Edit(Body):
    """A corrected body. What is left as it was shown masked keeps its secret."""

    body: dict[str, Any]
    reason: Reason


def chosen(select: Select) -> Condition:
    """What is selected, as a condition on messages `m`. Raises Invalid unless it is exactly one thing."""
    given = [name for name in ("ids", "group", "filter", "all") if getattr(select, name) is not None]
    if len(given) != 1:
        raise Invalid("select", "Send exactly one of ids, group, filter and all.")
    if select.ids is not None:
        return Condition("m.id = ANY(%(ids)s)", {"ids": select.ids})
    if select.group is not None:
        return Condition("m.fingerprint = %(group)s", {"group": select.group})
    return condition(select.filter or LetterFilter())


async def replay(
    conn: Connection, message_ids: Sequence[UUID], *, who: str, reason: str, allowance: int = DEFAULT_ALLOWANCE
) -> set[UUID]:
    """Makes those of the messages ready again, with a fresh allowance, that are dead, and returns which; records who did it and
    why. For one that is not dead nothing happens: replaying twice, also at once, is a no-op."""
    await _lock_all(conn, message_ids)
    cursor = await conn.execute(
        f"""
        WITH replayed AS (
            UPDATE messages
            SET state = 'ready', allowance = attempts + %(allowance)s, crashes = 0, begun = NULL, error = NULL,
                replays = replays + 1, available_at = now()
            WHERE id = ANY(%(ids)s) AND state = 'dead' RETURNING id
        ), noted AS (
            INSERT INTO message_events (message_id, who, action, reason) SELECT id, %(who)s, 'replay', %(reason)s FROM replayed
        )
        SELECT id, pg_notify('{CHANNEL}', '') FROM replayed
        """,
        {"ids": list(message_ids), "allowance": allowance, "who": who, "reason": reason},
    )
    return {row[0] for row in await cursor.fetchall()}


async def _put_away(conn: Connection, message_ids: Sequence[UUID], *, who: str, reason: str) -> set[UUID]:
    """Discards those of the messages that are dead: nobody needs them done. Returns which."""
    return await _move(conn, message_ids, "discard", "dead", "discarded", who=who, reason=reason)


async def _take_back(conn: Connection, message_ids: Sequence[UUID], *, who: str, reason: str) -> set[UUID]:
    """Makes those of the messages dead letters again that were discarded. Returns which."""
    return await _move(conn, message_ids, "restore", "discarded", "dead", who=who, reason=reason)


async def _move(
    conn: Connection, message_ids: Sequence[UUID], action: str, before: str, after: str, *, who: str, reason: str
) -> set[UUID]:
    await _lock_all(conn, message_ids)
    cursor = await conn.execute(
        """
        WITH moved AS (
            UPDATE messages SET state = %(after)s WHERE id = ANY(%(ids)s) AND state = %(before)s RETURNING id
        )
        INSERT INTO message_events (message_id, who, action, reason) SELECT id, %(who)s, %(action)s, %(reason)s FROM moved
        RETURNING message_id
        """,
        {
            "ids": list(message_ids), "before": before, "after": after, "action": action, "who": who, "reason": reason,
        },
    )  # fmt: skip
    return {row[0] for row in await cursor.fetchall()}


async def _rewrite(conn: Connection, message_id: UUID, body: Message, *, who: str, reason: str) -> None:
    """Gives a locked message another body, which fits its model."""
    await conn.execute("UPDATE messages SET body = %s WHERE id = %s", (body.model_dump_json(), message_id))
    await conn.execute(
        "INSERT INTO message_events (message_id, who, action, reason) VALUES (%s, %s, 'edit', %s)", (message_id, who, reason)
    )


async def _lock_all(conn: Connection, ids: Sequence[UUID], *, among: str = "messages") -> None:
    # by id: two who move the same letters at once must not wait for each other crosswise
    await conn.execute(f"SELECT FROM {among} WHERE id = ANY(%s) ORDER BY id FOR UPDATE".encode(), (list(ids),))


async def discard(conn: Connection, move: Move, *, who: str) -> Moved:
    """Puts dead letters away, foreign ones too: they are kept, and can be restored."""
    moved = await _put_away(conn, await _selected(conn, move.select, "dead"), who=who, reason=move.reason)
    foreign = await _selected(conn, move.select, "dead", among="listed_foreign_letters")
    return Moved(count=len(moved) + await _move_foreign(conn, foreign, "discard", who=who, reason=move.reason))


async def restore(conn: Connection, move: Move, *, who: str) -> Moved:
    """Makes discarded letters dead ones again, foreign ones too. Who had discarded them, and why, stays in their history."""
    moved = await _take_back(conn, await _selected(conn, move.select, "discarded"), who=who, reason=move.reason)
    foreign = await _selected(conn, move.select, "discarded", among="listed_foreign_letters")
    return Moved(count=len(moved) + await _move_foreign(conn, foreign, "restore", who=who, reason=move.reason))


async def _move_foreign(
    conn: Connection, ids: Sequence[UUID], action: Literal["discard", "restore"], *, who: str, reason: str
) -> int:
    """Moves those of the foreign letters that are not there yet. Returns how many."""
    await _lock_all(conn, ids, among="foreign_letters")
    cursor = await conn.execute(
        """
        WITH moved AS (
            UPDATE foreign_letters
            SET discarded_at = CASE WHEN %(away)s THEN clock_timestamp() END,
                discarded_by = CASE WHEN %(away)s THEN %(who)s END, discarded_because = CASE WHEN %(away)s THEN %(reason)s END
            WHERE id = ANY(%(ids)s) AND (discarded_at IS NULL) = %(away)s RETURNING id
        )
        INSERT INTO foreign_letter_events (letter_id, who, action, reason)
        SELECT id, %(who)s, %(action)s, %(reason)s FROM moved
        """,
        {"ids": list(ids), "away": action == "discard", "action": action, "who": who, "reason": reason},
    )
    return cursor.rowcount


async def _selected(conn: Connection, select: Select, state: LetterState, *, among: str = "messages") -> list[UUID]:
    """What is selected, by the same words that list it."""
    found = chosen(select)
    cursor = await conn.execute(
        f"SELECT m.id FROM {among} m WHERE {in_state(state)} AND {found.text} ORDER BY m.id".encode(), found.parameters
    )
    return [row[0] for row in await cursor.fetchall()]


async def edit(conn: Connection, letter_id: UUID, corrected: Edit, *, who: str) -> None:
    """Gives a dead letter another body, and replays it. Raises what `fitting` does."""
    body = await fitting(conn, letter_id, corrected.body)
    await _rewrite(conn, letter_id, body, who=who, reason=corrected.reason)
    await replay(conn, [letter_id], who=who, reason=corrected.reason)


async def fitting(conn: Connection, letter_id: UUID, body: dict[str, Any]) -> Message:
    """What somebody made of a dead letter's body as it was shown to them, with its secrets back in their places; the letter is
    locked until the transaction ends.

    Raises NotFound, Conflict for one that is not dead, Invalid for a body that does not fit its actor, with the field named.
    """
    record = await ledger.lock(conn, letter_id)
    if record is None:
        raise NotFound("There is no such message; foreign letters can't be edited, since no actor would take them.")
    if record.state is not State.dead:
        raise Conflict(f"The message is {record.state}; only a dead one can be edited.")
    whole = unmasked(body, record.body)
    if (path := half_masked(whole, record.body)) is not None:
        raise Invalid(path, f"Leave it as it was shown, or write it without {MASK}: a mask would take the place of the secret.")
    try:
        return check_body(record.actor, whole)
    except Misfit as error:
        raise Invalid(f"body.{error.path}" if error.path else "body", masked_text(str(error))) from None

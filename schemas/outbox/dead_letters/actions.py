"""Actions of people on dead letters: replay, discard, restore. Each is recorded, with the person and the reason."""

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from schemas import names
from schemas.base import Body, Flag, Row, SchemaKeyword
from schemas.errors import Invalid
from schemas.messages import DEFAULT_MAX_ATTEMPTS
from schemas.outbox.dead_letters.selecting import DeadLetterState, Select, preview, selection_sql, state_sql
from schemas.outbox.outbox import CHANNEL
from schemas.postgres.connection import Connection

BY_ITSELF = "Stint"  # who acts in the history of a message, if no person does


# why a person does something, which its history keeps
Reason = Annotated[
    str,
    Field(min_length=1, max_length=500, examples=["Xero is back"]),
    AfterValidator(names.check_visible),
    SchemaKeyword("pattern", names.HAS_VISIBLE),  # a reason of blanks and invisible characters only is refused
]


def check_reason(text: str) -> None:
    """Raises Invalid if a reason outside of a body is empty, or has nothing that can be seen."""
    if not names.name_key(text):
        raise Invalid("reason", "Send a reason with words, such as Xero is back.")


class Action(Body):
    """Dead letters to discard, or discarded ones to restore."""

    select: Select
    reason: Reason
    dry_run: Annotated[Flag, Field(description="change nothing, only return how many would be changed")] = False


class ActionResult(Row):
    """How many dead letters were changed, or would be."""

    count: int


async def replay(
    conn: Connection, message_ids: Sequence[UUID], *, who: str, reason: str, max_attempts: int = DEFAULT_MAX_ATTEMPTS
) -> set[UUID]:
    """Makes dead messages ready again, with `max_attempts` further attempts. Returns the ids of those that were dead; the
    others are not changed, so that two replays at the same time replay a message once."""
    await _lock_all(conn, message_ids)
    replayed = await conn.values(
        f"""
        WITH replayed AS (
            UPDATE messages
            SET state = 'ready', max_attempts = attempts + %(max_attempts)s, granted_attempts = %(max_attempts)s, crashes = 0,
                started_delivery = NULL, error = NULL, replays = replays + 1, available_at = now()
            WHERE id = ANY(%(ids)s) AND state = 'dead' RETURNING id
        ), recorded AS (
            INSERT INTO message_events (message_id, who, action, reason) SELECT id, %(who)s, 'replay', %(reason)s FROM replayed
        )
        SELECT id, pg_notify('{CHANNEL}', '') FROM replayed
        """,
        {"ids": list(message_ids), "max_attempts": max_attempts, "who": who, "reason": reason},
    )
    return set(replayed)


async def record(
    conn: Connection, message_ids: Sequence[UUID], action: Literal["replay", "trigger"], *, who: str, reason: str
) -> None:
    """Records an action on these messages in their history."""
    await conn.execute(
        "INSERT INTO message_events (message_id, who, action, reason) SELECT id, %s, %s, %s FROM unnest(%s::uuid[]) AS m (id)",
        (who, action, reason, list(message_ids)),
    )


async def discard(conn: Connection, action: Action, *, who: str) -> ActionResult:
    """Discards dead letters and unrecognized messages. They are kept, and can be restored."""
    if action.dry_run:
        return ActionResult(count=(await preview(conn, action.select, "dead", with_unrecognized=True)).count)
    message_ids = await _selected(conn, action.select, "dead")
    count = await _change_state(conn, message_ids, "discard", "dead", "discarded", who=who, reason=action.reason)
    unrecognized_ids = await _selected(conn, action.select, "dead", table="listed_unrecognized_messages")
    return ActionResult(
        count=count + await _change_unrecognized(conn, unrecognized_ids, "discard", who=who, reason=action.reason)
    )


async def restore(conn: Connection, action: Action, *, who: str) -> ActionResult:
    """Makes discarded dead letters and unrecognized messages dead again. Their history keeps who had discarded them, and
    why."""
    if action.dry_run:
        return ActionResult(count=(await preview(conn, action.select, "discarded", with_unrecognized=True)).count)
    message_ids = await _selected(conn, action.select, "discarded")
    count = await _change_state(conn, message_ids, "restore", "discarded", "dead", who=who, reason=action.reason)
    unrecognized_ids = await _selected(conn, action.select, "discarded", table="listed_unrecognized_messages")
    return ActionResult(
        count=count + await _change_unrecognized(conn, unrecognized_ids, "restore", who=who, reason=action.reason)
    )


async def _selected(conn: Connection, select: Select, state: DeadLetterState, *, table: str = "messages") -> list[UUID]:
    condition = selection_sql(select)
    return await conn.values(
        f"SELECT m.id FROM {table} m WHERE {state_sql(state)} AND {condition.text} ORDER BY m.id", condition.parameters
    )


async def _lock_all(conn: Connection, ids: Sequence[UUID], *, table: str = "messages") -> None:
    # ordered by id: two transactions that lock the same rows in opposite order would deadlock
    await conn.execute(f"SELECT FROM {table} WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (list(ids),))


async def _change_state(
    conn: Connection, message_ids: Sequence[UUID], action: str, before: str, after: str, *, who: str, reason: str
) -> int:
    """Changes the messages that are in the state `before`. Returns how many."""
    await _lock_all(conn, message_ids)
    cursor = await conn.execute(
        """
        WITH changed AS (
            UPDATE messages SET state = %(after)s WHERE id = ANY(%(ids)s) AND state = %(before)s RETURNING id
        )
        INSERT INTO message_events (message_id, who, action, reason) SELECT id, %(who)s, %(action)s, %(reason)s FROM changed
        """,
        {
            "ids": list(message_ids), "before": before, "after": after, "action": action, "who": who, "reason": reason,
        },
    )  # fmt: skip
    return cursor.rowcount


async def _change_unrecognized(
    conn: Connection, ids: Sequence[UUID], action: Literal["discard", "restore"], *, who: str, reason: str
) -> int:
    """Discards or restores the unrecognized messages that are not in that state yet. Returns how many."""
    await _lock_all(conn, ids, table="unrecognized_messages")
    cursor = await conn.execute(
        """
        WITH changed AS (
            UPDATE unrecognized_messages SET discarded_at = CASE WHEN %(discard)s THEN clock_timestamp() END
            WHERE id = ANY(%(ids)s) AND (discarded_at IS NULL) = %(discard)s RETURNING id
        )
        INSERT INTO unrecognized_message_events (message_id, who, action, reason)
        SELECT id, %(who)s, %(action)s, %(reason)s FROM changed
        """,
        {"ids": list(ids), "discard": action == "discard", "action": action, "who": who, "reason": reason},
    )
    return cursor.rowcount

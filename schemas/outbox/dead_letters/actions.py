"""Actions of people on dead letters: replay, discard, restore, edit. Each is recorded, with the person and the reason."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Instant, Row
from schemas.errors import Conflict, Invalid, InvalidBody, NotFound
from schemas.masking import MASK, Redactor, leftover_mask
from schemas.messages import DEFAULT_MAX_ATTEMPTS, Message, parse_body
from schemas.outbox import outbox
from schemas.outbox.dead_letters.lists import DeadLetterFilter, DeadLetterState, SqlCondition, filter_sql, state_sql
from schemas.outbox.outbox import CHANNEL, State
from schemas.postgres.connection import Connection

MAX_IDS = 1000
BY_ITSELF = "Stint"  # who acts in the history of a message, if no person does
# checks what a message means, for the packages above this one; raises Invalid with the field of the body
Check = Callable[[Connection, Message], Awaitable[None]]
Reason = Annotated[str, Field(min_length=1, max_length=500, examples=["Xero is back"])]


class Select(Body):
    """Which dead letters: exactly one of these."""

    ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MAX_IDS)] = None
    group: Annotated[str | None, Field(max_length=64, description="the fingerprint of a group")] = None
    filter: DeadLetterFilter | None = None
    all: Annotated[Literal[True] | None, Field(description="all dead letters")] = None


class SelectShown(Select):
    """These ids, as a person has seen them: not what died at that time or later, which nobody has seen."""

    shown_at: Instant


class Action(Body):
    """Dead letters to discard, or discarded ones to restore."""

    select: Select
    reason: Reason


class ActionResult(Row):
    """How many dead letters were changed."""

    count: int


class Preview(Row):
    """What an action would concern now. `at`: when, by the database's clock. `unrecognized`: of `count`, those that are no
    messages of Stint. `in_replays`: of the messages, those that a replay that runs will send anyway."""

    count: int
    unrecognized: int
    in_replays: int
    by_actor: dict[str, int]
    at: datetime


class Edit(Body):
    """A corrected body. Masked values that are left as they were shown keep their secret."""

    body: dict[str, Any]
    reason: Reason


def selection_sql(select: Select) -> SqlCondition:
    """The selection as a condition on dead letters `m`. Raises Invalid unless exactly one field is given."""
    given = [name for name in ("ids", "group", "filter", "all") if getattr(select, name) is not None]
    if len(given) != 1:
        raise Invalid("select", "Send exactly one of ids, group, filter and all.")
    if select.ids is not None:
        if isinstance(select, SelectShown):
            return SqlCondition("m.id = ANY(%(ids)s) AND m.died_at < %(shown)s", {"ids": select.ids, "shown": select.shown_at})
        return SqlCondition("m.id = ANY(%(ids)s)", {"ids": select.ids})
    if select.group is not None:
        return SqlCondition("m.fingerprint = %(group)s", {"group": select.group})
    return filter_sql(select.filter or DeadLetterFilter())


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
    conn: Connection, message_ids: Sequence[UUID], action: Literal["replay", "edit"], *, who: str, reason: str
) -> None:
    """Records an action on these messages in their history."""
    await conn.execute(
        "INSERT INTO message_events (message_id, who, action, reason) SELECT id, %s, %s, %s FROM unnest(%s::uuid[]) AS m (id)",
        (who, action, reason, list(message_ids)),
    )


async def discard(conn: Connection, action: Action, *, who: str) -> ActionResult:
    """Discards dead letters and unrecognized messages. They are kept, and can be restored."""
    message_ids = await _selected(conn, action.select, "dead")
    count = await _change_state(conn, message_ids, "discard", "dead", "discarded", who=who, reason=action.reason)
    unrecognized_ids = await _selected(conn, action.select, "dead", table="listed_unrecognized_messages")
    return ActionResult(
        count=count + await _change_unrecognized(conn, unrecognized_ids, "discard", who=who, reason=action.reason)
    )


async def restore(conn: Connection, action: Action, *, who: str) -> ActionResult:
    """Makes discarded dead letters and unrecognized messages dead again. Their history keeps who had discarded them, and
    why."""
    message_ids = await _selected(conn, action.select, "discarded")
    count = await _change_state(conn, message_ids, "restore", "discarded", "dead", who=who, reason=action.reason)
    unrecognized_ids = await _selected(conn, action.select, "discarded", table="listed_unrecognized_messages")
    return ActionResult(
        count=count + await _change_unrecognized(conn, unrecognized_ids, "restore", who=who, reason=action.reason)
    )


async def preview(
    conn: Connection, select: Select, state: DeadLetterState = "dead", *, with_unrecognized: bool = False
) -> Preview:
    """What an action on this selection would concern. Nothing is changed. `with_unrecognized`: also unrecognized messages."""
    condition = selection_sql(select)
    where = f"{state_sql(state)} AND {condition.text}"
    unrecognized_count = f"(SELECT count(*) FROM listed_unrecognized_messages m WHERE {where})" if with_unrecognized else "0"
    at, by_actor, unrecognized, in_replays = await conn.one(
        f"""
        SELECT now(),
               (SELECT coalesce(json_object_agg(actor, count ORDER BY actor), '{{}}')
                FROM (SELECT m.actor, count(*) AS count FROM messages m WHERE {where} GROUP BY m.actor) found),
               {unrecognized_count},
               (SELECT count(DISTINCT m.id) FROM replays r
                JOIN replay_messages o ON o.replay_id = r.id AND o.sent_at IS NULL AND o.outcome IS NULL
                JOIN messages m ON m.id = o.message_id
                WHERE r.state = 'running' AND m.state = 'dead' AND {condition.text})
        """,
        condition.parameters,
    )
    count = sum(by_actor.values()) + unrecognized
    return Preview(count=count, unrecognized=unrecognized, in_replays=in_replays, by_actor=by_actor, at=at)


def check_count(shown: int, now: int) -> None:
    """Raises Conflict if an action concerns another number than a person was shown: somebody else has acted meanwhile."""
    if shown != now:
        raise Conflict(
            f"This has changed since it was shown: then there were {shown:,}, now there are {now:,}, without those that have"
            " failed again since. Somebody else has replayed, discarded or restored some. Nothing was done; look again."
        )


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
    await conn.execute("UPDATE messages SET body = %s WHERE id = %s", (body.model_dump_json(), letter_id))
    await record(conn, [letter_id], "edit", who=who, reason=corrected.reason)
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
    await check(conn, message)
    return message


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

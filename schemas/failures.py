"""What becomes of an attempt that failed, and of what was no message of ours: tried again, or kept for a person, by group."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from schemas.database import Connection
from schemas.ledger import Record, State
from schemas.messages import DEFAULT_ALLOWANCE, MODELS

# What the death of a message means for the row that it is about, by its actor: done in the same transaction.
when_dead: dict[str, Callable[[Connection, dict[str, Any]], Awaitable[None]]] = {}


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed. `frame` is the innermost one of ours, as file:function; `free` costs no attempt; `delay_seconds`
    overrides the backoff; `final` makes the message dead whatever is left of its allowance."""

    error_class: str
    error: str
    traceback: str
    worker: str
    frame: str = ""
    free: bool = False
    final: bool = False
    crash: bool = False
    delay_seconds: float | None = None


def fingerprint(actor: str, failure: Failure) -> str:
    """What letters of one group share: the actor, the class of the error, and where it came from."""
    return hashlib.sha256(f"{actor} {failure.error_class} {failure.frame}".encode()).hexdigest()[:16]


async def fail(conn: Connection, record: Record, failure: Failure, *, base_seconds: float) -> State:
    """Records a failed attempt of a locked message, and returns what became of it: `ready` again, or `dead`.

    The wait before the next attempt doubles from `base_seconds`, up to ten minutes, and is jittered.
    """
    attempts = record.attempts + 1
    allowance = record.allowance + (1 if failure.free else 0)
    dead = failure.final or attempts >= allowance
    state = State.dead if dead else State.ready
    model = MODELS.get(record.actor)
    fresh = DEFAULT_ALLOWANCE if record.replays or model is None else model.allowance
    used = max(1, fresh - (allowance - attempts))  # since it was promised or replayed; what was free does not lengthen the wait
    delay = failure.delay_seconds if failure.delay_seconds is not None else min(600.0, base_seconds * 2 ** min(used, 12) / 2)
    jitter = "" if failure.delay_seconds is not None else " * (0.75 + random() / 2)"
    await conn.execute(
        """
        INSERT INTO message_attempts (message_id, n, error_class, error, traceback, worker, frame)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        (
            record.id, attempts, failure.error_class, storable(failure.error), storable(failure.traceback), failure.worker,
            failure.frame,
        ),
    )  # fmt: skip
    group = fingerprint(record.actor, failure)
    if dead:
        await _note_group(conn, group, record.actor, failure)
    await conn.execute(
        f"""
        UPDATE messages
        SET state = %s, attempts = %s, allowance = %s, crashes = crashes + %s, error = %s, fingerprint = %s,
            lease_token = NULL, lease_until = NULL, died_at = CASE WHEN %s THEN clock_timestamp() ELSE died_at END,
            available_at = clock_timestamp() + make_interval(secs => %s{jitter})
        WHERE id = %s
        """,
        (
            state, attempts, allowance, int(failure.crash), storable(f"{failure.error_class}: {failure.error}"),
            group, dead, delay, record.id,
        ),
    )  # fmt: skip
    if dead and record.actor in when_dead:
        await when_dead[record.actor](conn, record.body)
    return state


async def _note_group(conn: Connection, group: str, actor: str, failure: Failure) -> None:
    """Remembers that letters die of this. One that was not seen for a day is news again."""
    await conn.execute(
        # looked at before: the conflict alone would lock the row, and have all who fail at once wait for each other
        """
        INSERT INTO failure_groups AS g (fingerprint, actor, error_class, frame)
        SELECT %(group)s, %(actor)s, %(error_class)s, %(frame)s WHERE NOT EXISTS (
            SELECT FROM failure_groups WHERE fingerprint = %(group)s AND last_at >= now() - interval '1 minute')
        ON CONFLICT (fingerprint) DO UPDATE
        SET last_at = now(), told_at = CASE WHEN g.last_at > now() - interval '1 day' THEN g.told_at END
        WHERE g.last_at < now() - interval '1 minute'
        """,
        {"group": group, "actor": actor, "error_class": failure.error_class, "frame": failure.frame},
    )


def storable(text: str) -> str:
    """The text with what Postgres refuses (a NUL, half a surrogate pair) written out: whatever somebody else's error or
    header says, it must be possible to write it down."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


async def keep_foreign(conn: Connection, *, queue: str, reason: str, body: bytes, headers: object = None) -> None:
    """Keeps what came through RabbitMQ and is no message of ours, raw, beside the dead letters. `reason` is in our own words;
    `headers` are kept as text: they may hold anything."""
    await conn.execute(
        # as with failure_groups
        """
        WITH kind AS (
            INSERT INTO foreign_groups AS g (queue, reason) SELECT %(queue)s, %(reason)s WHERE NOT EXISTS (
                SELECT FROM foreign_groups
                WHERE queue = %(queue)s AND reason = %(reason)s AND last_at >= now() - interval '1 minute')
            ON CONFLICT (queue, reason) DO UPDATE
            SET last_at = now(), told_at = CASE WHEN g.last_at > now() - interval '1 day' THEN g.told_at END
            WHERE g.last_at < now() - interval '1 minute'
        )
        INSERT INTO foreign_letters (queue, reason, body, headers) VALUES (%(queue)s, %(reason)s, %(body)s, %(headers)s)
        """,
        {"queue": queue, "reason": reason, "body": body, "headers": storable(repr(headers or {}))},
    )

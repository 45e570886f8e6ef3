"""Failed attempts: recorded with their traceback, then retried with backoff, or dead."""

from dataclasses import dataclass

from schemas.messages import DEFAULT_MAX_ATTEMPTS, MODELS
from schemas.outbox.dead_letters.fingerprints import fingerprint, message_of_group, normalized
from schemas.outbox.outbox import Record, State
from schemas.postgres.connection import Connection

MAX_WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed. `frame`: the innermost stack frame in Stint's own code, as file:function. `uncounted`: does not
    count against max_attempts. `final`: the message is dead, although attempts are left. `crash`: the worker died.
    `delay_seconds`: the wait before the retry, instead of the backoff."""

    error_class: str
    error: str
    traceback: str
    worker: str
    frame: str = ""
    uncounted: bool = False
    final: bool = False
    crash: bool = False
    delay_seconds: float | None = None


async def record_failed_attempt(conn: Connection, record: Record, failure: Failure, *, base_seconds: float) -> State:
    """Records a failed attempt of a locked message. Returns the message's new state: `ready` or `dead`.

    The wait before the retry starts at `base_seconds`, doubles with each attempt up to ten minutes, and has random jitter.
    """
    attempts = record.attempts + 1
    max_attempts = record.max_attempts + (1 if failure.uncounted else 0)
    dead = failure.final or attempts >= max_attempts
    state = State.dead if dead else State.ready
    jitter = "" if failure.delay_seconds is not None else " * (0.75 + random() / 2)"
    await conn.execute(
        """
        INSERT INTO message_attempts (message_id, n, error_class, error, traceback, worker, frame)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        (
            record.id, attempts, failure.error_class, escape_unstorable(failure.error), escape_unstorable(failure.traceback),
            failure.worker, failure.frame,
        ),
    )  # fmt: skip
    words = normalized(escape_unstorable(failure.error))
    if dead:
        words = await message_of_group(conn, record.actor, failure.error_class, failure.frame, words)
    group = fingerprint(record.actor, failure.error_class, failure.frame, words)
    if dead:
        await _record_group(conn, group, record.actor, failure, words)
    await conn.execute(
        f"""
        UPDATE messages
        SET state = %s, attempts = %s, max_attempts = %s, crashes = crashes + %s, error = %s, fingerprint = %s,
            lease_token = NULL, lease_until = NULL, died_at = CASE WHEN %s THEN clock_timestamp() ELSE died_at END,
            available_at = clock_timestamp() + make_interval(secs => %s{jitter})
        WHERE id = %s
        """,
        (
            state, attempts, max_attempts, int(failure.crash), escape_unstorable(f"{failure.error_class}: {failure.error}"),
            group, dead, _wait_seconds(record, failure, max_attempts - attempts, base_seconds=base_seconds), record.id,
        ),
    )  # fmt: skip
    return state


def _wait_seconds(record: Record, failure: Failure, attempts_left: int, *, base_seconds: float) -> float:
    if failure.delay_seconds is not None:
        return failure.delay_seconds
    model = MODELS.get(record.actor)
    granted = record.granted_attempts or DEFAULT_MAX_ATTEMPTS
    allowed = granted if record.replays or model is None else model.max_attempts
    # attempts since the message was enqueued or last replayed; uncounted ones do not lengthen the wait
    used = max(1, allowed - attempts_left)
    doubled: float = base_seconds * 2 ** min(used, 12) / 2
    return min(MAX_WAIT_SECONDS, doubled)


async def _record_group(conn: Connection, group: str, actor: str, failure: Failure, words: str) -> None:
    """Records that messages of this group are dead. A group that was not seen for a day gets a new alert."""
    await conn.execute(
        # WHERE NOT EXISTS first: ON CONFLICT alone would lock the group's row, and all that fail at the same time would wait
        # for each other
        """
        INSERT INTO failure_groups AS g (fingerprint, actor, error_class, frame, message)
        SELECT %(group)s, %(actor)s, %(error_class)s, %(frame)s, %(message)s WHERE NOT EXISTS (
            SELECT FROM failure_groups WHERE fingerprint = %(group)s AND last_at >= now() - interval '1 minute')
        ON CONFLICT (fingerprint) DO UPDATE
        SET last_at = now(), alerted_at = CASE WHEN g.last_at > now() - interval '1 day' THEN g.alerted_at END
        WHERE g.last_at < now() - interval '1 minute'
        """,
        {
            "group": group, "actor": actor, "error_class": failure.error_class, "frame": failure.frame, "message": words,
        },
    )  # fmt: skip


def escape_unstorable(text: str) -> str:
    """The text with characters escaped that Postgres refuses (NUL, unpaired surrogates): any error text and any header must be
    storable."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")

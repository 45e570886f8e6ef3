"""Calls that Slack refuses to the bot token: recorded, told to the admins once, and tried again until Slack gives access.

A refusal is stored for its method of the Web API. Messages that need the method wait, without counting attempts; one of them
tries at growing intervals. One CheckSlackAccess message at a time also asks Slack, so that the loss ends if no message waits.

A valid token (`auth.test` succeeds) ends only what is about the token itself, and the scopes that Slack names as granted. Other
refusals, such as `ekm_access_denied`, end with a success of their own method, or when nobody has tried it for UNTRIED_HOURS.
Slack's events that tell of a removed app or a revoked token count as such a refusal.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from schemas.identity import users
from schemas.mail import templates
from schemas.messages import CheckSlackAccess
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.access.words import MISSING_SCOPE, OF_A_CHANNEL, OF_THE_TOKEN, Words, words
from schemas.slack.client_errors import SlackAccessLost

CHECK = "auth.test"  # the method of a check
LONGEST_SECONDS = 900.0  # between two tries
UNTRIED_HOURS = 24  # after the time for the next try: no message waits for the method, or one would have tried
# of a form that Slack did not open for a reason that may be about this one request: no message opens forms
FORM_HOURS = 1
OPEN_VIEW = "views.open"
MOST_SECONDS = 60.0  # that a message waits at a time: another one may find access in between

# how long until the next try: as long again as access has been lost
_NEXT_TRY = f"""
    clock_timestamp() + make_interval(secs => least({LONGEST_SECONDS}, greatest(
        %(first)s, extract(epoch FROM clock_timestamp() - lost_at)::float)))
"""


@dataclass(frozen=True)
class Loss:
    """Slack refuses a method to the bot token since `lost_at`."""

    method: str
    problem: str
    needed: str
    lost_at: datetime

    @property
    def words(self) -> Words:
        return words(self.problem, self.needed)


async def losses(conn: Connection, settings: Settings) -> list[Loss]:
    """What Slack refuses to the configured bot token, the longest first."""
    return await conn.all(
        "SELECT method, problem, needed, lost_at FROM slack_access_losses WHERE token_hash = %s ORDER BY lost_at, method",
        (token_hash(settings),),
        row=Loss,
    )


async def is_lost(conn: Connection) -> bool:
    """Whether Slack refuses anything, also to an earlier bot token."""
    return bool(await conn.value("SELECT EXISTS (SELECT FROM slack_access_losses)"))


async def record_loss(conn: Connection, error: SlackAccessLost, settings: Settings) -> None:
    """Records that Slack has refused a method, and enqueues the check. Each admin, and OPS_EMAIL, get one mail about each
    problem."""
    await _lock(conn)
    known = {(loss.problem, loss.needed) for loss in await losses(conn, settings)}
    await conn.execute(
        f"""
        INSERT INTO slack_access_losses AS l (token_hash, method, problem, needed, try_at)
        VALUES (%(token)s, %(method)s, %(problem)s, %(needed)s, clock_timestamp() + make_interval(secs => %(first)s))
        ON CONFLICT (token_hash, method) DO UPDATE
        SET problem = excluded.problem, needed = excluded.needed, try_at = {_NEXT_TRY.replace("lost_at", "l.lost_at")}
        """,
        _parameters(settings, method=error.method, problem=error.code, needed=error.needed),
    )
    await _ensure_checked(conn)
    if (error.code, error.needed) not in known:
        await _tell(conn, words(error.code, error.needed), settings)


async def record_found(conn: Connection, method: str, settings: Settings) -> None:
    """Records that a call of the method has succeeded: the token is valid, and may call this method."""
    await conn.execute(
        "DELETE FROM slack_access_losses WHERE token_hash = %s AND (method = %s OR problem = ANY(%s))",
        (token_hash(settings), method, OF_THE_TOKEN),
    )


async def wait_seconds(conn: Connection, methods: tuple[str, ...], settings: Settings) -> float | None:
    """How long a message waits that needs these methods. None: it makes its calls now; of the messages that wait, one at a
    time does."""
    blocked = "token_hash = %(token)s AND (method = ANY(%(methods)s) OR problem = ANY(%(of_the_token)s))"
    parameters = _parameters(settings, methods=list(methods), of_the_token=OF_THE_TOKEN)
    left: float | None = await conn.value(
        f"SELECT extract(epoch FROM max(try_at) - clock_timestamp())::float FROM slack_access_losses WHERE {blocked}",
        parameters,
    )
    if left is None:
        return None
    if left <= 0:
        tried = await conn.execute(
            f"UPDATE slack_access_losses SET try_at = {_NEXT_TRY} WHERE {blocked} AND try_at <= clock_timestamp()", parameters
        )
        if tried.rowcount:
            return None
    return min(MOST_SECONDS, max(1.0, left))


async def record_check(conn: Connection, answer: set[str] | SlackAccessLost | None, settings: Settings) -> float | None:
    """Records the answer of Slack to a check: the scopes of the token, that it is not valid, or None without an answer. Returns
    the seconds until the next check; None: access is there."""
    await _lock(conn)
    await conn.execute("DELETE FROM slack_access_losses WHERE token_hash <> %s", (token_hash(settings),))
    if isinstance(answer, set):
        await conn.execute(
            """
            DELETE FROM slack_access_losses
            WHERE method = %(check)s OR problem = ANY(%(of_the_token)s)
                OR problem = %(scope)s AND needed <> '' AND string_to_array(needed, ',') && %(granted)s::text[]
                OR problem <> %(scope)s AND try_at < clock_timestamp() - make_interval(hours => CASE
                    WHEN method = %(form)s AND problem = ANY(%(of_one)s) THEN %(form_hours)s ELSE %(hours)s END)
            """,
            {
                "check": CHECK,
                "of_the_token": OF_THE_TOKEN,
                "scope": MISSING_SCOPE,
                "granted": sorted(answer),
                "hours": UNTRIED_HOURS,
                "form": OPEN_VIEW,
                "of_one": sorted(OF_A_CHANNEL),
                "form_hours": FORM_HOURS,
            },
        )
    seconds: float | None = await conn.value(
        f"SELECT extract(epoch FROM min({_NEXT_TRY}) - clock_timestamp())::float FROM slack_access_losses",
        _parameters(settings),
    )
    return seconds


async def ensure_checked(conn: Connection) -> None:
    """Enqueues the check if Slack refuses something, and there is no check: its message is dead, for example. Safe to call
    concurrently."""
    if await is_lost(conn):
        async with conn.transaction():
            await _lock(conn)
            await _ensure_checked(conn)


async def _ensure_checked(conn: Connection) -> None:
    is_missing = """
        SELECT EXISTS (SELECT FROM slack_access_losses) AND NOT EXISTS (
            SELECT FROM messages WHERE actor = %s AND state IN ('ready', 'sent', 'calling'))
    """
    if await conn.value(is_missing, (CheckSlackAccess.actor,)):
        await outbox.enqueue(conn, CheckSlackAccess())


async def _lock(conn: Connection) -> None:
    await conn.execute("SELECT pg_advisory_xact_lock(hashtext('slack_access_losses'))")


async def _tell(conn: Connection, lost: Words, settings: Settings) -> None:
    told = dict.fromkeys([*await users.admin_emails(conn), *([settings.ops_email] if settings.ops_email else [])])
    await outbox.enqueue_many(
        conn, [templates.slack_access_lost(to=email, problem=lost.text, cure=lost.cure) for email in told]
    )


def token_hash(settings: Settings) -> bytes:
    """The configured bot token, as tables name it."""
    token = settings.slack_bot_token
    return hashlib.sha256(token.get_secret_value().encode() if token else b"").digest()


def _parameters(settings: Settings, **more: object) -> dict[str, object]:
    return {"token": token_hash(settings), "first": settings.stint_slack_access_seconds, **more}

"""The order of changes of one message in Slack: what the last press shows stays, also if an older change is sent later."""

from dataclasses import dataclass
from datetime import datetime

from schemas.messages import AnswerSlack
from schemas.postgres.connection import Connection

LATER_SECONDS = 1.0  # so that the person who pressed reads the answer first
CALL_SECONDS = 4.0  # the longest that a change is on its way to Slack
_MICROSECONDS = "(extract(epoch FROM at) * 1000000)::bigint"


@dataclass(frozen=True)
class Version:
    """One change of a message. A later one has a larger `number`; `send_at`: not before."""

    number: int
    send_at: datetime


async def record(conn: Connection, key: str) -> Version:
    """Records a change of the message with that key in the transaction of the press. While an older one is being sent, this one
    waits until that call is over, because Slack may execute two calls in any order."""
    number: int = await conn.value(
        f"""
        INSERT INTO slack_deduplication AS d (key) VALUES (%s)
        ON CONFLICT (key) DO UPDATE SET at = greatest(clock_timestamp(), d.at + interval '1 microsecond')
        RETURNING {_MICROSECONDS}
        """,
        (key,),
    )
    # an older one that starts after this statement waits for the row, and finds that it is not the latest
    send_at: datetime = await conn.value(
        """
        SELECT clock_timestamp() + make_interval(secs => %s + CASE WHEN EXISTS (
            SELECT FROM messages WHERE state = 'calling' AND actor = %s AND body->>'message_key' = %s) THEN %s ELSE 0 END)
        """,
        (LATER_SECONDS, AnswerSlack.actor, key, CALL_SECONDS),
    )
    return Version(number, send_at)


async def is_latest(conn: Connection, key: str, number: int) -> bool:
    """Whether no later change is recorded. Waits for the transaction of a press that is recording one."""
    found: int | None = await conn.value(f"SELECT {_MICROSECONDS} FROM slack_deduplication WHERE key = %s FOR SHARE", (key,))
    return found is None or found <= number

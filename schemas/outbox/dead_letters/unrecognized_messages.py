"""Unrecognized messages: arrived through RabbitMQ, but no row in `messages` belongs to them. Recorded raw, and listed with the
dead letters."""

from schemas.outbox.failed_attempts import escape_unstorable
from schemas.postgres.connection import Connection


async def record_unrecognized(conn: Connection, *, queue: str, reason: str, body: bytes, headers: object = None) -> None:
    """Records the raw message. `reason` is Stint's own text. `headers` are stored as text, because they may contain
    anything."""
    await conn.execute(
        # WHERE NOT EXISTS first: ON CONFLICT alone would lock the group's row, and all that record the same kind at the same
        # time would wait for each other. A kind that was not seen for a day gets a new alert.
        """
        WITH kind AS (
            INSERT INTO unrecognized_groups AS g (queue, reason) SELECT %(queue)s, %(reason)s WHERE NOT EXISTS (
                SELECT FROM unrecognized_groups
                WHERE queue = %(queue)s AND reason = %(reason)s AND last_at >= now() - interval '1 minute')
            ON CONFLICT (queue, reason) DO UPDATE
            SET last_at = now(), alerted_at = CASE WHEN g.last_at > now() - interval '1 day' THEN g.alerted_at END
            WHERE g.last_at < now() - interval '1 minute'
        )
        INSERT INTO unrecognized_messages (queue, reason, body, headers) VALUES (%(queue)s, %(reason)s, %(body)s, %(headers)s)
        """,
        {"queue": queue, "reason": reason, "body": body, "headers": escape_unstorable(repr(headers or {}))},
    )

"""What is discarded is deleted after STINT_DISCARDED_DAYS, if that is set; else it is kept, so that it can be restored."""

from schemas.postgres.connection import Connection

MOST = 5_000  # of each table in one round


async def prune(conn: Connection, *, days: float) -> bool:
    """Deletes what was discarded `days` ago. Returns whether there may be more. A message whose body a person has changed is
    kept, with what was changed."""
    deleted = [
        (await conn.execute(statement, {"days": days, "most": MOST})).rowcount
        for statement in (
            """
            DELETE FROM messages WHERE id IN (
                SELECT id FROM messages m
                WHERE state = 'discarded' AND died_at < statement_timestamp() - make_interval(secs => %(days)s * 86400)
                    AND NOT EXISTS (
                        SELECT FROM message_events e WHERE e.message_id = m.id AND (
                            e.action = 'edit'
                            OR e.at >= statement_timestamp() - make_interval(secs => %(days)s * 86400)))
                ORDER BY died_at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
            """,
            """
            DELETE FROM unrecognized_messages WHERE id IN (
                SELECT id FROM unrecognized_messages
                WHERE at < statement_timestamp() - make_interval(secs => %(days)s * 86400)
                    AND discarded_at < statement_timestamp() - make_interval(secs => %(days)s * 86400)
                ORDER BY at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
            """,
        )
    ]
    return MOST in deleted

"""Telling the people on call: once per group of dead letters, or kind of foreign ones, not once per letter."""

from schemas import ledger, mails
from schemas.database import Connection
from schemas.masking import masked_text


async def tell(conn: Connection, *, ops_email: str | None) -> list[str]:
    """Promises a mail for each group that nobody was told of yet, and returns them in words. A group that was quiet for a day
    is told of again. Mails that die themselves are a group like any other, told of once."""
    return await _tell_of_dead(conn, ops_email) + await _tell_of_foreign(conn, ops_email)


async def _tell_of_dead(conn: Connection, ops_email: str | None) -> list[str]:
    cursor = await conn.execute(
        """
        UPDATE failure_groups SET told_at = clock_timestamp() WHERE fingerprint IN (
            SELECT fingerprint FROM failure_groups WHERE told_at IS NULL ORDER BY first_at LIMIT 20 FOR UPDATE SKIP LOCKED)
        RETURNING fingerprint, actor, error_class, frame,
            (SELECT m.error FROM messages m WHERE m.fingerprint = failure_groups.fingerprint AND m.state = 'dead'
             ORDER BY m.died_at DESC LIMIT 1)
        """
    )
    told = []
    for fingerprint, actor, error_class, frame, error in await cursor.fetchall():
        told.append(
            f"letters die of something new: {actor}, {error_class} at {frame or 'no place of ours'} (group {fingerprint})"
        )
        if ops_email is not None:
            text = masked_text(error or error_class)[:1000]
            mail = mails.dead_letters(to=ops_email, actor=actor, error=text, frame=frame, fingerprint=fingerprint)
            await ledger.put(conn, mail)
    return told


async def _tell_of_foreign(conn: Connection, ops_email: str | None) -> list[str]:
    cursor = await conn.execute(
        """
        UPDATE foreign_groups SET told_at = clock_timestamp() WHERE (queue, reason) IN (
            SELECT queue, reason FROM foreign_groups WHERE told_at IS NULL ORDER BY first_at LIMIT 20 FOR UPDATE SKIP LOCKED)
        RETURNING queue, reason,
            (SELECT l.id FROM foreign_letters l WHERE l.queue = foreign_groups.queue AND l.reason = foreign_groups.reason
             ORDER BY l.at DESC LIMIT 1)
        """
    )
    told = []
    for queue, reason, letter_id in await cursor.fetchall():
        told.append(f"foreign letters of a new kind came on {queue}: {reason}")
        if ops_email is not None:
            await ledger.put(conn, mails.foreign_letters(to=ops_email, queue=queue, reason=reason, letter_id=letter_id))
    return told

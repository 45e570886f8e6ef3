"""Telling the people on call: once per group of dead letters, not once per letter."""

from schemas import ledger, mails
from schemas.database import Connection
from schemas.masking import masked_text


async def tell(conn: Connection, *, ops_email: str | None) -> list[str]:
    """Promises a mail for each group that nobody was told of yet, and returns them in words. A group that was quiet for a day
    is told of again. Mails that die themselves are a group like any other, told of once."""
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
        told.append(f"{actor}, {error_class} at {frame or 'no place of ours'} (group {fingerprint})")
        if ops_email is not None:
            text = masked_text(error or error_class)[:1000]
            mail = mails.dead_letters(to=ops_email, actor=actor, error=text, frame=frame, fingerprint=fingerprint)
            await ledger.put(conn, mail)
    return told

"""Alerts to the people on call: one mail per group of dead letters, and per kind of unrecognized messages."""

from schemas.mail import templates
from schemas.masking import Redactor
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings


async def send_alerts(conn: Connection, settings: Settings) -> list[str]:
    """Enqueues a mail to OPS_EMAIL, if that is set, for each new group, and returns a log line for each. A group that was not
    seen for a day is new again. Mails that are dead themselves are a group like any other, so they do not cause mails without
    end."""
    return await _alert_dead_letters(conn, settings) + await _alert_unrecognized(conn, settings)


async def _alert_dead_letters(conn: Connection, settings: Settings) -> list[str]:
    groups = await conn.all(
        """
        UPDATE failure_groups SET alerted_at = clock_timestamp() WHERE fingerprint IN (
            SELECT fingerprint FROM failure_groups WHERE alerted_at IS NULL ORDER BY first_at LIMIT 20 FOR UPDATE SKIP LOCKED)
        RETURNING fingerprint, actor, error_class, frame,
            (SELECT m.error FROM messages m WHERE m.fingerprint = failure_groups.fingerprint AND m.state = 'dead'
             ORDER BY m.died_at DESC LIMIT 1)
        """
    )
    for fingerprint, actor, error_class, frame, error in groups:
        if settings.ops_email is not None:
            text = Redactor(settings).text(error or error_class)[:1000]
            url = _page(settings, f"list?fingerprint={fingerprint}")
            mail = templates.dead_letters(
                to=settings.ops_email, actor=actor, error=text, frame=frame, fingerprint=fingerprint, url=url
            )
            await outbox.enqueue(conn, mail)
    return [
        f"New kind of dead letter: actor={actor} error={error_class} frame={frame or '-'} group={fingerprint}"
        for fingerprint, actor, error_class, frame, _ in groups
    ]


async def _alert_unrecognized(conn: Connection, settings: Settings) -> list[str]:
    kinds = await conn.all(
        """
        UPDATE unrecognized_groups g SET alerted_at = clock_timestamp() WHERE (queue, reason) IN (
            SELECT queue, reason FROM unrecognized_groups
            WHERE alerted_at IS NULL ORDER BY first_at LIMIT 20 FOR UPDATE SKIP LOCKED)
        RETURNING queue, reason,
            (SELECT m.id FROM unrecognized_messages m WHERE m.queue = g.queue AND m.reason = g.reason
             ORDER BY m.at DESC LIMIT 1)
        """
    )
    for queue, reason, message_id in kinds:
        if settings.ops_email is not None:
            url = _page(settings, str(message_id))
            mail = templates.unrecognized_messages(
                to=settings.ops_email, queue=queue, reason=reason, message_id=message_id, url=url
            )
            await outbox.enqueue(conn, mail)
    return [f"New kind of unrecognized message: queue={queue} reason={reason!r}" for queue, reason, _ in kinds]


def _page(settings: Settings, path: str) -> str:
    return f"{settings.public_url.rstrip('/')}/console/dead-letters/{path}"

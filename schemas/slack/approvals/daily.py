"""The message of the day: what an admin has to approve. schemas/slack/approvals/planning.py plans it."""

from datetime import date
from uuid import UUID

from schemas.messages import PostApprovals
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.approvals import blocks, pending, people
from schemas.slack.approvals.direct import DirectMessage


async def build(conn: Connection, message: PostApprovals, *, settings: Settings) -> DirectMessage | None:
    """The message with what is to be approved now. None if that is nothing, if the day is over, or if the user is no admin
    any more."""
    admin = await people.find_admin(conn, message.user_id, settings=settings)
    if admin is None or message.day != await _today(conn, settings):
        return None
    bills = await pending.list_pending(conn, zone=settings.stint_timezone, only_customer=None)
    if not bills:
        return None
    text, shown = blocks.bill_list(bills, app_url=settings.app_url)
    return DirectMessage(admin.email, text, shown)


async def send_now(conn: Connection, user_id: UUID, *, settings: Settings) -> None:
    """Enqueues the message for an admin who asked for it, unless one is due already: a double click is one message. The caller
    has locked the admin's Home."""
    is_due = await conn.value(
        """
        SELECT EXISTS (SELECT FROM messages WHERE actor = %s AND state IN ('ready', 'sent', 'calling')
            AND queue = %s AND available_at <= statement_timestamp() AND body->>'user_id' = %s)
        """,
        (PostApprovals.actor, PostApprovals.queue, str(user_id)),
    )
    if not is_due:
        await outbox.enqueue(conn, PostApprovals(user_id=user_id, day=await _today(conn, settings)), created_by=user_id)


async def _today(conn: Connection, settings: Settings) -> date:
    today: date = await conn.value("SELECT (clock_timestamp() AT TIME ZONE %s)::date", (settings.stint_timezone,))
    return today

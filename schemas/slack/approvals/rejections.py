"""What the owner of a rejected time bill reads in Slack: who rejected which bill, and why."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from schemas.messages import TellRejection
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.approvals import people
from schemas.slack.approvals.blocks import bill_url, format_day, format_minutes, name, plain, section
from schemas.slack.approvals.direct import DirectMessage


@dataclass(frozen=True)
class _Rejected:
    """A rejected bill; `by` is the name of the admin."""

    user_id: UUID
    date: date
    minutes: int
    note: str
    customer: str
    pillar: str
    by: str


async def build(conn: Connection, message: TellRejection, *, settings: Settings) -> DirectMessage | None:
    """The message to the bill's owner. None if the bill is not rejected any more, or was rejected again since then, for which
    there is another message; if the owner's access is revoked; or without a
    bot token."""
    if settings.slack_bot_token is None:
        return None
    rejected = await conn.maybe(
        """
        SELECT b.user_id, b.date, b.minutes, coalesce(b.rejection_note, '') AS note, c.name AS customer, p.name AS pillar,
               coalesce((SELECT coalesce(nullif(name, ''), email) FROM users WHERE id = %(by)s), '') AS by
        FROM time_bills b JOIN customers c ON c.id = b.customer_id JOIN pillars p ON p.id = b.pillar_id
        WHERE b.id = %(bill)s AND b.deleted_at IS NULL AND b.status = 'rejected' AND b.rejected_version = %(version)s
        """,
        {"bill": message.bill_id, "version": message.version, "by": message.rejected_by},
        row=_Rejected,
    )
    if rejected is None:
        return None
    owner = (await people.find_consultants(conn, [rejected.user_id])).get(rejected.user_id)
    if owner is None:
        return None
    what = f"{format_day(rejected.date)}, {format_minutes(rejected.minutes)} for {name(rejected.customer)}"
    text = f"{name(rejected.by) or 'An admin'} rejected your time bill of {what}, {name(rejected.pillar)}."
    shown = [section(text), {"type": "section", "text": plain(f"Why: {rejected.note}")}]
    if settings.app_url:
        shown.append(section(f"<{bill_url(settings.app_url, message.bill_id)}|Open the time bill>"))
    return DirectMessage(owner.email, text, shown)

"""What a bill shows of its entry in Xero: the outcome of its sync, and what somebody has changed there."""

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from schemas.hours.time_bills import InXero
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero.differences.content import Difference, changed_fields, day_in
from schemas.xero.entry_records import EntryRecord
from schemas.xero.planning.steps import Done


async def show_outcome(conn: Connection, bill_id: UUID, done: Done, record: EntryRecord, settings: Settings) -> bool:
    """Shows the outcome on the locked bill. Returns whether its status is another one now."""
    shown = in_xero(record, settings) if done.status in ("synced", "differs", "failed") else None
    is_there = done.status in ("synced", "differs") and not (record.difference and record.difference.is_deletion)
    changed = await conn.value(
        """
        UPDATE time_bills b
        SET xero_status = %(status)s, xero_error = %(error)s, xero_time_entry_id = %(entry)s,
            xero_synced_at = CASE WHEN %(status)s = 'synced' THEN coalesce(b.xero_synced_at, clock_timestamp()) END,
            xero_invoiced_at = CASE WHEN %(there)s THEN b.xero_invoiced_at END,
            xero_difference = %(difference)s, xero_accepted = CASE WHEN %(accepted)s THEN b.xero_accepted END
        FROM time_bills before
        WHERE before.id = b.id AND b.id = %(bill)s
          AND (b.xero_status, b.xero_error, b.xero_time_entry_id, b.xero_difference, b.xero_accepted IS NOT NULL)
              IS DISTINCT FROM (%(status)s, %(error)s, %(entry)s, %(difference)s::jsonb, %(accepted)s)
        RETURNING before.xero_status <> b.xero_status
        """,
        {
            "status": done.status,
            "error": done.error,
            "entry": done.entry_id,
            "there": is_there,
            "difference": None if shown is None else Jsonb(shown),
            "accepted": record.accepted,
            "bill": bill_id,
        },
    )
    return bool(changed)


def in_xero(record: EntryRecord, settings: Settings) -> dict[str, Any] | None:
    """What the entry has in Xero, as a bill shows it (InXero); None if nobody has changed it."""
    if record.content is None or record.difference is None:
        return None
    return _shown(record.difference, record, settings).model_dump(mode="json", by_alias=True)


def _shown(difference: Difference, record: EntryRecord, settings: Settings) -> InXero:
    found = difference.content
    if found is None or record.content is None:
        return InXero(deleted=True, minutes=0, date=None, description=None, changed=[])
    return InXero(
        deleted=False,
        minutes=found.minutes,
        date=day_in(settings.stint_timezone, found.date_utc),
        description=found.description,
        changed=changed_fields(record.content, found),
    )

"""Time entries that somebody has changed or deleted in Xero by hand, as lists show them.

Lists are behind, and Stint's own calls may be under way. So what a list shows is only a reason to read the entry: the bill's
SyncBill message does that, and decides.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.messages import CheckInvoiced, SyncBill
from schemas.outbox import outbox
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero.checks.projects import ProjectToCheck
from schemas.xero.differences.content import Difference
from schemas.xero.entries.entry import Entry, EntryContent, EntryPage
from schemas.xero.entry_records import EntryRecord

# Entries that are read because of one page of a list, the latest days first; the next check finds the others. After the page
# the checks pause for each, so that they take no more calls of the day than their share.
MOST_READ = 50
MISSING_HOURS = 6  # an entry that is there, although no list shows it, is read again after these

# whether the entry `e` of the bill `b` is known, so that another content, or none, is a change by hand
_IS_KNOWN = """
    e.tenant_id = %(tenant)s AND e.project_id = %(project)s AND cardinality(e.entry_ids) = 1 AND NOT e.withdrawing
    AND NOT e.outcome_unknown AND b.status = 'approved' AND b.xero_status IN ('synced', 'differs', 'failed')
"""


@dataclass(frozen=True)
class _Known:
    """An entry of a bill that is on the page. `is_readable`: it was not read since the page was asked for."""

    bill_id: UUID
    entry_id: str
    is_readable: bool
    record: EntryRecord


async def record_differences(
    conn: Connection, tenant_id: str, project: ProjectToCheck, page: EntryPage, message: CheckInvoiced, settings: Settings
) -> int:
    """Has the entries read that the page shows otherwise than they are known; and after the last page of the project, those
    that no page has shown. Returns how many."""
    parameters = {"tenant": tenant_id, "project": project.id, "at": project.at, "ids": [entry.id for entry in page.entries]}
    known = await _lock_known(conn, parameters)
    await conn.execute(
        "UPDATE xero_entries SET listed_at = clock_timestamp() WHERE bill_id = ANY(%s)", ([each.bill_id for each in known],)
    )
    changed = _changed(known, page.entries)
    if page.last and message.part != "recent" and message.started_at is not None:
        more = {"started": message.started_at, "lag": settings.stint_xero_lag_seconds, "hours": MISSING_HOURS}
        changed += await _missing(conn, parameters | more)
    to_read = await conn.values(
        f"""
        UPDATE xero_entries SET recheck = true WHERE bill_id IN (
            SELECT e.bill_id FROM xero_entries e JOIN time_bills b ON b.id = e.bill_id WHERE e.bill_id = ANY(%s)
            ORDER BY b.date DESC, b.id LIMIT {MOST_READ} FOR NO KEY UPDATE OF e SKIP LOCKED)
        RETURNING bill_id
        """,
        (changed,),
    )
    await outbox.enqueue_many(conn, [SyncBill(bill_id=bill_id) for bill_id in to_read])
    return len(to_read)


async def _lock_known(conn: Connection, parameters: dict[str, Any]) -> list[_Known]:
    """The entries of the page that are bills' entries. Those that a bill's own message has locked are left out."""
    rows = await conn.all(
        f"""
        SELECT e.bill_id, e.entry_ids[1], e.content, e.difference,
               {_IS_KNOWN} AND (e.entry_read_at IS NULL OR e.entry_read_at < %(at)s)
        FROM xero_entries e JOIN time_bills b ON b.id = e.bill_id
        WHERE e.entry_ids[1] = ANY(%(ids)s) AND e.tenant_id = %(tenant)s AND e.project_id = %(project)s
        ORDER BY e.bill_id FOR NO KEY UPDATE OF e SKIP LOCKED
        """,
        parameters,
    )
    return [
        _Known(
            bill_id,
            entry_id,
            is_readable,
            EntryRecord(
                content=content and EntryContent.model_validate(content),
                difference=difference and Difference.model_validate(difference),
            ),
        )
        for bill_id, entry_id, content, difference, is_readable in rows
    ]


def _changed(known: list[_Known], entries: list[Entry]) -> list[UUID]:
    """The bills whose entries are not as they are known."""
    listed = {entry.id: entry.content for entry in entries}
    return [each.bill_id for each in known if each.is_readable and not each.record.agrees_with(listed[each.entry_id])]


async def _missing(conn: Connection, parameters: dict[str, Any]) -> list[UUID]:
    """The bills whose entries no page of the project has shown since its reading began, and that were there before."""
    return await conn.values(
        f"""
        SELECT e.bill_id FROM xero_entries e JOIN time_bills b ON b.id = e.bill_id
        WHERE {_IS_KNOWN} AND coalesce(e.difference->'content', '{{}}') <> 'null'::jsonb
          AND coalesce(e.listed_at, '-infinity') < %(started)s
          AND coalesce(b.xero_synced_at, '-infinity') < %(started)s::timestamptz - make_interval(secs => %(lag)s)
          AND (e.entry_read_at IS NULL OR e.entry_read_at < e.listed_at
            OR e.entry_read_at < %(started)s::timestamptz - make_interval(hours => %(hours)s))
        ORDER BY b.date DESC, b.id LIMIT {MOST_READ}
        """,
        parameters,
    )

"""Time entries in Xero that carry the mark of a bill and are not the bill's entry: somebody copied one."""

from uuid import UUID

from schemas.messages import CheckInvoiced
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero.checks.projects import ProjectToCheck
from schemas.xero.differences.content import day_in
from schemas.xero.entries.entry import EntryPage


async def record_strays(
    conn: Connection, tenant_id: str, project: ProjectToCheck, page: EntryPage, message: CheckInvoiced, settings: Settings
) -> None:
    """Records the entries that carry the mark of a bill and are not its entry, and deletes those that are not there any more.
    A bill whose create request was sent within the last hour has no such entry: its next look finds it."""
    marked = [(entry, bill_id) for entry in page.entries if (bill_id := _marked_bill(entry.content.description))]
    parameters = {
        "tenant": tenant_id,
        "project": project.id,
        "at": project.at,
        "page": [entry.id for entry in page.entries],
        "ids": [entry.id for entry, _ in marked],
        "bills": [bill_id for _, bill_id in marked],
        "minutes": [entry.content.minutes for entry, _ in marked],
        "dates": [day_in(settings.stint_timezone, entry.content.date_utc) for entry, _ in marked],
    }
    await conn.execute(
        """
        INSERT INTO xero_stray_entries (tenant_id, entry_id, project_id, bill_id, minutes, date)
        SELECT %(tenant)s, now.entry_id, %(project)s, now.bill_id, now.minutes, now.date
        FROM unnest(%(ids)s::text[], %(bills)s::uuid[], %(minutes)s::int[], %(dates)s::date[])
            now (entry_id, bill_id, minutes, date)
        WHERE NOT EXISTS (
            SELECT FROM xero_entries e WHERE e.bill_id = now.bill_id
                AND (now.entry_id = ANY(e.entry_ids) OR e.create_attempted_at > clock_timestamp() - interval '1 hour'))
        ON CONFLICT (tenant_id, entry_id) DO UPDATE SET
            seen_at = clock_timestamp(), minutes = excluded.minutes, project_id = excluded.project_id,
            bill_id = excluded.bill_id, date = excluded.date
        """,
        parameters,
    )
    is_whole = page.last and message.part != "recent"
    await conn.execute(
        """
        DELETE FROM xero_stray_entries WHERE tenant_id = %(tenant)s AND project_id = %(project)s AND seen_at < %(at)s
            AND (entry_id = ANY(%(page)s) OR seen_at < %(started)s)
        """,
        parameters | {"started": message.started_at if is_whole else None},
    )


def _marked_bill(description: str) -> UUID | None:
    """The bill of the mark at the end of the description; None without one. See `Bill.mark`."""
    try:
        bill_id = UUID(description.rpartition("[bill:")[2].removesuffix("]"))
    except ValueError:
        return None
    return bill_id if description.endswith(f"[bill:{bill_id}]") else None

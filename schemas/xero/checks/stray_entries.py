"""Reading the time entries in Xero that carry the mark of a bill and are not the bill's entry. It does not import the client of
Xero, since those that read them do not call Xero; what records them does (schemas/xero/checks/strays.py)."""

from schemas.postgres.connection import Connection
from schemas.settings import Settings


async def stray_entries(conn: Connection, settings: Settings) -> list[str]:
    """The entries in the connected organisation that carry the mark of a bill and are not its entry, described. Only those that
    two checks have seen: at the first one, Xero's list may have been behind."""
    query = """
        SELECT format('%%s with %%s minutes in project %%s, marked as bill %%s', entry_id, minutes, project_id, bill_id)
        FROM xero_stray_entries WHERE seen_at - first_seen_at >= make_interval(secs => %s)
            AND tenant_id = (SELECT tenant_id FROM xero_connection)
        ORDER BY first_seen_at, entry_id
    """
    return await conn.values(query, (settings.stint_xero_lag_seconds,))

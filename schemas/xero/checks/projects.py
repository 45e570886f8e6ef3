"""The projects whose time entries are checked, the one that was not checked for the longest time first."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.messages import CheckInvoiced
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import rate_limits
from schemas.xero.client_errors import Refused
from schemas.xero.entries.entry import PAGE_SIZE
from schemas.xero.tokens import Access

SHARE_OF_CALLS = 0.2  # of the day's calls, for these checks
REQUESTED_SECONDS = 5.0  # between two calls of a reading that somebody waits for
RECENT_DAYS = 31  # of a project with more than one page of entries, the pages with those of these days are read first


@dataclass(frozen=True)
class ProjectToCheck:
    """A project, the date of its first entry of a bill, its number of entries of bills, and the present time."""

    id: str
    since: datetime
    at: datetime
    entries: int = 0


async def next_project(conn: Connection, message: CheckInvoiced, access: Access, settings: Settings) -> ProjectToCheck | None:
    """The project to read now. None: no project is due.

    It is the message's project, if more of its pages are to be read. Otherwise it is the project that was not checked for the
    longest time, if that is long enough ago: an interval for each page of its entries. So a project costs at most one call per
    interval, however many entries it has, unless somebody has requested a reading.

    Projects that had entries once are checked, too: they may have an entry too many.
    """
    return await conn.maybe(
        """
        WITH known AS (
            SELECT * FROM xero_entries
            WHERE tenant_id = %(tenant)s AND (entry_ids <> '{}' OR invoice_checked_at IS NOT NULL)
        )
        SELECT project_id AS id, min((content->>'date_utc')::timestamptz) AS since, clock_timestamp() AS at,
               count(*) AS entries
        FROM known
        WHERE project_id = coalesce(%(project)s, (
            SELECT k.project_id FROM known k LEFT JOIN xero_projects p USING (tenant_id, project_id)
            CROSS JOIN (SELECT max(reading_requested_at) AS at FROM xero_tenants WHERE tenant_id = %(tenant)s) requested
            GROUP BY k.project_id, p.tried_at, requested.at
            HAVING min(coalesce(invoice_checked_at, '-infinity'))
                < clock_timestamp() - make_interval(secs => %(seconds)s * ceil(count(*)::float / %(page)s))
                OR coalesce(p.tried_at, '-infinity') < requested.at
            ORDER BY min(coalesce(invoice_checked_at, '-infinity')) LIMIT 1))
        GROUP BY project_id
        """,
        {
            "tenant": access.tenant_id,
            "project": message.project_id,
            "seconds": settings.stint_xero_check_seconds,
            "page": PAGE_SIZE,
        },
        row=ProjectToCheck,
    )


def first_page(message: CheckInvoiced, project: ProjectToCheck) -> CheckInvoiced:
    """The message with which the reading of a project begins. A message in the middle of a reading stays as it is. A project of
    one page is read whole."""
    if message.project_id is not None:
        return message
    part = "recent" if project.entries > PAGE_SIZE else "all"
    return CheckInvoiced(project_id=project.id, part=part, started_at=project.at)


def page_after(message: CheckInvoiced, *, last: bool) -> CheckInvoiced | None:
    """The message for the page after that of this message; None: it was the project's last."""
    if not last:
        return message.model_copy(update={"page": message.page + 1})
    if message.part == "recent":
        return message.model_copy(update={"page": 1, "part": "older"})
    return None


def days(message: CheckInvoiced, project: ProjectToCheck) -> dict[str, datetime]:
    """The filters of Xero's list for the message's part of the project. The parts overlap by a day, so that no entry is
    between them."""
    first = project.since - timedelta(days=1)
    recent = (message.started_at or project.at) - timedelta(days=RECENT_DAYS)
    match message.part:
        case "recent":
            return {"date_after_utc": max(first, recent)}
        case "older":
            return {"date_after_utc": first, "date_before_utc": recent + timedelta(days=1)}
    return {"date_after_utc": first}


def pause_seconds(settings: Settings) -> float:
    """Seconds between two calls of the checks. In a day, all of them take SHARE_OF_CALLS of the day's calls at most."""
    return min(settings.stint_xero_check_seconds, rate_limits.DAY_SECONDS / (settings.xero_calls_per_day * SHARE_OF_CALLS))


async def pause(conn: Connection, tenant_id: str, settings: Settings) -> float:
    """Seconds until the next call of the checks. There are fewer while somebody has requested a reading of all projects, as
    long as at least half of the day's calls are left."""
    is_requested = await conn.value(
        """
        SELECT EXISTS (
            SELECT FROM xero_tenants t JOIN xero_entries e USING (tenant_id)
            LEFT JOIN xero_projects p USING (tenant_id, project_id)
            WHERE t.tenant_id = %(tenant)s AND (e.entry_ids <> '{}' OR e.invoice_checked_at IS NOT NULL)
              AND coalesce(p.tried_at, '-infinity') < t.reading_requested_at)
          AND (SELECT count(*) FROM xero_calls
               WHERE tenant_id = %(tenant)s AND ends_at > now() - interval '1 day') < %(most)s
        """,
        {"tenant": tenant_id, "most": settings.xero_calls_per_day / 2},
    )
    return min(REQUESTED_SECONDS, pause_seconds(settings)) if is_requested else pause_seconds(settings)


async def mark_checked(
    conn: Connection, tenant_id: str, project: ProjectToCheck, *, started_at: datetime | None, error: Exception | None = None
) -> None:
    """Records that the whole project was checked by a reading that began at `started_at`, or why this failed.

    A requested reading that has failed is tried again, unless Xero has refused it.
    """
    await conn.execute(
        """
        UPDATE xero_entries SET invoice_checked_at = clock_timestamp() WHERE bill_id IN (
            SELECT bill_id FROM xero_entries WHERE project_id = %s AND (entry_ids <> '{}' OR invoice_checked_at IS NOT NULL)
            ORDER BY bill_id FOR NO KEY UPDATE SKIP LOCKED)
        """,
        (project.id,),
    )
    await conn.execute(
        """
        INSERT INTO xero_projects AS p (tenant_id, project_id, read_at, tried_at, error)
        VALUES (%(tenant)s, %(project)s, %(read)s, %(tried)s, %(error)s)
        ON CONFLICT (tenant_id, project_id) DO UPDATE SET
            read_at = coalesce(excluded.read_at, p.read_at), tried_at = coalesce(excluded.tried_at, p.tried_at),
            error = excluded.error
        """,
        {
            "tenant": tenant_id,
            "project": project.id,
            "read": None if error else started_at,
            "tried": started_at if error is None or isinstance(error, Refused) else None,
            "error": None if error is None else str(error) or "Xero did not answer in time",
        },
    )

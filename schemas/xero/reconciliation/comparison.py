"""Bills against entries: one statement compares what bills show with what Stint last read in Xero. Xero is not called."""

from datetime import date
from typing import Literal, get_args
from uuid import UUID

from schemas.base import json_joined, json_object
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, decode_cursor, encode_cursor
from schemas.postgres.sync_cursor import UNTRUSTED
from schemas.reports.days import check_number_of_days
from schemas.settings import Settings
from schemas.xero.reconciliation.models import ComparedBill, ComparedTotal, ComparedTotals, ProjectReading, Result

_DIFFERS = "result IN ('differs', 'missing', 'too_many')"
# which items a page has: all, those that do not agree, or those of them that wait for a person's decision
_SHOWN = {"all": "true", "different": _DIFFERS, "undecided": "cause IN ('changed', 'deleted', 'failed', 'stray')"}
Shown = Literal["all", "different", "undecided"]
_NAME, _ORDER = "xero_reconciliation", Order("date", "date")

# The CTE `compared`. A bill of 0 minutes needs no entry; one that is not approved has none.
_COMPARED = """
    bill AS (
        SELECT b.*, e.project_id, e.entry_ids, greatest(e.listed_at, e.entry_read_at) AS read_at,
               coalesce(e.difference->'content' = 'null', false) AS is_deleted,
               coalesce(e.entry_ids <> '{}', false) AND coalesce(e.difference->'content' <> 'null', true) AS has_entry,
               coalesce(e.difference->'content'->>'minutes', e.content->>'minutes')::bigint AS entry_minutes
        FROM time_bills b LEFT JOIN xero_entries e ON e.bill_id = b.id
        WHERE b.status = 'approved' AND b.deleted_at IS NULL AND b.xero_status <> 'none'
          AND b.date BETWEEN %(start)s AND %(end)s
    ), compared AS (
        SELECT id, date, id AS bill_id, customer_id, pillar_id, user_id, minutes,
               CASE WHEN has_entry THEN entry_minutes END AS xero_minutes,
               CASE WHEN has_entry THEN entry_ids[1] END AS time_entry_id, project_id, read_at,
               CASE WHEN xero_status = 'withdrawing' THEN 'too_many'
                    WHEN xero_accepted IS NOT NULL THEN 'accepted'
                    WHEN xero_status = 'synced' THEN 'agrees'
                    WHEN has_entry THEN 'differs'
                    ELSE 'missing' END AS result,
               CASE WHEN xero_status = 'synced' THEN NULL
                    WHEN xero_status = 'differs' THEN CASE WHEN is_deleted THEN 'deleted' ELSE 'changed' END
                    ELSE xero_status END AS cause,
               coalesce(xero_accepted->>'reason', xero_error) AS reason, updated_at AS bill_updated_at
        FROM bill
        UNION ALL
        SELECT md5(s.tenant_id || s.entry_id)::uuid, coalesce(s.date, b.date, s.first_seen_at::date), s.bill_id, b.customer_id,
               b.pillar_id, b.user_id, NULL, s.minutes, s.entry_id, s.project_id, s.seen_at, 'too_many', 'stray',
               'It has the mark of the bill, and is not its entry: compare them in Xero, and delete there what is too many.',
               b.updated_at
        FROM xero_stray_entries s LEFT JOIN time_bills b ON b.id = s.bill_id
        WHERE s.tenant_id = (SELECT tenant_id FROM xero_connection)
          AND s.seen_at - s.first_seen_at >= make_interval(secs => %(lag)s)
          AND coalesce(s.date, b.date, s.first_seen_at::date) BETWEEN %(start)s AND %(end)s
    )
"""


def _total(condition: str) -> str:
    # each ComparedTotal as a row, for json_object
    return f"""(SELECT {json_object(ComparedTotal, "t")} FROM (
        SELECT count(*) AS count, coalesce(sum(minutes), 0) AS minutes, coalesce(sum(xero_minutes), 0) AS xero_minutes
        FROM compared WHERE {condition}) t)"""


_CONDITIONS = {"all": "true"} | {name: f"result = '{name}'" for name in get_args(Result)}
_TOTALS = f"""
    totals AS (SELECT {", ".join(f'{_total(condition)} AS "{name}"' for name, condition in _CONDITIONS.items())})
"""
_PROJECTS = f"""
    projects AS (
        SELECT coalesce(json_agg({json_object(ProjectReading, "p")} ORDER BY p.read_at NULLS FIRST, p.project_id), '[]') AS list
        FROM (
            SELECT x.project_id, x.read_at, x.error, ARRAY(
                SELECT c.name FROM customers c WHERE c.xero_project_id = x.project_id AND c.deleted_at IS NULL ORDER BY c.name
            ) AS customers
            FROM xero_projects x WHERE x.tenant_id = (SELECT tenant_id FROM xero_connection)
        ) p)
"""


async def compare(conn: Connection, start: date, end: date, page: Page, settings: Settings, *, shown: Shown = "all") -> bytes:
    """A page of the comparison as JSON (Reconciliation). `shown`: which items it has; the totals are of all. Raises
    Invalid for a range of days that ends before it starts or has more than MAX_DAYS days, and for an invalid cursor."""
    check_number_of_days(start, end)
    item, joins = json_joined(ComparedBill, "c")
    key, row_id = _after(page.cursor)
    row = await conn.one(
        f"""
        WITH {_COMPARED}, {_TOTALS}, {_PROJECTS}, page AS (
            SELECT {item} AS item, c.date, c.id, row_number() OVER (ORDER BY c.date DESC, c.id DESC) AS place
            FROM (SELECT * FROM compared WHERE (%(key)s::date IS NULL OR (date, id) < (%(key)s::date, %(id)s::uuid))
                      AND {_SHOWN[shown]}
                  ORDER BY date DESC, id DESC LIMIT %(limit)s + 1) c {joins}
        )
        SELECT {json_object(ComparedTotals, "totals")}::text, projects.list::text,
               (SELECT coalesce(json_agg(item ORDER BY place), '[]')::text FROM page WHERE place <= %(limit)s),
               (SELECT date::text FROM page WHERE place = %(limit)s AND (SELECT count(*) FROM page) > %(limit)s),
               (SELECT id::text FROM page WHERE place = %(limit)s AND (SELECT count(*) FROM page) > %(limit)s),
               NOT EXISTS (SELECT FROM compared WHERE {_DIFFERS})
        FROM totals CROSS JOIN projects
        """,
        {
            "start": start,
            "end": end,
            "lag": settings.stint_xero_lag_seconds,
            "key": key,
            "id": row_id,
            "limit": page.limit,
        },
    )
    totals, projects, items, last_key, last_id, all_agree = row
    cursor = "null" if last_key is None else f'"{encode_cursor(_NAME, _ORDER, last_key, last_id, UNTRUSTED).decode()}"'
    agree = "true" if all_agree else "false"
    return f'{{"allAgree":{agree},"totals":{totals},"projects":{projects},"items":{items},"nextCursor":{cursor}}}'.encode()


def _after(cursor: str | None) -> tuple[date | None, UUID | None]:
    if cursor is None:
        return None, None
    key, row_id, _ = decode_cursor(cursor, _NAME, _ORDER)
    assert isinstance(key, date)
    return key, row_id

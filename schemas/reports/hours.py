"""Hours by customer, pillar, person, day, week and month: sums of time bills by one or two of these levels.

A report reads the bills through `time_bills.select`, so it has the same bills as a list with the same filters.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, get_args

from schemas.base import json_object
from schemas.errors import Invalid
from schemas.hours import time_bills
from schemas.hours.time_bills import BillFilter
from schemas.identity.users import User
from schemas.postgres.connection import Connection, one_json
from schemas.reports.days import check_number_of_days
from schemas.reports.models import HoursReport, HoursRow, HoursSums, Level, PartOfReport

LEVELS: tuple[Level, ...] = get_args(Level)
MAX_ROWS = 20_000
# A prepared statement gets a plan for any days, which expects few bills: a year by month takes 40% more CPU time with it.
_PREPARE = False

# What JSON Schema can say of `groupBy`, as alternatives instead of a rule, because generators of clients know no lookahead.
GROUP_BY_PATTERN = f"^({'|'.join([*LEVELS, *(','.join(pair) for pair in permutations(LEVELS, 2))])})$"

# A pillar has one customer. Bills that are grouped by the pillar are not grouped by its customer too: that takes twice as long.
_CUSTOMER_OF_PILLAR = "(SELECT p.customer_id FROM pillars p WHERE p.id = b.pillar_id)"
# by level: the columns by which bills `b` are grouped
_GROUPED: dict[Level, dict[str, str]] = {
    "customer": {"customer_id": "b.customer_id"},
    "pillar": {"customer_id": _CUSTOMER_OF_PILLAR, "pillar_id": "b.pillar_id"},
    "person": {"user_id": "b.user_id"},
    "day": {"day": "b.date"},
    "week": {"week": "date_trunc('week', b.date::timestamp)::date"},
    "month": {"month": "date_trunc('month', b.date::timestamp)::date"},
}
# by field of a group of sums `s`: the column that it needs, its SQL and its type
_FIELDS = {
    "customer_id": ("customer_id", "s.customer_id", "uuid"),
    "customer_name": ("customer_id", "c.name", "text"),
    "pillar_id": ("pillar_id", "s.pillar_id", "uuid"),
    "pillar_name": ("pillar_id", "p.name", "text"),
    "user_id": ("user_id", "s.user_id", "uuid"),
    "user_name": ("user_id", "u.name", "text"),
    "user_email": ("user_id", "u.email", "text"),
    "day": ("day", "s.day", "date"),
    "week": ("week", "s.week", "date"),
    "month": ("month", "s.month", "date"),
}
_JOINS = {
    "customer_id": "LEFT JOIN customers c ON c.id = s.customer_id",
    "pillar_id": "LEFT JOIN pillars p ON p.id = s.pillar_id",
    "user_id": "LEFT JOIN users u ON u.id = s.user_id",
}
# by level: the order of rows `r`
_ORDER: dict[Level, str] = {
    "customer": "lower(r.customer_name), r.customer_id",
    "pillar": "lower(r.customer_name), r.customer_id, lower(r.pillar_name), r.pillar_id",
    "person": "lower(r.user_name), lower(r.user_email), r.user_id",
    "day": "r.day",
    "week": "r.week",
    "month": "r.month",
}
_NOT_IN_XERO = """b.status = 'approved' AND (b.xero_status IN ('queued', 'failed', 'not_connected', 'not_mapped')
    OR b.xero_status = 'differs' AND (b.xero_difference->>'deleted')::boolean)"""
# by field of HoursSums: its SQL over bills `b`
_SUMS = {
    "bills": "count(*)",
    "seconds": "sum(b.seconds)",
    "minutes": "sum(b.minutes)",
    "approved_minutes": "coalesce(sum(b.minutes) FILTER (WHERE b.status = 'approved'), 0)",
    "unapproved_minutes": "coalesce(sum(b.minutes) FILTER (WHERE b.status <> 'approved'), 0)",
    "not_in_xero_minutes": f"coalesce(sum(b.minutes) FILTER (WHERE {_NOT_IN_XERO}), 0)",
}
_INTERNAL = {"not_in_xero_minutes"}  # sums that only the firm's own people see


def parse_levels(text: str) -> tuple[Level, ...]:
    """The levels of a `groupBy`. Raises Invalid for anything but one or two different ones."""
    names = text.split(",")
    levels = tuple(level for name in names for level in LEVELS if level == name)
    if len(levels) != len(names) or len(set(levels)) != len(levels) or len(levels) > 2:
        *first, last = LEVELS
        raise Invalid("groupBy", f"groupBy must be one or two of {', '.join(first)} and {last}, such as customer,month.")
    return levels


async def report(
    conn: Connection, levels: Sequence[Level], filters: BillFilter, *, user: User, max_rows: int = MAX_ROWS
) -> bytes:
    """The report of the bills that this user may see, as JSON (HoursReport); the filters have both days. Raises Invalid for too
    many days, and for a report of more than `max_rows` rows, and Forbidden for a filter that is not for customers' users."""
    return await _report(conn, levels, filters, HoursReport, {}, user=user, max_rows=max_rows)


async def part(
    conn: Connection, levels: Sequence[Level], filters: BillFilter, *, user: User, start: int, most: int
) -> PartOfReport:
    """At most `most` items of such a report, from that one on, counted from 0."""
    of_two = {"start": start, "most": most} if len(levels) > 1 else {}
    found = PartOfReport.from_json(await _report(conn, levels, filters, PartOfReport, of_two, user=user, max_rows=MAX_ROWS))
    if of_two:
        return found
    return found.model_copy(update={"subtotals": found.items, "items": found.items[start : start + most]})


async def _report(
    conn: Connection,
    levels: Sequence[Level],
    filters: BillFilter,
    model: type[HoursReport],
    part_of_items: Mapping[str, int],
    *,
    user: User,
    max_rows: int,
) -> bytes:
    items, parameters = await _items(conn, levels, filters, user=user, max_rows=max_rows)
    subtotals = "'[]'::json"
    if len(levels) > 1:
        of_first = _added_up(list(_GROUPED[levels[0]]), internal=user.is_internal)
        subtotals = _rows(f"({of_first})", levels[:1])
    selected = _rows("item", levels, "LIMIT %(most)s OFFSET %(start)s" if part_of_items else "")
    totals = _added_up([], internal=user.is_internal)
    found = await one_json(
        conn,
        f"""
        WITH item AS MATERIALIZED ({items}), report AS (
            SELECT %(levels)s::text[] AS group_by, %(start_date)s::date AS start_date, %(end_date)s::date AS end_date,
                   (SELECT {json_object(HoursSums, "t")} FROM ({totals}) t) AS totals,
                   {subtotals} AS subtotals, {selected} AS items, size.rows
            FROM (SELECT count(*) AS rows FROM item) size
        )
        SELECT CASE WHEN rows <= %(max_rows)s THEN {json_object(model, "report")} END FROM report
        """,
        parameters | {"levels": list(levels), **part_of_items},
        prepare=_PREPARE,
    )
    if found is None:
        raise _too_many_rows(max_rows)
    return found


async def table(
    conn: Connection, levels: Sequence[Level], filters: BillFilter, *, user: User
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names of the fields that the items of such a report have, and their values in each row. Raises as `report` does."""
    items, parameters = await _items(conn, levels, filters, user=user, max_rows=MAX_ROWS)
    columns = _columns(levels)
    fields = [name for name, (column, _, _) in _FIELDS.items() if column in columns]
    fields += [name for name in _SUMS if user.is_internal or name not in _INTERNAL]
    cursor = await conn.execute(
        f"""
        WITH item AS MATERIALIZED ({items})
        SELECT {", ".join(f"r.{name}" for name in fields)} FROM ({_named("item", levels)}) r ORDER BY {_order(levels)}
        """,
        parameters,
        prepare=_PREPARE,
    )
    rows = await cursor.fetchall()
    if len(rows) > MAX_ROWS:
        raise _too_many_rows(MAX_ROWS)
    return fields, rows


def _too_many_rows(most: int) -> Invalid:
    return Invalid(
        "groupBy", f"The report has more than {most:,} rows; choose fewer days, one customer or person, or larger groups."
    )


async def _items(
    conn: Connection, levels: Sequence[Level], filters: BillFilter, *, user: User, max_rows: int
) -> tuple[str, dict[str, Any]]:
    """SQL for the sums of each group, at most one more than `max_rows`, and its parameters."""
    assert filters.start_date is not None and filters.end_date is not None
    check_number_of_days(filters.start_date, filters.end_date)
    selection = await time_bills.select(conn, filters, user=user)
    items = f"{_grouped(levels, ' AND '.join(selection.conditions), internal=user.is_internal)} LIMIT %(max_rows)s + 1"
    return items, selection.parameters | {"max_rows": max_rows}


def _columns(levels: Sequence[Level]) -> dict[str, str]:
    columns = {name: text for level in levels for name, text in _GROUPED[level].items()}
    return columns | _GROUPED["pillar"] if "pillar" in levels else columns


def _order(levels: Sequence[Level]) -> str:
    return ", ".join(_ORDER[level] for level in levels)


def _grouped(levels: Sequence[Level], condition: str, *, internal: bool) -> str:
    """SQL for the sums of the bills `b` that meet the condition, by these levels."""
    columns = _columns(levels)
    keys = ", ".join(f"{text} AS {name}" for name, text in columns.items())
    groups = ", ".join(text for text in columns.values() if text != _CUSTOMER_OF_PILLAR)
    sums = _sums(_SUMS, internal=internal)
    return f"SELECT {keys}, {sums} FROM time_bills b WHERE {condition} GROUP BY {groups}"


def _added_up(columns: Sequence[str], *, internal: bool) -> str:
    """SQL for the sums of the items that agree in these columns."""
    sums = _sums({name: f"coalesce(sum({name}), 0)" for name in _SUMS}, internal=internal)
    by = f"GROUP BY {', '.join(columns)}" if columns else ""
    return f"SELECT {', '.join([*columns, sums])} FROM item {by}"


def _sums(texts: Mapping[str, str], *, internal: bool) -> str:
    """SQL for the fields of HoursSums. Customers' users do not learn what is missing in Xero."""
    hidden = set() if internal else _INTERNAL
    return ", ".join(f"({'NULL' if name in hidden else text})::bigint AS {name}" for name, text in texts.items())


def _named(source: str, levels: Sequence[Level]) -> str:
    """SQL for the rows of `source`, which are sums by these levels, with all fields of HoursRow."""
    columns = _columns(levels)
    fields = [f"{text if column in columns else f'NULL::{kind}'} AS {name}" for name, (column, text, kind) in _FIELDS.items()]
    joins = " ".join(text for column, text in _JOINS.items() if column in columns)
    return f"SELECT {', '.join([*fields, *(f's.{name}' for name in _SUMS)])} FROM {source} s {joins}"


def _rows(source: str, levels: Sequence[Level], part: str = "") -> str:
    """SQL for the rows of `source` as a JSON list of HoursRow; with a LIMIT in `part`, of these alone."""
    row, named = json_object(HoursRow, "r"), _named(source, levels)
    if part:
        named = f"SELECT * FROM ({named}) r ORDER BY {_order(levels)} {part}"
    return f"(SELECT coalesce(json_agg({row} ORDER BY {_order(levels)}), '[]') FROM ({named}) r)"


def wrong_sums() -> str:
    """SQL for `./stint verify`: a sentence for each group whose sums in a report are not those of its bills."""
    bills = {"customer": "customer_id::text", "pillar": "pillar_id::text", "person": "user_id::text", "day": "date::text",
             "week": "to_char(date, 'IYYY-IW')", "month": "to_char(date, 'YYYY-MM')"}  # fmt: skip
    rows = {"customer": "customer_id::text", "pillar": "pillar_id::text", "person": "user_id::text", "day": "day::text",
            "week": "to_char(week, 'IYYY-IW')", "month": "to_char(month, 'YYYY-MM')"}  # fmt: skip
    return " UNION ALL ".join(
        f"""
        SELECT format('{level} %%s: the report has %%s, its bills sum to %%s', key, r.sums, b.sums)
        FROM (
            SELECT {rows[level]} AS key, (bills, seconds, minutes, approved_minutes + unapproved_minutes) AS sums
            FROM ({_named(f"({_grouped([level], 'b.deleted_at IS NULL', internal=True)})", [level])}) named
        ) r FULL JOIN (
            SELECT {bills[level]} AS key, (count(*), sum(seconds)::bigint, sum(minutes)::bigint, sum(minutes)::bigint) AS sums
            FROM time_bills WHERE deleted_at IS NULL GROUP BY 1
        ) b USING (key)
        WHERE r.sums IS DISTINCT FROM b.sums
        """
        for level in LEVELS
    )

"""The report of hours: sums of time bills by one or two levels, which are customer, pillar, person, day, week and month.

A report reads the bills through `time_bills.select`. So it has the same bills as a list with the same filters.

The SQL is built in two parts. `_grouped` sums the bills by the levels: each group is an item of the report. `_added_up` adds
the items up: to the subtotals of the first level, and to the totals.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple, get_args

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
# The plan of a prepared statement is for any days and expects few bills. With it a year by month takes 40% more CPU time.
_PREPARE = False

# The values of `groupBy` as a pattern of JSON Schema. It lists all of them: generators of clients cannot read a lookahead.
_PAIRS = [",".join(pair) for pair in permutations(LEVELS, 2)]
GROUP_BY_PATTERN = f"^({'|'.join([*LEVELS, *_PAIRS])})$"

# A pillar has one customer, so bills are grouped by the pillar alone. To group them by its customer, too, takes twice as long.
_CUSTOMER_OF_PILLAR = "(SELECT p.customer_id FROM pillars p WHERE p.id = b.pillar_id)"
# By level: the columns by which bills `b` are grouped, each with its SQL.
_GROUPED: dict[Level, dict[str, str]] = {
    "customer": {"customer_id": "b.customer_id"},
    "pillar": {"customer_id": _CUSTOMER_OF_PILLAR, "pillar_id": "b.pillar_id"},
    "person": {"user_id": "b.user_id"},
    "day": {"day": "b.date"},
    "week": {"week": "date_trunc('week', b.date::timestamp)::date"},
    "month": {"month": "date_trunc('month', b.date::timestamp)::date"},
}


class _Field(NamedTuple):
    """A field of HoursGroup, read from sums `s` and from what _JOINS joins to them. It is null without the column."""

    column: str  # of _GROUPED
    sql: str
    type: str


_FIELDS = {
    "customer_id": _Field("customer_id", "s.customer_id", "uuid"),
    "customer_name": _Field("customer_id", "c.name", "text"),
    "pillar_id": _Field("pillar_id", "s.pillar_id", "uuid"),
    "pillar_name": _Field("pillar_id", "p.name", "text"),
    "user_id": _Field("user_id", "s.user_id", "uuid"),
    "user_name": _Field("user_id", "u.name", "text"),
    "user_email": _Field("user_id", "u.email", "text"),
    "day": _Field("day", "s.day", "date"),
    "week": _Field("week", "s.week", "date"),
    "month": _Field("month", "s.month", "date"),
}
# By column: the join that its fields need.
_JOINS = {
    "customer_id": "LEFT JOIN customers c ON c.id = s.customer_id",
    "pillar_id": "LEFT JOIN pillars p ON p.id = s.pillar_id",
    "user_id": "LEFT JOIN users u ON u.id = s.user_id",
}
# By level: the order of rows `r`.
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
# By field of HoursSums: its SQL over bills `b`.
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
    """The levels in a `groupBy`, which is one level, or two different ones with a comma between. Raises Invalid for others."""
    names = text.split(",")
    levels = tuple(level for name in names for level in LEVELS if level == name)
    if len(levels) != len(names) or len(set(levels)) != len(levels) or len(levels) > 2:
        *first, last = LEVELS
        raise Invalid("groupBy", f"groupBy must be one or two of {', '.join(first)} and {last}, such as customer,month.")
    return levels


async def report(
    conn: Connection, levels: Sequence[Level], filters: BillFilter, *, user: User, max_rows: int = MAX_ROWS
) -> bytes:
    """The report of the bills that this user may see, as JSON (HoursReport). The filters must have both days.

    Raises Invalid for too many days, and for a report of more than `max_rows` rows. Raises Forbidden for a filter that
    customers' users may not use.
    """
    return await _report(conn, levels, filters, HoursReport, {}, user=user, max_rows=max_rows)


async def part(
    conn: Connection, levels: Sequence[Level], filters: BillFilter, *, user: User, start: int, most: int
) -> PartOfReport:
    """The report with at most `most` of its items, from the item number `start` on. The first item has the number 0.

    Raises as `report` does.
    """
    # With one level, all items are read: they are the subtotals.
    part_of_items = {"start": start, "most": most} if len(levels) > 1 else {}
    text = await _report(conn, levels, filters, PartOfReport, part_of_items, user=user, max_rows=MAX_ROWS)
    found = PartOfReport.from_json(text)
    if part_of_items:
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
    """The report as JSON of `model`. `part_of_items` has the parameters `start` and `most`, or is empty: then all items."""
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
    """The items of the report as a table: the names of its columns, and the values of each row. Raises as `report` does."""
    items, parameters = await _items(conn, levels, filters, user=user, max_rows=MAX_ROWS)
    columns = _columns(levels)
    fields = [name for name, field in _FIELDS.items() if field.column in columns]
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
    """SQL for the sums of each group, and its parameters. It finds at most one row more than `max_rows`.

    Raises as `report` does, but not for too many rows.
    """
    assert filters.start_date is not None and filters.end_date is not None
    check_number_of_days(filters.start_date, filters.end_date)
    selection = await time_bills.select(conn, filters, user=user)
    items = f"{_grouped(levels, ' AND '.join(selection.conditions), internal=user.is_internal)} LIMIT %(max_rows)s + 1"
    return items, selection.parameters | {"max_rows": max_rows}


def _columns(levels: Sequence[Level]) -> dict[str, str]:
    """By column: the SQL by which bills are grouped. With the level pillar, the customer is that of the pillar."""
    columns: dict[str, str] = {}
    for level in levels:
        columns |= _GROUPED[level]
    if "pillar" in levels:
        columns |= _GROUPED["pillar"]
    return columns


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
    """SQL that adds up the items that have the same values in these columns; without columns, all items."""
    sums = _sums({name: f"coalesce(sum({name}), 0)" for name in _SUMS}, internal=internal)
    by = f"GROUP BY {', '.join(columns)}" if columns else ""
    return f"SELECT {', '.join([*columns, sums])} FROM item {by}"


def _sums(texts: Mapping[str, str], *, internal: bool) -> str:
    """SQL for the fields of HoursSums. `texts`: by field, its SQL. Without `internal`, those of _INTERNAL are null."""
    hidden = set() if internal else _INTERNAL
    return ", ".join(f"({'NULL' if name in hidden else text})::bigint AS {name}" for name, text in texts.items())


def _named(source: str, levels: Sequence[Level]) -> str:
    """SQL for the rows of `source`, which are sums by these levels, with all fields of HoursRow."""
    columns = _columns(levels)
    selected = []
    for name, field in _FIELDS.items():
        text = field.sql if field.column in columns else f"NULL::{field.type}"
        selected.append(f"{text} AS {name}")
    selected += [f"s.{name}" for name in _SUMS]
    joins = " ".join(text for column, text in _JOINS.items() if column in columns)
    return f"SELECT {', '.join(selected)} FROM {source} s {joins}"


def _rows(source: str, levels: Sequence[Level], part: str = "") -> str:
    """SQL for the rows of `source` as a JSON list of HoursRow, in their order. `part`: LIMIT and OFFSET, or nothing."""
    row = json_object(HoursRow, "r")
    named = _named(source, levels)
    if part:
        named = f"SELECT * FROM ({named}) r ORDER BY {_order(levels)} {part}"
    return f"(SELECT coalesce(json_agg({row} ORDER BY {_order(levels)}), '[]') FROM ({named}) r)"


def wrong_sums() -> str:
    """SQL for `./stint verify`: a sentence for each group whose sums in a report by one level are not those of its bills."""
    # by level: the key of a group as text, made from a bill, and from a row of the report
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

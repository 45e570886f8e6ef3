"""The report as the rows of a table: labels with links to a closer look, and hours as text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any

from api.console.formats import Formats
from api.console.reports.filters import NEXT_LEVELS, PATH, ReportFilters, month_of, query_of
from schemas.reports.models import HoursReport, HoursRow, HoursSums, Level

# of each column of sums: its label, its explanation, and its text
COLUMNS: list[tuple[str, str, Callable[[Formats, HoursSums], str]]] = [
    ("Bills", "time bills: one for each person, customer, pillar and day", lambda show, sums: show.number(sums.bills)),
    ("Recorded", "hours as they were recorded", lambda show, sums: show.hours(sums.seconds)),
    ("Billed", "hours as each bill is rounded", lambda show, sums: show.minutes(sums.minutes)),
    ("Approved", "billed hours of approved bills", lambda show, sums: show.minutes(sums.approved_minutes)),
    ("Not approved", "billed hours of pending and rejected bills", lambda show, sums: show.minutes(sums.unapproved_minutes)),
    (
        "Not in Xero",
        "approved hours that are not sent, have failed, or were deleted in Xero",
        lambda show, sums: show.minutes(sums.not_in_xero_minutes or 0),
    ),
]


# by level: the filters that a link to one of its rows sets; those of the other levels are the days
_NARROWED: dict[Level, tuple[str, ...]] = {
    "customer": ("customer_id",), "pillar": ("customer_id", "pillar_id"), "person": ("user_id",)
}  # fmt: skip
_KEYS: dict[Level, str] = {"customer": "customer_id", "pillar": "pillar_id", "person": "user_id"}


@dataclass(frozen=True)
class TableRow:
    """A row: its label, the page that shows what it is made of, and the texts of its sums."""

    label: str
    href: str
    cells: list[str]


@dataclass(frozen=True)
class TableGroup:
    """The rows of one group of the first level, below its subtotal; without a subtotal if there is one level."""

    subtotal: TableRow | None
    rows: list[TableRow]


def table(report: HoursReport, filters: ReportFilters, show: Formats) -> list[TableGroup]:
    """The report's rows in their order."""
    values = filters.values
    if len(filters.levels) == 1:
        [level] = filters.levels
        then = {"by": NEXT_LEVELS[level], "then": None}
        rows = _Rows([level], values | then, show)
        return [TableGroup(None, [rows.of(row) for row in report.items])]
    first, second = filters.levels
    subtotals = _Rows([first], values | {"by": second, "then": None}, show)
    above = {key_of(row, first): subtotals.of(row) for row in report.subtotals}
    below = _Rows([first, second], values | {"by": NEXT_LEVELS[second], "then": None}, show)
    return [
        TableGroup(above[key], [below.of(row) for row in rows])
        for key, rows in groupby(report.items, key=lambda row: key_of(row, first))
    ]


def cells(sums: HoursSums, show: Formats) -> list[str]:
    """The texts of the sums, in the order of COLUMNS."""
    return [text(show, sums) for _, _, text in COLUMNS]


def key_of(row: HoursRow, level: Level) -> object:
    """What tells the groups of a level apart."""
    return getattr(row, _KEYS.get(level, level))


def label_of(row: HoursRow, level: Level, show: Formats, *, above: Level | None = None) -> str:
    """How the row's group of that level is called, below a group of the level `above`."""
    match level:
        case "customer":
            return row.customer_name or ""
        case "pillar":
            return row.pillar_name or "" if above == "customer" else f"{row.customer_name} · {row.pillar_name}"
        case "person":
            return row.user_name or row.user_email or ""
        case _:
            return label_of_days(_day(getattr(row, level)), level, show)


def label_of_days(start: date, level: Level, show: Formats) -> str:
    """How the day, week or month is called that starts then."""
    match level:
        case "day":
            return show.day(start)
        case "week":
            return f"Week of {show.day(start)}"
        case _:
            return show.month(start)


class _Rows:
    """The rows of these levels. The link of each is the report of its bills alone: that of `values`, narrowed to it. A page may
    have a thousand rows, so what their links share is made once."""

    def __init__(self, levels: Sequence[Level], values: dict[str, Any], show: Formats) -> None:
        self._show, self._level, self._above = show, levels[-1], levels[0] if len(levels) > 1 else None
        self._ids = list(dict.fromkeys(name for level in levels for name in _NARROWED.get(level, ())))
        self._times = [level for level in levels if level not in _NARROWED]
        self._days: tuple[str, str] = values["start_date"], values["end_date"]
        own = {*self._ids, *(("start_date", "end_date") if self._times else ())}
        self._shared = f"{PATH}?{query_of({name: value for name, value in values.items() if name not in own})}"

    def of(self, row: HoursRow) -> TableRow:
        """This row of the report."""
        href = self._shared + "".join([f"&{name}={getattr(row, name)}" for name in self._ids])
        if self._times:
            first, last = self._days
            for level in self._times:
                start, end = _dates_of(_day(getattr(row, level)), level)
                first, last = max(first, start), min(last, end)
            href += f"&start_date={first}&end_date={last}"
        return TableRow(label_of(row, self._level, self._show, above=self._above), href, cells(row, self._show))


def days_of(start: date, level: Level) -> tuple[date, date]:
    """The first and the last day of the day, week or month that starts then."""
    match level:
        case "day":
            return start, start
        case "week":
            return start, start + timedelta(days=6)
        case _:
            return month_of(start)


@lru_cache(maxsize=1_000)
def _dates_of(start: date, level: Level) -> tuple[str, str]:
    """The same as a query has them: many rows are of the same days."""
    first, last = days_of(start, level)
    return first.isoformat(), last.isoformat()


def _day(value: date | None) -> date:
    assert value is not None, "the report is grouped by it"
    return value

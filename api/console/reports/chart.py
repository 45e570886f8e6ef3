"""The chart of a report: a bar for each group of its first level, in two parts, approved and not approved."""

from dataclasses import dataclass
from datetime import date, timedelta

from api.console.formats import Formats
from api.console.reports.filters import ReportFilters
from api.console.reports.rows import days_of, key_of, label_of, label_of_days
from schemas.reports.models import HoursRow, Level, PartOfReport

MOST_BARS = 15  # of names: those with most hours
TIME_LEVELS = ("day", "week", "month")
SIZE = 1000  # the length of the longest bar, in units of the SVG


@dataclass(frozen=True)
class Bar:
    """One bar. `approved` and `unapproved` are the lengths of its parts; `text`: its hours in words."""

    label: str
    minutes: int
    approved: float
    unapproved: float
    text: str


@dataclass(frozen=True)
class Chart:
    """`over_time`: bars stand side by side, one for each day, week or month, also for those without hours. `most`: the hours
    of the longest bar; `others`: how many groups have no bar, and their hours."""

    over_time: bool
    bars: list[Bar]
    most: str
    others: str
    title: str


def chart(report: PartOfReport, filters: ReportFilters, show: Formats) -> Chart | None:
    """The chart of a report; None if it would have one bar at most."""
    level, rows, others = filters.by, report.subtotals, ""
    if level in TIME_LEVELS:
        groups = _without_gaps(report, rows, level, show)
    else:
        ordered = sorted(rows, key=lambda row: -row.minutes)
        groups = [(label_of(row, level, show), row.approved_minutes, row.unapproved_minutes) for row in ordered[:MOST_BARS]]
        if left := ordered[MOST_BARS:]:
            others = f"and {len(left)} more with {show.minutes(sum(row.minutes for row in left))}"
    most = max((approved + unapproved for _, approved, unapproved in groups), default=0)
    if len(groups) < 2 or not most:
        return None
    bars = [
        Bar(
            label,
            approved + unapproved,
            round(SIZE * approved / most, 1),
            round(SIZE * unapproved / most, 1),
            f"{show.minutes(approved + unapproved)}" + (f", {show.minutes(unapproved)} not approved" if unapproved else ""),
        )
        for label, approved, unapproved in groups
    ]
    longest = max(bars, key=lambda bar: bar.minutes)
    title = f"Billed hours by {level}: {len(bars)} bars, the longest is {longest.label} with {longest.text}"
    return Chart(level in TIME_LEVELS, bars, show.minutes(most), others, title)


def _without_gaps(report: PartOfReport, rows: list[HoursRow], level: Level, show: Formats) -> list[tuple[str, int, int]]:
    """A group for each day, week or month of the report, in their order."""
    known = {key_of(row, level): (row.approved_minutes, row.unapproved_minutes) for row in rows}
    groups, start = [], _start(report.start_date, level)
    while start <= report.end_date:
        groups.append((label_of_days(start, level, show), *known.get(start, (0, 0))))
        start = days_of(start, level)[1] + timedelta(days=1)
    return groups


def _start(day: date, level: Level) -> date:
    match level:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case _:
            return day.replace(day=1)

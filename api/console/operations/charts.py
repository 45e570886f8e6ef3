"""Small charts of the last hour, as the points of SVG's lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MINUTES = 60
HEIGHT = 20.0
GAP_MINUTES = 2  # more than this without a value interrupts the line


@dataclass(frozen=True)
class Chart:
    """The values of the last hour. `lines`: the points of each line without a gap, in a box of MINUTES by HEIGHT. `summary`:
    the same in words, for people who do not see it."""

    lines: tuple[str, ...]
    summary: str


def chart(label: str, values: Sequence[tuple[datetime, float]], now: datetime, shown: Callable[[float], str]) -> Chart:
    """A chart of values with their times, the oldest first. Of several in a minute the highest one counts. `shown`: a value as
    text."""
    by_minute: dict[int, float] = {}
    for at, value in values:
        minute = MINUTES - int((now - at) / timedelta(minutes=1))
        if 0 <= minute <= MINUTES:
            by_minute[minute] = max(value, by_minute.get(minute, 0.0))
    highest = max(by_minute.values(), default=0.0)
    lines: list[list[str]] = []
    last = -MINUTES
    for minute, value in sorted(by_minute.items()):
        if minute - last > GAP_MINUTES:
            lines.append([])
        height = HEIGHT * value / highest if highest else 0.0
        lines[-1].append(f"{minute},{HEIGHT - height:.1f}".removesuffix(".0"))
        last = minute
    if not by_minute:
        return Chart((), f"{label}: nothing was recorded in the last hour")
    summary = f"{label}, last hour: at most {shown(highest)}, now {shown(values[-1][1])}"
    return Chart(tuple(" ".join(line) for line in lines), summary)

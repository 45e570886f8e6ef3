"""The table of docs/performance.md, which `./stint bench --page FILE` writes between two markers of that file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.bench.report import short, words
from ops.errors import CommandError

BEGIN, END = "<!-- begin: written by ./stint bench --page -->", "<!-- end -->"


def check_page(file: Path) -> None:
    """Raises CommandError for a file that cannot be read, or has no markers."""
    _parts(file)


def write_page(file: Path, result: Mapping[str, Any]) -> None:
    """Replaces what is between the markers by the table of what `--json` writes."""
    before, after = _parts(file)
    file.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{after}")


def table(result: Mapping[str, Any]) -> str:
    """The figures as Markdown: medians, and below the table what they were measured with."""
    rows = ["| | Stint | baseline | ratio | goal | |", "|---|---|---|---|---|---|", *map(_row, result["comparisons"])]
    costs = [
        f"| {line['name']} | {_cpu(line['ours'])} | {_cpu(line['baseline'])} |"
        for line in result["comparisons"]
        if line["ours"]["cpu_milliseconds"]
    ]
    head = ["| CPU, ms a request, pair or message | Stint | baseline |", "|---|---|---|"]
    return "\n".join([*rows, "", *head, *costs, "", f"{words(result)}. Measured at {result['at']}."])


def names(text: str) -> Sequence[str]:
    """The names of the rows of a page's first table."""
    _, _, rest = text.partition(BEGIN)
    first, _, _ = rest.partition("\n\n")
    return [line.split("|")[1].strip() for line in first.strip().splitlines()[2:]]


def _parts(file: Path) -> tuple[str, str]:
    """What is before the first marker and after the second."""
    try:
        before, begin, rest = file.read_text().partition(BEGIN)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CommandError(f"{file} lacks the lines {BEGIN} and {END}, between which the table belongs.")
    return before, after


def _row(line: Mapping[str, Any]) -> str:
    ratio = "–" if line["ratio"] is None else f"{line['ratio']:.2f}"
    verdict = {None: "", True: "met", False: "missed"}[line["passed"]]
    return f"| {line['name']} | {_figure(line['ours'])} | {_figure(line['baseline'])} | {ratio} | {_goal(line)} | {verdict} |"


def _figure(side: Mapping[str, Any] | None) -> str:
    return "–" if side is None else f"{short(side['median'])} {side['unit']}"


def _goal(line: Mapping[str, Any]) -> str:
    target = line["target"]
    if target is None:
        return "–"
    sign, bound = ("≥", target["at_least"]) if "at_least" in target else ("≤", target["at_most"])
    return f"{sign} {bound:,g}{' ' + line['ours']['unit'] if target['of'] == 'ours' else ''}"


def _cpu(side: Mapping[str, Any] | None) -> str:
    if side is None or not side["cpu_milliseconds"]:
        return "–"
    return ", ".join(f"{kind} {short(value)}" for kind, value in side["cpu_milliseconds"].items())

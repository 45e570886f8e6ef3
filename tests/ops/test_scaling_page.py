"""docs/scaling.md calculates with the figures of docs/performance.md."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
KINDS = ("api", "workers", "relay", "postgres", "rabbitmq")


def rows(page: str) -> list[list[str]]:
    """The cells of each row of each table of a page."""
    lines = (DOCS / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def row(page: str, name: str, cells: int) -> list[str]:
    """The cells after the name in the only row with that name and that number of cells."""
    [found] = [each[1:] for each in rows(page) if each[0] == name and len(each) == cells]
    return found


@pytest.mark.parametrize(
    ("cost", "measured"),
    [
        ("a timer started and stopped, with its entry and its bill", "start-stop"),
        ("a list", "list"),
        ("another request", "me, peer"),
        ("a message through the relay, in a backlog", "relay"),
    ],
)
def test_what_a_request_costs_is_what_the_bench_has_measured(cost: str, measured: str) -> None:
    figures = dict(part.split(" ") for part in row("performance.md", measured, 3)[0].split(", "))
    said = dict(zip(KINDS, row("scaling.md", cost, 6), strict=True))
    assert {kind: figure for kind, figure in said.items() if figure not in ("–", "not measured")} == figures


def test_streams_messages_and_wal_are_those_that_the_bench_has_measured() -> None:
    page = (DOCS / "scaling.md").read_text()
    cores, relayed, wal = (row("performance.md", name, 6)[0].split(" ")[0] for name in ("events", "relay", "start-stop, WAL"))
    stream = f"{float(cores) / 1667 * 1000:.3f} ms a second ({cores} of a core for 1,667 streams)"
    for figure in (stream, f"sends {relayed} messages a second", f"{int(wal.replace(',', '')) / 1000:.1f} kB of WAL"):
        assert figure in re.sub(r"\s+", " ", page)


@pytest.mark.parametrize("people", [5_000, 50_000])
def test_the_table_of_the_peak_follows_from_these_figures(people: int) -> None:
    once = people * 0.2 * 4 / 3600  # times a second at the peak, of what each person does once in a day
    api, workers, relay, postgres, rabbitmq = map(
        float, row("scaling.md", "a timer started and stopped, with its entry and its bill", 6)
    )
    a_list, other = row("scaling.md", "a list", 6), row("scaling.md", "another request", 6)
    pairs, lists, others = 8 * once, 20 * once, 40 * once
    said = row("scaling.md", f"{people:,}", 7)
    calculated = {
        0: pairs,
        1: lists,
        2: (pairs * api + lists * float(a_list[0]) + others * float(other[0])) / 1000,
        4: pairs * (workers + relay + rabbitmq) / 1000,
        5: (pairs * postgres + lists * float(a_list[3]) + others * float(other[3])) / 1000,
    }
    assert {column: f"{value:.1g}" if value < 1 else f"{value:.0f}" for column, value in calculated.items()} == {
        column: said[column] for column in calculated
    }

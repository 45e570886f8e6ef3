"""`./stint faults --drill`: the breakages by name, and the table of a run."""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.faults.drill import brokers, certificates, databases, mails, messages, outside, processes, standbys, versions
from tests.faults.drill.breakage import Breakage
from tests.faults.drill.runner import LIMIT_SECONDS, Outcome, run
from tests.faults.drill.site import site

LANES, MOST_IN_ONE_LANE = 2, 3  # installations at the same time: a drill mostly waits
HEADS = ("breakage", "what the doctor says first", "after s", "alert", "after s", "cure", "silent after s")
GROUPS = (processes, brokers, mails, outside, messages, databases, versions, standbys, certificates)
BREAKAGES: dict[str, Breakage] = {each.name: each for group in GROUPS for each in group.BREAKAGES}


def chosen(names: Sequence[str]) -> list[Breakage]:
    """Those whose name contains one of `names`; all without names. Raises ValueError for a name that none contains."""
    for name in names:
        if not any(name in each for each in BREAKAGES):
            raise ValueError(f"no breakage is called {name!r}: ./stint faults --list shows them all")
    return [each for name, each in BREAKAGES.items() if not names or any(part in name for part in names)]


def listed() -> None:
    """Prints all breakages, each with its alert and its cure."""
    table = Table("breakage", "alert", "cure")
    for each in BREAKAGES.values():
        table.add_row(each.name, each.alert or "", each.cure)
    Console().print(table)


def drill(breakages: Sequence[Breakage], home: Path) -> bool:
    """Runs them, with all data and logs below `home`, and prints the table. Returns whether each was told and cured in time."""
    started_at = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started_at:5.0f} s  {what}", file=sys.stderr, flush=True)

    lanes = [list(breakages[n::LANES]) for n in range(LANES)] if len(breakages) > MOST_IN_ONE_LANE else [list(breakages)]
    say(f"starting servers, Stint and Prometheus{' twice' if len(lanes) > 1 else ''}")
    with ExitStack() as stack:
        sites = [stack.enter_context(site(home / f"installation-{n}")) for n in range(len(lanes))]
        with ThreadPoolExecutor(len(lanes)) as pool:
            found = pool.map(lambda of_site, lane: list(run(of_site, lane, say)), sites, lanes)
            outcomes = [outcome for each in found for outcome in each]
    outcomes.sort(key=lambda outcome: list(BREAKAGES).index(outcome.breakage.name))
    show(outcomes)
    missed = [f"MISSED  {outcome.breakage.name}: {text}" for outcome in outcomes for text in outcome.missed]
    print("\n".join(missed or [f"All within {LIMIT_SECONDS:.0f} s, and over within {LIMIT_SECONDS:.0f} s after the cure."]))
    return not missed


def show(outcomes: Sequence[Outcome]) -> None:
    """Prints a row for each; as Markdown where standard output is no terminal."""
    rows = [_row(each) for each in outcomes]
    if not sys.stdout.isatty():
        for cells in (HEADS, ("---",) * len(HEADS), *rows):
            print(f"| {' | '.join(cells)} |")
        return
    table = Table(*HEADS, show_lines=True)
    for cells in rows:
        table.add_row(*map(escape, cells))
    Console().print(table)


def _row(outcome: Outcome) -> tuple[str, ...]:
    breakage, left_out = outcome.breakage, outcome.left_out
    said = f"left out: {left_out}" if left_out else outcome.words or "MISSED"
    seconds = (outcome.doctor_seconds, outcome.alert_seconds, outcome.silent_seconds)
    doctor, alert, silent = ("" if each is None else f"{each:.0f}" for each in seconds)
    return breakage.name, said, doctor, breakage.alert or "none", alert, breakage.cure, silent

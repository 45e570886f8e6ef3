"""`./stint bench`: Stint measured side by side with a floor, in the same run, on demo data of its own.

A floor does the same with nothing around it: the bare SQL, the bare message, the bare ASGI app. Ours and the floor take
turns, so that whatever else the machine does hits both; what counts is the ratio of their medians.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ops.bench import empty, lists, recompute, relaying, timers
from ops.bench.report import print_table, summary, write_json
from ops.bench.rounds import Comparison, Line, Plan
from ops.bench.stage import Stage
from ops.errors import CommandError

# In this order: what writes a lot comes after what reads, and `relay`, which needs the workers out of the way, at the end.
COMPARISONS = (
    empty.COMPARISON,
    lists.COMPARISON,
    timers.START_STOP,
    timers.STOP_BILL,
    recompute.COMPARISON,
    relaying.COMPARISON,
)
RAISE_AGAIN_SECONDS = 2
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(arguments: argparse.Namespace) -> int:
    """Measures what `--only` names, or everything; prints the table, and writes JSON where `--json` says. Returns 0 whatever
    the figures are. Raises CommandError for an unknown name, before anything is started."""
    chosen = _chosen(arguments.only)
    plan = Plan(rounds=arguments.rounds, seconds=arguments.seconds)
    with _signals_raise():
        stage = Stage(Path(tempfile.mkdtemp(prefix="stint-bench-")), say)
        try:
            stage.open(entries=arguments.entries)
            lines = _measure(stage, plan, chosen)
            result = summary(stage, plan, lines)
        finally:
            with _signals_wait():
                stage.close()
    print_table(result, lines, to_stderr=str(arguments.json) == "-")
    if arguments.json is not None:
        write_json(arguments.json, result)
    return 0


def say(text: str) -> None:
    """Progress goes to stderr: standard output is the result's."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _chosen(names: list[str] | None) -> list[Comparison]:
    known = {comparison.name: comparison for comparison in COMPARISONS}
    if unknown := [name for name in names or [] if name not in known]:
        raise CommandError(f"There is no comparison called {', '.join(unknown)}; there are {', '.join(known)}.")
    return [comparison for comparison in COMPARISONS if names is None or comparison.name in names]


def _measure(stage: Stage, plan: Plan, chosen: list[Comparison]) -> list[Line]:
    lines = []
    for comparison in chosen:
        say(f"{comparison.name}: {comparison.what}")
        lines += comparison.measure(stage, plan)
    return lines


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the measurement with everything cleaned up."""

    def leave(number: int, _: FrameType | None) -> None:
        # what is raised in the middle of a destructor gets lost: then it is raised again
        signal.signal(signal.SIGALRM, lambda *_: leave(number, None))
        signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_SECONDS)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (*_ENDING, signal.SIGALRM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Holds signals back, so that a second Ctrl-C does not leave half of it behind."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_ENDING, signal.SIGALRM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

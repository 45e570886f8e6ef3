"""`./stint bench`: measures Stint and baselines in the same run, on demo data of its own.

A baseline is the peer, a small service without a queue over a copy of the same tables (ops/bench/peer/), or does a part of the
work without Stint around it: bare SQL, a bare message, a bare ASGI app. The rounds of Stint ("ours") and of the baseline
alternate, so that other load on the machine affects both. The result is the ratio of their medians.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ops.bench.comparisons import growth, lists, live_events, me, recompute, relaying, slack, start_stop, stop_bill
from ops.bench.page import check_page, write_page
from ops.bench.report import print_table, summary, write_json
from ops.bench.rounds import Comparison, Line, Plan
from ops.bench.stage import Stage
from ops.errors import CommandError

# In this order: reads before heavy writes, and `relay` last, because it stops the workers.
COMPARISONS = (
    me.COMPARISON,
    lists.COMPARISON,
    slack.COMPARISON,
    live_events.COMPARISON,
    growth.COMPARISON,
    start_stop.START_STOP,
    start_stop.WITH_SLACK,
    stop_bill.COMPARISON,
    recompute.COMPARISON,
    relaying.COMPARISON,
)
RAISE_AGAIN_SECONDS = 2
REPEAT_SECONDS = 10
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(arguments: argparse.Namespace) -> int:
    """Measures the comparisons of `--only`, or all; prints the table, and writes JSON to the file of `--json`, and the table
    to that of `--page`. Returns 0 even for missed targets. Raises CommandError for an unknown name, or a page that cannot be
    written, before it starts anything."""
    chosen = _chosen(arguments.only)
    if arguments.page is not None:
        if arguments.only:
            raise CommandError("--page writes the whole table: leave --only out.")
        check_page(arguments.page)
    plan = Plan(rounds=arguments.rounds, seconds=arguments.seconds)
    progress = Progress()
    with _signals_raise(), progress.keep_saying():
        stage = Stage(Path(tempfile.mkdtemp(prefix="stint-bench-")), progress.say)
        try:
            stage.open(entries=arguments.entries, peer=any(comparison.uses_peer for comparison in chosen))
            lines = _measure(stage, plan, chosen)
            result = summary(stage, plan, lines)
        finally:
            with _signals_wait():
                stage.close()
    print_table(result, lines, to_stderr=str(arguments.json) == "-")
    if arguments.json is not None:
        write_json(arguments.json, result)
    if arguments.page is not None:
        write_page(arguments.page, result)
    return 0


class Progress:
    """Prints to stderr what is measured: standard output is only for the result. `keep_saying` repeats the last line while
    nothing else is said."""

    def __init__(self) -> None:
        self._last, self._last_at = "", time.monotonic()

    def say(self, text: str) -> None:
        self._last, self._last_at = text, time.monotonic()
        print(f"bench: {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def keep_saying(self) -> Iterator[None]:
        ended = threading.Event()

        def repeat() -> None:
            repeated_at = 0.0
            while not ended.wait(1):
                now = time.monotonic()
                if now - max(self._last_at, repeated_at) >= REPEAT_SECONDS:
                    repeated_at = now
                    print(f"bench: {now - self._last_at:.0f} s since: {self._last}", file=sys.stderr, flush=True)

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _chosen(names: list[str] | None) -> list[Comparison]:
    known = {comparison.name: comparison for comparison in COMPARISONS}
    if unknown := [name for name in names or [] if name not in known]:
        raise CommandError(f"There is no comparison called {', '.join(unknown)}; there are {', '.join(known)}.")
    return [comparison for comparison in COMPARISONS if names is None or comparison.name in names]


def _measure(stage: Stage, plan: Plan, chosen: list[Comparison]) -> list[Line]:
    lines = []
    for comparison in chosen:
        if not stage.up.is_running():  # not yet, or the comparison before has ended it
            stage.say("starting Stint with ./stint up")
            stage.up.start()
        stage.say(f"{comparison.name}: {comparison.what}")
        lines += comparison.measure(stage, plan)
    return lines


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Makes Ctrl-C, SIGTERM and SIGHUP end the measurement by an exception, so that everything is cleaned up."""

    def leave(number: int, _: FrameType | None) -> None:
        # an exception within a destructor is ignored: raise it again a moment later
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
    """Blocks signals during the cleanup, so that a second Ctrl-C does not interrupt it."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_ENDING, signal.SIGALRM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

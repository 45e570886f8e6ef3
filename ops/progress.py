"""How a long command shows that it goes on: a bar on a terminal, a line now and then where there is none."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SAY_AGAIN_SECONDS = 5.0  # without a terminal


class At(Protocol):
    """Says how far it is; `total` and `what` it is may become known, or change, on the way."""

    def __call__(self, done: float, total: float | None = None, *, what: str | None = None) -> None: ...


@contextmanager
def progress(what: str, *, total: float | None = None) -> Iterator[At]:
    """`with progress("writing entries", total=1000) as at: at(250)`. Written to stderr, so that a command's output stays
    what a program can read."""
    if not sys.stderr.isatty():
        yield _in_lines(what, total)
        return
    # only here: a program that asks for JSON need not wait for it
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(what, total=total)

        def move(done: float, total: float | None = None, *, what: str | None = None) -> None:
            bars.update(bar, completed=done, total=total, description=what)  # None: as it was

        yield move


def _in_lines(what: str, total: float | None) -> At:
    said = time.monotonic()
    known, called = total, what

    def say(done: float, total: float | None = None, *, what: str | None = None) -> None:
        nonlocal said, known, called
        known = total if total is not None else known
        called = what or called
        if time.monotonic() - said >= SAY_AGAIN_SECONDS:
            said = time.monotonic()
            print(f"{called}: {done:,.0f}" + (f" of {known:,.0f}" if known else ""), file=sys.stderr, flush=True)

    return say

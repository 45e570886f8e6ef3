"""Progress of long commands: a bar on a terminal, otherwise a line every few seconds."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

REPORT_SECONDS = 5.0  # between two lines without a terminal


class Update(Protocol):
    """Reports how much is done. `total` and `what` may become known, or change, during the work."""

    def __call__(self, done: float, total: float | None = None, *, what: str | None = None) -> None: ...


@contextmanager
def progress(what: str, *, total: float | None = None) -> Iterator[Update]:
    """`with progress("writing entries", total=1000) as update: update(250)`. It is written to stderr, so that programs can
    read a command's output."""
    if not sys.stderr.isatty():
        yield _in_lines(what, total)
        return
    # imported only here: a program that asks for JSON should not wait for it
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(what, total=total)

        def move(done: float, total: float | None = None, *, what: str | None = None) -> None:
            bars.update(bar, completed=done, total=total, description=what)  # None keeps the present value

        yield move


@asynccontextmanager
async def reported(say: Callable[[str], None], what: str, done: Callable[[], str] = lambda: "") -> AsyncIterator[None]:
    """Says `what` at once and again every five seconds while the block runs, with what `done` returns and the seconds so
    far: for programs that print nothing themselves."""

    async def report() -> None:
        start = time.monotonic()
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            say(f"still {what}{done() and f': {done()}'}, {time.monotonic() - start:.0f} s so far")

    say(what)
    reporter = asyncio.create_task(report())
    try:
        yield
    finally:
        reporter.cancel()


def _in_lines(what: str, total: float | None) -> Update:
    reported_at = time.monotonic()
    known_total, known_what = total, what

    def update(done: float, total: float | None = None, *, what: str | None = None) -> None:
        nonlocal reported_at, known_total, known_what
        known_total = total if total is not None else known_total
        known_what = what or known_what
        if time.monotonic() - reported_at >= REPORT_SECONDS:
            reported_at = time.monotonic()
            of_total = f" of {known_total:,.0f}" if known_total else ""
            print(f"{known_what}: {done:,.0f}{of_total}", file=sys.stderr, flush=True)

    return update

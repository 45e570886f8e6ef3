"""`./stint faults --cluster`: faults of a cluster of three hosts; exit code 1 if something acknowledged was lost or doubled, or
if service was interrupted for too long."""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.cluster import faults
from tests.cluster.driver import Report, Struck, run
from tests.cluster.load import SHORT_PAUSE_AT_MOST
from tests.cluster.network import LEFT_OUT, VARIABLE, can_unshare
from tests.faults.people import PAUSE_AT_MOST

HEADS = ("fault", "times", "longest time without a stop, p50", "worst", "from stop to bill, p50", "worst")


def main() -> int:
    """Starts again as the router of a network of its own, where it may."""
    if VARIABLE not in os.environ and can_unshare():
        os.environ[VARIABLE] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, "-m", "tests.cluster", *sys.argv[1:]])  # noqa: S606
    parser = argparse.ArgumentParser(prog="./stint faults --cluster", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0, metavar="N", help="repeat all faults for N minutes (default: once)")
    parser.add_argument("--seed", default=str(random.randrange(10**6)), metavar="S", help="the seed of another run")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="only faults with TEXT in their name")
    parser.add_argument("--short", action="store_true", help="the few faults that the test suite tries, and fewer requests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report to FILE (default: only if it fails)")
    arguments = parser.parse_args()
    chosen = faults.chosen(arguments.only, short=arguments.short, root=VARIABLE in os.environ)
    if not chosen:
        parser.error(f"no fault has {arguments.only} in its name; there are: {', '.join(faults.BY_NAME)}")
    started_at = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started_at:5.0f} s  {what}", file=sys.stderr, flush=True)

    if VARIABLE not in os.environ:
        say(LEFT_OUT)
    say(f"seed {arguments.seed}")
    home = Path(tempfile.mkdtemp(prefix="stint-cluster-"))
    os.environ["STINT_TEST_HOME"] = str(home)
    pause = SHORT_PAUSE_AT_MOST if arguments.short else PAUSE_AT_MOST
    report = run(arguments.seed, home, chosen, minutes=arguments.minutes, pause_at_most=pause, say=say)
    show(report)
    if report.broken and not arguments.json:
        arguments.json = home / "report.json"
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(), indent=2))
    if not report.broken:
        shutil.rmtree(home, ignore_errors=True)
        return 0
    print(f"The logs of this run, and its report, are in {home}.", file=sys.stderr)
    return 1


def show(report: Report) -> None:
    """Prints a row for each fault, as Markdown where standard output is no terminal, and what was broken."""
    rows = [_row(name, found) for name in faults.BY_NAME if (found := [s for s in report.struck if s.fault.name == name])]
    if sys.stdout.isatty():
        table = Table(*HEADS)
        for cells in rows:
            table.add_row(*cells)
        Console().print(table)
    else:
        for cells in (HEADS, ("---",) * len(HEADS), *rows):
            print(f"| {' | '.join(cells)} |")
    acknowledged = ", ".join(f"{count:,} × {name}" for name, count in report.done.most_common())
    print(f"Acknowledged: {acknowledged}. {report.lost:,} requests had no answer, and were sent again to another host.")
    for sentence in report.broken:
        print(f"BROKEN  {sentence}")
    if not report.broken:
        print("Nothing was lost or doubled, and no interruption was too long.")


def _row(name: str, found: Sequence[Struck]) -> tuple[str, ...]:
    gaps = sorted(each.waits.gap for each in found)
    p50 = sorted(each.waits.bill_p50 for each in found)
    worst = max(each.waits.bill_worst for each in found)
    seconds = (gaps[len(gaps) // 2], gaps[-1], p50[len(p50) // 2], worst)
    return name, str(len(found)), *(f"{each:.1f} s" for each in seconds)


if __name__ == "__main__":
    sys.exit(main())

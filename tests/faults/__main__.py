"""`./stint faults`: a simulated firm works while servers and processes fail; exit code 1 if a guarantee was broken.

With `--cluster`: on three hosts, which fail (tests/cluster). With `--drill`: an installation is broken in one way after
another; exit code 1 if doctor or alerts do not tell one in a minute, or if it is not over in a minute after its cure."""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ops.progress import progress
from tests.faults.driver import Report, run


def main() -> int:
    if "--cluster" in sys.argv[1:]:
        from tests.cluster.__main__ import main as main_of_cluster  # it has options of its own

        sys.argv.remove("--cluster")
        return main_of_cluster()
    parser = argparse.ArgumentParser(prog="./stint faults", description=__doc__)
    cluster = "break three hosts with a cluster of RabbitMQ and a replicated Postgres; --cluster --help shows its options"
    parser.add_argument("--cluster", action="store_true", help=cluster)
    drill = "break a private installation in one way after another, and look whether doctor and alerts tell it within a minute"
    parser.add_argument("--drill", action="store_true", help=drill)
    only = "of the drill, only the breakages with TEXT in their name; may be given several times"
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help=only)
    parser.add_argument("--list", action="store_true", help="print the breakages of the drill, and run nothing")
    parser.add_argument("--minutes", type=float, default=3, metavar="N", help="minutes of failures (default: 3)")
    seed = "the seed that another run has printed: the same failures in the same order (default: a new one)"
    parser.add_argument("--seed", default=str(random.randrange(10**6)), metavar="S", help=seed)
    people = "consultants who work at the same time, beside admins and customers' users (default: 8)"
    parser.add_argument("--consultants", type=int, default=8, metavar="N", help=people)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report to FILE (default: only if it fails)")
    arguments = parser.parse_args()
    if arguments.list or arguments.drill or arguments.only:
        return _drill(parser, arguments)
    print(f"seed {arguments.seed}: ./stint faults --minutes {arguments.minutes:g} --seed {arguments.seed}", file=sys.stderr)
    home = _home()
    with progress("starting everything", total=arguments.minutes * 60) as at:
        report = run(
            arguments.seed,
            home,
            minutes=arguments.minutes,
            consultants=arguments.consultants,
            say=lambda past, what: at(past, what=what),
        )
    show(report)
    if arguments.json:
        write(report, arguments.json)
    if report.is_clean:
        shutil.rmtree(home, ignore_errors=True)
        return 0
    write(report, home / "report.json")
    print(
        f"The logs of this run, its data, and report.json are in {home}: begin with state.out, what `up` said.", file=sys.stderr
    )
    return 1


def _drill(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from tests.faults.drill import report  # importing it takes a while

    if arguments.list:
        report.listed()
        return 0
    try:
        breakages = report.chosen(arguments.only)
    except ValueError as error:
        parser.error(str(error))
    home = _home()
    if report.drill(breakages, home):
        shutil.rmtree(home, ignore_errors=True)
        return 0
    print(f"The logs of this run are in {home}.", file=sys.stderr)
    return 1


def _home() -> Path:
    """A new directory. Stand-ins and other processes of tests keep their logs there, too."""
    home = Path(tempfile.mkdtemp(prefix="stint-faults-"))
    os.environ["STINT_TEST_HOME"] = str(home)
    return home


def write(report: Report, file: Path) -> None:
    file.write_text(json.dumps(vars(report), indent=2))


def show(report: Report) -> None:
    """Prints the summary and every difference."""
    console = Console()
    table = Table(title=f"seed {report.seed}", show_header=False)
    for title, counted in (("promised", report.done), ("struck", report.struck), ("answered", report.answers)):
        table.add_row(title, ", ".join(f"{count:,} × {name}" for name, count in counted.most_common()))
    table.add_row("lost answers", f"{report.lost:,}, each asked for again; slowest answer {report.slowest_seconds:.1f} s")
    slow = f"{len(report.slow_for_slack)}, slowest {max(report.slow_for_slack, default=0):.1f} s"
    table.add_row("answers to Slack past 3 s", slow)
    table.add_row("repeated", f"{report.repeated_mails} mails, {report.repeated_posts} posts in Slack")
    table.add_row("afterwards", f"at rest after {report.settled_seconds:.1f} s; {report.replayed} dead letters replayed")
    table.add_row("differences", str(len(report.differences)))
    table.add_row("held more", str(len(report.leaks)))
    console.print(table)
    for sentence in [*report.differences, *report.leaks]:
        console.print(f"BROKEN  {sentence}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())

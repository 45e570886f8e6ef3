"""`./stint status` and `./stint doctor`: the state of the installation, and what is wrong with it.

The `./stint up` that runs is asked, so that the settings of this shell do not matter. Without one, this process looks."""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ops.command_line.tables import Wrong, table
from ops.command_line.terminal import colour, counted, escape_control
from ops.errors import CommandError
from ops.running.asking import ask
from ops.state import State

Json = dict[str, Any]

# What is printed first if this process has looked itself, because this machine runs no `./stint up`, as on a host with systemd.
NO_UP = "No ./stint up runs here. As this shell sees it, with its own settings:"


class Report(NamedTuple):
    """What was found, and by whom."""

    status: Json
    findings: list[Json]
    asked: Json | None  # the `up` that was asked; None: this process has looked itself
    source: str  # who has looked, as a sentence


def run_status(args: argparse.Namespace) -> int:
    """Prints the status. Always returns 0: `./stint doctor` judges it."""
    report = _report(State(args.state))
    if args.json:
        print(json.dumps(report.status | {"asked": report.asked}, indent=2, ensure_ascii=False))
    else:
        show_status(report)
    return 0


def show_status(report: Report) -> None:
    """Prints the status for a person."""
    with _of_this_version(report):
        shown = _shown(report.status)
    print("\n".join([report.source, *shown]))


def run_doctor(args: argparse.Namespace) -> int:
    """Prints what is wrong. Returns 0 when nothing is, else 1."""
    report = _report(State(args.state))
    if args.json:
        print(json.dumps(report.findings, indent=2, ensure_ascii=False))
    else:
        show_findings(report)
    return 1 if report.findings else 0


def show_findings(report: Report) -> None:
    """Prints for a person what is wrong."""
    with _of_this_version(report):
        found = [[escape_control(finding[part]) for part in ("what", "why", "do")] for finding in report.findings]
    print(f"{report.source}\n")
    for what, why, do in found:
        print(colour(what, "red"))
        print(table((), [("  why:", why), ("  do: ", do)]), end="\n\n")
    number = len(report.findings)
    print(f"{counted(number, 'problem')} found." if number else colour("Nothing is wrong.", "green"))


@contextmanager
def _of_this_version(report: Report) -> Iterator[None]:
    """Raises CommandError if the block cannot show a report, because the `up` that was asked is of another version."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        if report.asked is None:
            raise
        raise CommandError(
            f"The Stint on {report.asked['state']} is of another version than this command, which cannot show what it says: "
            "run this command from its checkout, add --json, or restart it with this version."
        ) from error


def _report(state: State) -> Report:
    run = state.own_run()
    if run is not None:
        asked = {"state": str(state.directory), "url": run.url, "pid": state.pid()}
        try:
            answer = ask(state.directory)
            return Report(
                answer["status"], answer["findings"], asked, f"As the Stint on {state.directory} at {run.url} sees it:"
            )
        except (OSError, ValueError, KeyError):
            source = f"The Stint on {state.directory} does not answer. As this shell sees it, with the same settings:"
    elif state.running() is not None:
        source = "No ./stint up runs on the database of DATABASE_URL. As this shell sees it:"
    else:
        source = NO_UP
    os.environ.update(state.environment())
    import asyncio

    from ops.status import report
    from schemas.settings import settings

    found = asyncio.run(report(settings(), api_url=state.api_url(), run=run))
    return Report(found["status"], found["findings"], None, source)


def _shown(status: Json) -> list[str]:
    """The lines of `status`."""
    rows = []
    for name, state in status["servers"].items():
        cure = status["cures"].get(name)
        said = escape_control(f"{state}. What to do: {cure}" if cure else state)
        rows.append((name, said if state in ("ok", "not set") else Wrong(said)))
    lines = [table((), rows)]
    if not status["queues"]:
        return lines
    lines += ["", _queues(status), ""]
    if status["xeroDiffers"]:
        lines.append(f"Bills differ from their time entries in Xero: {status['xeroDiffers']:,}.")
    for waiting in status["xeroWaiting"]:
        bills = f"Approved bills wait for Xero: {waiting['count']:,}, of {', '.join(waiting['customers'])}."
        lines.append(escape_control(f"{bills} {waiting['error']}"))
    relays = counted(len(_alive(status, "relay")), "relay")
    unrecognized = counted(status["unrecognizedMessages"], "unrecognized message")
    return [*lines, f"{relays}, {unrecognized}. ./stint doctor says what is wrong."]


def _queues(status: Json) -> str:
    heads = ("queue", "ready", "sent", "calling", "oldest due", "dead", "workers")
    rows = []
    for queue in status["queues"]:
        dead, workers = f"{queue['dead']:,}", str(len(_alive(status, "work", queue["name"])))
        rows.append(
            (
                queue["name"], f"{queue['ready']:,}", f"{queue['sent']:,}", f"{queue['calling']:,}",
                f"{queue['oldestDueSeconds']:,.0f} s", Wrong(dead) if queue["dead"] else dead,
                workers if workers != "0" else Wrong(workers),
            )
        )  # fmt: skip
    return table(heads, rows)


def _alive(status: Json, kind: str, queue: str | None = None) -> list[Json]:
    """The living processes of that kind; with `queue`, only those that take its messages."""
    alive = [each for each in status["processes"] if each["alive"] and each["kind"] == kind]
    return alive if queue is None else [each for each in alive if queue in each["queues"] and each.get("takesMessages", True)]

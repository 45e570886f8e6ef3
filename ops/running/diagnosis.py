"""`./stint status` and `./stint doctor`: the state of the installation, and what is wrong with it.

The `./stint up` that runs is asked, or else the API at --url, STINT_URL or PUBLIC_URL, so that the settings of this shell
do not matter. If neither answers, this process looks."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ops.command_line.tables import Wrong, table
from ops.command_line.terminal import colour, counted, escape_control
from ops.errors import CommandError
from ops.running.asking import ask
from ops.running.asking_api import NotAsked, ask_api, known_url
from ops.state import Run, State

Json = dict[str, Any]

# What is printed first if this process has looked itself, because it knows nobody to ask.
NO_UP = "No ./stint up runs here, and no API is named. As this shell sees it, with its own settings:"


class Report(NamedTuple):
    """What was found, and by whom."""

    status: Json
    findings: list[Json]
    asked: Json | None  # the `up` or the API that was asked; None: this process has looked itself
    source: str  # who has looked, as a sentence
    failure: str = ""  # why the API that was asked has not answered, as a sentence


def api_source(url: str) -> str:
    """What is printed first if the API at the URL was asked."""
    return f"As the API at {url} sees it:"


def run_status(args: argparse.Namespace) -> int:
    """Prints the status. Always returns 0: `./stint doctor` judges it."""
    report = _report(State(args.state), args.url)
    if args.json:
        _print_json(report, report.status | {"asked": report.asked})
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
    report = _report(State(args.state), args.url)
    if args.json:
        _print_json(report, report.findings)
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


def _print_json(report: Report, value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
    if report.failure:
        print(f"stint: {report.source}", file=sys.stderr)


@contextmanager
def _of_this_version(report: Report) -> Iterator[None]:
    """Raises CommandError if the block cannot show a report, because the `up` that was asked is of another version."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        if report.asked is None:
            raise
        where = f"on {report.asked['state']}" if "state" in report.asked else f"at {report.asked['url']}"
        raise CommandError(
            f"The Stint {where} is of another version than this command, which cannot show what it says: "
            "run this command from its checkout, add --json, or restart it with this version."
        ) from error


def _report(state: State, url: str | None) -> Report:
    run = state.own_run() if url is None else None
    why = ""  # why nobody has answered
    if run is not None:
        if (answered := _ask_up(state, run)) is not None:
            return answered
        source = f"The Stint on {state.directory} does not answer. As this shell sees it, with the same settings:"
    else:
        url = url or known_url()
        if url is not None:
            try:
                return _ask_api(url)
            except NotAsked as error:
                why = escape_control(f"The API at {url} was not asked: {error}.")
                source = f"{why} As this shell sees it, with its own settings:"
        elif state.running() is not None:
            source = "No ./stint up runs on the database of DATABASE_URL. As this shell sees it:"
        else:
            source = NO_UP
    return _look(state, run, url, source, why)


def _ask_up(state: State, run: Run) -> Report | None:
    """What the `up` finds; None if it does not answer."""
    asked = {"state": str(state.directory), "url": run.url, "pid": state.pid()}
    try:
        answer = ask(state.directory)
        return Report(answer["status"], answer["findings"], asked, f"As the Stint on {state.directory} at {run.url} sees it:")
    except (OSError, ValueError, KeyError):
        return None


def _ask_api(url: str) -> Report:
    """What the API at the URL finds. Raises NotAsked."""
    answer = ask_api(url)
    return Report(answer["status"], answer["findings"], {"url": url, "process": answer["process"]}, api_source(url))


def _look(state: State, run: Run | None, url: str | None, source: str, why: str) -> Report:
    """What this process finds. `url`: the API that was asked. Raises CommandError if it lacks settings for that."""
    try:
        os.environ.update(state.environment())
    except CommandError as error:
        raise CommandError(f"{why} {error}".strip()) from error
    import asyncio

    from schemas.diagnosis.report import api
    from schemas.diagnosis.report.collect import ApiProcesses, report
    from schemas.settings import settings

    processes = ApiProcesses(run.pids.get("api", ()), run.api_processes) if run is not None else None
    found = asyncio.run(report(settings(), api_state=api.probe(url or state.api_url()), api_processes=processes))
    return Report(found["status"], found["findings"], None, source, why)


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

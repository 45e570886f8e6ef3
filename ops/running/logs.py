"""`./stint logs`: what the processes of `./stint up` have logged, together and in order, and what follows."""

import argparse
import difflib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ops.command_line.terminal import colour, escape_control
from ops.errors import CommandError
from ops.state import State
from ops.up.log_view import LogReader

POLL_SECONDS = 0.2
_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
# fields that are not shown as name=value
_KNOWN = {"level", "message", "at", "exc_info", "stack_info", "process", "logger"}


class Line(NamedTuple):
    """One line of a log, with the time that it has, or that the line before it has; seconds since 1970."""

    at: float
    part: str
    text: str


def run(args: argparse.Namespace) -> int:
    """Prints the last lines, and with `--follow` all further ones until Ctrl-C. Raises CommandError for an unknown part."""
    directory = State(args.state).directory / "logs"
    readers = {file: LogReader(file) for file in _chosen(directory, args.parts)}
    latest = [line for file, reader in readers.items() for line in _timed(file.stem, reader.latest(args.lines))]
    _print(sorted(latest, key=lambda line: line.at)[-args.lines :], raw=args.raw)
    try:
        while args.follow:
            time.sleep(POLL_SECONDS)
            for file in _chosen(directory, args.parts):  # a process that is started later has a new file
                readers.setdefault(file, LogReader(file, from_start=True))
            new = [line for file, reader in readers.items() for line in _timed(file.stem, reader.new_lines())]
            _print(sorted(new, key=lambda line: line.at), raw=args.raw)
    except KeyboardInterrupt:
        pass
    return 0


def _chosen(directory: Path, parts: Sequence[str]) -> list[Path]:
    files = sorted(directory.glob("*.log"))
    if not files:
        raise CommandError(f"There are no logs in {directory}: ./stint up writes them, on the directory that --state names.")
    for part in parts:
        if not any(_is_of(file, part) for file in files):
            names = [file.stem for file in files]
            near = difflib.get_close_matches(part, [*names, "api", "work"], 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}."
            raise CommandError(f"There is no log of {part}: {hint}")
    return [file for file in files if not parts or any(_is_of(file, part) for part in parts)]


def _is_of(file: Path, part: str) -> bool:
    """Whether it is the log of that process, or of one of its kind: api-1 is one of api."""
    return f"{file.stem}-".startswith(f"{part.replace(' ', '-')}-")


def _timed(part: str, lines: Iterable[str]) -> Iterator[Line]:
    at = 0.0
    for text in lines:
        at = _time_of(text) or at
        yield Line(at, part, text)


def _time_of(text: str) -> float | None:
    """The time at which a line was logged: by Stint's own processes as JSON, by Postgres and RabbitMQ at its beginning."""
    if text.startswith("{"):
        written = str(_fields(text).get("at", ""))
    else:
        day, clock, zone, *_ = [*text.split(" ", 3), "", "", ""]
        written = f"{day}T{clock}{'+00:00' if zone == 'UTC' else ''}"
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _print(lines: Iterable[Line], *, raw: bool) -> None:
    for line in lines:
        print(line.text if raw else f"{line.part:<12} | {_readable(line.text)}")
    sys.stdout.flush()


def _readable(text: str) -> str:
    """A line of JSON as time, level, message and the other fields; any other line as it is."""
    fields = _fields(text) if text.startswith("{") else {}
    if "message" not in fields:
        return escape_control(text)
    level = str(fields.get("level", ""))
    others = "".join(f" {name}={value}" for name, value in fields.items() if name not in _KNOWN)
    traces = "".join(f"\n{fields[name]}" for name in ("exc_info", "stack_info") if name in fields)
    shown = f"{str(fields.get('at', '')).partition('+')[0][:23]} {level} {fields['message']}{others}{traces}"
    return colour(escape_control(shown), _COLOURS.get(level, ""))

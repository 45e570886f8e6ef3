"""What the children of `up` say: all of it in files of bounded size, the part that matters on the terminal."""

import json
import os
import re
import select
import shutil
import sys
import time
from collections import deque
from pathlib import Path

_LARGEST_LOG_BYTES = 10_000_000
_BURST_LINES, _BURST_SECONDS = 20, 10.0
_LOUD_LEVELS = {"WARNING", "ERROR", "CRITICAL", "FATAL"}

# Postgres and RabbitMQ call much an error that is a client's doing or a restart's; whoever caused that says so itself.
_SERVER_TROUBLE = {
    "postgres": re.compile(r"PANIC|FATAL(?!.*(terminating|starting up|shutting down|not yet accepting|recovery))"),
    "rabbitmq": re.compile(r"\[(critical|alert|emergency)\]|\[error\].*(?:eaddrinuse|enospc|BOOT FAILED|alarm)"),
    "epmd": re.compile(r"error", re.IGNORECASE),
}


class Terminal:
    """Standard output, never waited for: a paused or vanished terminal must not keep a dead child from its restart."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque(maxlen=2000)
        self._gone = sys.stdout is None  # started with it closed
        self._descriptor = -1 if self._gone else sys.stdout.fileno()

    def say(self, text: str) -> None:
        self._waiting.extend(f"{line}\n".encode(errors="replace") for line in text.splitlines())
        self.flush()

    def flush(self) -> None:
        """Writes what fits now; the rest follows at the next call."""
        while self._waiting and not self._gone:
            try:
                if not select.select([], [self._descriptor], [], 0)[1]:
                    return
                line = self._waiting.popleft()
                written = os.write(self._descriptor, line[: select.PIPE_BUF])
            except (OSError, ValueError):
                self._gone = True
                return
            if written < len(line):
                self._waiting.appendleft(line[written:])


class LogView:
    """Follows one child's log file: its new lines for the terminal, and its size."""

    def __init__(self, name: str, log: Path, *, verbose: bool) -> None:
        self.name = name
        self.log = log
        self.verbose = verbose
        self._position = _size(log)
        self._rest = b""
        self._burst_end = 0.0
        self._burst_lines = 0

    def new_lines(self, *, warnings: bool = True) -> list[str]:
        """The lines since the last call that a person should see, with the child's name before each. Without
        `warnings` errors alone: while everything starts, parts wait for each other, and say so."""
        shown = [
            text for line in self._read() if (text := line if self.verbose else loud_part(self.name, line, warnings=warnings))
        ]
        if not self.verbose:
            shown = self._limit(shown)
        return [f"{self.name:<12} | {text}" for text in shown]

    def _read(self) -> list[str]:
        size = _size(self.log)
        if size <= self._position:
            return []
        with open(self.log, "rb") as file:
            file.seek(self._position)
            new = file.read(size - self._position)
        self._position = size
        if size > _LARGEST_LOG_BYTES:
            # The child goes on writing into the same file, at its end, so it is emptied and not renamed.
            shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
            os.truncate(self.log, 0)
            self._position = 0
        *lines, self._rest = (self._rest + new).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _limit(self, lines: list[str]) -> list[str]:
        now = time.monotonic()
        if now > self._burst_end:
            self._burst_end, self._burst_lines = now + _BURST_SECONDS, 0
        room = max(0, _BURST_LINES - self._burst_lines)
        self._burst_lines += len(lines)
        if len(lines) > room > 0 or (room == 0 and lines and self._burst_lines - len(lines) == _BURST_LINES):
            self._burst_lines = _BURST_LINES + 1
            return [*lines[:room], f"… more of this in {self.log}"]
        return lines[:room]


def loud_part(name: str, line: str, *, warnings: bool = True) -> str | None:
    """What a person should see of one line of a child's log: None for what is ordinary."""
    if name in _SERVER_TROUBLE:
        return line if _SERVER_TROUBLE[name].search(line) else None
    try:
        entry = json.loads(line)
    except ValueError:
        return line.rstrip() or None  # not from a logger: a traceback at the very start, say
    if not isinstance(entry, dict):
        return line
    level = str(entry.get("level") or entry.get("levelname") or "").upper()
    if level not in _LOUD_LEVELS or (level == "WARNING" and not warnings):
        return None
    message = str(entry.get("message") or entry.get("event") or entry.get("msg") or line)
    error = str(entry.get("exc_info") or entry.get("exception") or "").strip()
    return f"{level} {message}" + (f" ({error.splitlines()[-1]})" if error else "")


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0

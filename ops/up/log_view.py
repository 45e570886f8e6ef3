"""The logs of `up`'s processes: complete in files of limited size, and warnings and errors on the terminal."""

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
_BLOCK_BYTES = 250_000  # of which the latest lines of a log are looked for at a time
_BURST_LINES, _BURST_SECONDS = 20, 10.0
_LOUD_LEVELS = {"WARNING", "ERROR", "CRITICAL", "FATAL"}

# Postgres and RabbitMQ log many errors that a client or a restart causes, and that are logged there as well. These matter:
_SERVER_ERRORS = {
    "postgres": re.compile(r"PANIC|FATAL(?!.*(terminating|starting up|shutting down|not yet accepting|recovery))"),
    "rabbitmq": re.compile(r"\[(critical|alert|emergency)\]|\[error\].*(?:eaddrinuse|enospc|BOOT FAILED|alarm)"),
    "epmd": re.compile(r"error", re.IGNORECASE),
}


class Terminal:
    """Standard output without blocking: a paused or closed terminal must not delay the restart of a dead process."""

    def __init__(self) -> None:
        self._pending: deque[bytes] = deque(maxlen=2000)
        self._closed = sys.stdout is None  # started with it closed
        self.is_terminal = not self._closed and sys.stdout.isatty()
        self._descriptor = -1 if self._closed else sys.stdout.fileno()

    def say(self, text: str) -> None:
        self._pending.extend(f"{line}\n".encode(errors="replace") for line in text.splitlines())
        self.flush()

    def flush(self) -> None:
        """Writes as much as the terminal accepts now. The rest is written by the next call."""
        while self._pending and not self._closed:
            try:
                if not select.select([], [self._descriptor], [], 0)[1]:
                    return
                line = self._pending.popleft()
                written = os.write(self._descriptor, line[: select.PIPE_BUF])
            except (OSError, ValueError):
                self._closed = True
                return
            if written < len(line):
                self._pending.appendleft(line[written:])


class LogReader:
    """Reads whole lines of one log file: those that are there, and those that follow. The file may be emptied meanwhile."""

    def __init__(self, log: Path, *, from_start: bool = False) -> None:
        self.log = log
        self.position = 0 if from_start else _size(log)
        self._rest = b""

    def latest(self, count: int) -> list[str]:
        """The last lines before those that `new_lines` returns."""
        start, newlines, blocks = self.position, 0, list[bytes]()
        with open(self.log, "rb") as file:
            while start > 0 and newlines <= count:
                end, start = start, max(0, start - _BLOCK_BYTES)
                file.seek(start)
                blocks.append(file.read(end - start))
                newlines += blocks[-1].count(b"\n")
        *lines, self._rest = b"".join(reversed(blocks)).split(b"\n")
        return [line.decode(errors="replace") for line in lines[1 if start else 0 :][-count:]]

    def new_lines(self) -> list[str]:
        """The lines since the last call."""
        size = _size(self.log)
        if size < self.position:  # it was emptied
            self.position, self._rest = 0, b""
        if size == self.position:
            return []
        with open(self.log, "rb") as file:
            file.seek(self.position)
            new = file.read(size - self.position)
        self.position = size
        *lines, self._rest = (self._rest + new).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


class LogView:
    """What to show of one process's log file, whose size this limits."""

    def __init__(self, name: str, log: Path, *, verbose: bool) -> None:
        self.name = name
        self.log = log
        self.verbose = verbose
        self._reader = LogReader(log)
        self._burst_end = 0.0
        self._burst_lines = 0

    def new_lines(self, *, warnings: bool = True) -> list[str]:
        """The new lines to show, each after the process's name. Without `warnings` only errors: at the start, processes warn
        that they wait for each other."""
        shown = [
            text for line in self._read() if (text := line if self.verbose else shown_part(self.name, line, warnings=warnings))
        ]
        if not self.verbose:
            shown = self._limit(shown)
        return [f"{self.name:<12} | {text}" for text in shown]

    def _read(self) -> list[str]:
        lines = self._reader.new_lines()
        if self._reader.position > _LARGEST_LOG_BYTES:
            # The process keeps the file open and appends to it, so the file is emptied instead of renamed.
            shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
            os.truncate(self.log, 0)
            self._reader.position = 0
        return lines

    def _limit(self, lines: list[str]) -> list[str]:
        now = time.monotonic()
        if now > self._burst_end:
            self._burst_end, self._burst_lines = now + _BURST_SECONDS, 0
        left = max(0, _BURST_LINES - self._burst_lines)
        self._burst_lines += len(lines)
        if len(lines) > left > 0 or (left == 0 and lines and self._burst_lines - len(lines) == _BURST_LINES):
            self._burst_lines = _BURST_LINES + 1
            return [*lines[:left], f"… further lines in {self.log}"]
        return lines[:left]


def shown_part(name: str, line: str, *, warnings: bool = True) -> str | None:
    """The text of one log line to show on the terminal, or None for a line that is only for the file."""
    if name in _SERVER_ERRORS:
        return line if _SERVER_ERRORS[name].search(line) else None
    try:
        entry = json.loads(line)
    except ValueError:
        return line.rstrip() or None  # not from a logger, for example a traceback while importing
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

"""`./stint up` for tests: a process with its own state and port."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ops.state import CHECKOUT
from tests.support.fork_server import run
from tests.support.installation import free_port

WITHOUT_SERVERS = {
    name: value
    for name, value in os.environ.items()
    if name not in ("DATABASE_URL", "AMQP_URL", "SECRET_KEY", "PUBLIC_URL") and not name.startswith("PYTEST_")
}


ONE_API = ("--api-processes", "1")  # for tests to which their number does not matter: each start costs seconds of CPU time


class Up:
    """A `./stint up` with its own state and port."""

    def __init__(self, state: Path, *words: str, on_a_terminal: bool = False) -> None:
        self.state = state
        self.on_a_terminal = on_a_terminal
        self.words = words
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = state.with_suffix(".out")
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes]

    def start(self, **environment: str) -> "Up":
        """Starts it, with this environment and that of the last start."""
        self.environment |= environment
        with self._opened() as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "ops.cli",
                    "up",
                    "--port",
                    str(self.port),
                    "--state",
                    str(self.state),
                    *self.words,
                ],
                env=WITHOUT_SERVERS | self.environment | {"PYTHONPATH": str(CHECKOUT)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until(lambda: "Stop it:" in self.said() or self.process.poll() is not None, seconds=90)
        assert self.process.poll() is None, self.said()
        return self

    def _opened(self) -> IO[bytes]:
        """What it writes to: a new file, or a terminal, of which another thread writes everything to the file."""
        output = open(self.output, "wb")
        if not self.on_a_terminal:
            return output
        shown, terminal = pty.openpty()

        def copy() -> None:
            with output, suppress(OSError):  # EIO: nobody has the terminal open any more
                while text := os.read(shown, 65536):
                    output.write(text.replace(b"\r\n", b"\n"))
                    output.flush()
            os.close(shown)

        threading.Thread(target=copy, daemon=True).start()
        return open(terminal, "wb")

    def runs(self) -> bool:
        return hasattr(self, "process") and self.process.poll() is None

    def said(self) -> str:
        return self.output.read_text()

    def run_json(self) -> dict[str, Any]:
        return dict(json.loads((self.state / "run.json").read_text()))

    def end(self, number: signal.Signals, *, within_seconds: float = 12) -> float:
        """Sends the signal, and returns the seconds until the last process had ended."""
        pids = tree(self.process.pid)
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(within_seconds)
        until(lambda: not any(map(runs, pids)), seconds=within_seconds)
        return time.monotonic() - started


def end_all(up: Up, number: signal.Signals) -> float:
    """Ends it by that signal, asserts that nothing of it is left, and returns the seconds that it took."""
    seconds = up.end(number)
    assert seconds < 10
    assert up.process.returncode == 0
    assert not (up.state / "run.json").exists()
    assert not list((up.state / "postgres").glob("socket*"))
    return seconds


def tree(pid: int) -> list[int]:
    """The pids of a process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    pids = [pid]
    for parent in pids:
        pids += [child for child, its_parent in parents.items() if its_parent == parent]
    return pids


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `./stint …` to its end."""
    whole = WITHOUT_SERVERS | environment | {"PYTHONPATH": str(CHECKOUT)}
    return run(["ops.cli", *words], cwd=CHECKOUT, env=whole)


def until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.03)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=3) as answer:  # noqa: S310 - our own
            return bool(answer.status == 200)
    except OSError:
        return False

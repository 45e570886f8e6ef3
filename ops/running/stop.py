"""`./stint stop`: ends the `./stint up` that runs on a state directory, from any shell."""

import argparse
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.errors import CommandError
from ops.state import State

REPORT_SECONDS = 5.0


def run(args: argparse.Namespace) -> int:
    """Asks it to stop and returns when it has ended; also if none runs. Raises CommandError if it cannot be asked, or does not
    end in time."""
    state = State(args.state)
    if (pid := state.pid()) is None:
        print(f"No Stint runs on {state.directory}: there is nothing to stop.")
        return 0
    started = time.monotonic()
    with _process(pid, state) as process:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        print(f"Asked the Stint on {state.directory} to stop: process {pid}.", flush=True)
        _wait(process, pid, args.timeout)
    print(f"It has stopped, after {time.monotonic() - started:.1f} s.")
    return 0


@contextmanager
def _process(pid: int, state: State) -> Iterator[int]:
    """A descriptor of the process, which stays that of this one process even if its number is given to another. Raises
    CommandError unless it is the process that has locked the state directory."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        raise _elsewhere(state) from None
    try:
        if not _has_open(pid, state.directory / "lock"):
            raise _elsewhere(state)
        yield process
    except PermissionError:
        raise CommandError(f"The Stint on {state.directory} is of another user: stop process {pid} as that user.") from None
    finally:
        os.close(process)


def _elsewhere(state: State) -> CommandError:
    return CommandError(f"The Stint on {state.directory} runs in another container, or has just ended: stop it there.")


def _has_open(pid: int, file: Path) -> bool:
    """Whether the process has the file open. Raises PermissionError for a process of another user."""
    try:
        return any(os.path.exists(opened) and os.path.samefile(opened, file) for opened in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:  # it has just ended
        return False


def _wait(process: int, pid: int, timeout_seconds: float) -> None:
    started = time.monotonic()
    end = select.poll()
    end.register(process, select.POLLIN)
    while (waited := time.monotonic() - started) < timeout_seconds:
        if waited >= REPORT_SECONDS:
            print(f"It is still stopping, after {waited:.0f} s.", flush=True)
        if end.poll(1000 * min(REPORT_SECONDS, timeout_seconds - waited)):
            return
    raise CommandError(f"Process {pid} is still stopping, after {waited:.0f} s: ./stint stop again ends everything at once.")

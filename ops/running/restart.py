"""`./stint restart`: replaces the processes of the `./stint up` that runs, while it serves."""

import argparse
import time

from ops.errors import CommandError
from ops.running.asking import RESTART, ask
from ops.state import State


def run(args: argparse.Namespace) -> int:
    """Returns when all are replaced. Raises CommandError if none runs, or one was not replaced."""
    state = State(args.state)
    if state.pid() is None:
        raise CommandError(f"No Stint runs on {state.directory}: ./stint up starts one.")
    started = time.monotonic()
    print(f"Replacing workers, relay and API of the Stint on {state.directory}, one after another.", flush=True)
    try:
        failures = ask(state.directory, RESTART)["failures"]
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(f"The Stint on {state.directory} does not answer ({type(error).__name__}).") from None
    if failures:
        raise CommandError("\n".join(failures))
    print(f"All are replaced, after {time.monotonic() - started:.1f} s.")
    return 0

"""Runs `actors` with a SIGKILL placed at one point: `python -m tests.faults.crash_points work --queues timers`.

CRASH_AT names the point, CRASH_DEATHS a directory with a file for each death that is left; without any the process lives.
The points are wrapped around the real functions; nothing else is changed.
"""

import asyncio
import contextlib
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from actors.runtime import attempts, broker, relay
from schemas.hours import time_entries
from schemas.outbox import outbox
from schemas.rabbitmq.amqp import Amqp

POINTS = (
    "claimed", "published", "confirmed", "received", "called", "locked", "handled", "settled", "committed", "acknowledged",
)  # fmt: skip
OF_A_BACKLOG = ("called together", "committed together")  # with a worker that finds several stops waiting


def die() -> None:
    """Kills this process if there is a crash left to take. Taking one is atomic across threads and processes."""
    for death in Path(os.environ["CRASH_DEATHS"]).iterdir():
        with contextlib.suppress(FileNotFoundError):
            death.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def after(owner: Any, name: str, *, only: Callable[[Any], bool] = lambda _: True) -> None:
    """Kills the process right after an async function has returned."""
    original = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if only(result):
            die()
        return result

    setattr(owner, name, wrapped)


def before(owner: Any, name: str) -> None:
    """Kills the process right before a function is called."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        die()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def kill_during_the_call(name: str) -> None:
    """Kills this process while Postgres has the call that handles one or several stops: committed or not, nobody has read its
    answer."""
    original = getattr(time_entries, name)

    async def handle(*args: Any, **kwargs: Any) -> Any:
        call = asyncio.ensure_future(original(*args, **kwargs))
        await asyncio.wait({call}, timeout=0.001)
        die()
        return await call

    setattr(time_entries, name, handle)


def without_calls() -> None:
    """Has every delivery handled in a transaction of several statements."""

    async def not_handled(*_: Any) -> bool:
        return False

    attempts.AttemptRunner._one_call = not_handled  # type: ignore[method-assign, assignment]


def arm(point: str) -> None:
    if point in ("locked", "handled", "settled"):
        without_calls()
    match point:
        case "claimed":
            after(relay, "claim", only=lambda claim: bool(claim.rows))
        case "published":
            original = Amqp.publish

            def publish(self: Amqp, *args: Any, **options: Any) -> Any:
                original(self, *args, **options)
                die()

            Amqp.publish = publish  # type: ignore[method-assign]
        case "confirmed":
            after(relay.Relay, "_check_confirms", only=bool)
        case "received":
            before(attempts.AttemptRunner, "run")
        case "called":
            kill_during_the_call("handle_stop")
        case "called together":
            kill_during_the_call("handle_stops")
        case "committed together":
            after(time_entries, "handle_stops", only=bool)
        case "locked":
            after(attempts, "lock_for_delivery", only=bool)
        case "handled":
            after(time_entries, "create_from_stop")
        case "settled":
            after(outbox, "complete")
        case "committed":
            after(attempts.AttemptRunner, "_attempt")
        case "acknowledged":
            original_ack = broker.OutboxConsumer.ack

            def ack(self: Any, message: Any) -> None:
                original_ack(self, message)
                self.connection.add_callback_threadsafe(die)

            broker.OutboxConsumer.ack = ack  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(os.environ["CRASH_AT"])
    runpy.run_module("actors", run_name="__main__", alter_sys=True)

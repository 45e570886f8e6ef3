"""How long a request of Slack's has waited, and how long its answer may still take."""

import asyncio
import time
from typing import Any

from litestar import Request

from api.http.requests import request_started
from api.http.server import CONNECTION, ClientConnection
from schemas.settings import Settings

# From the request's arrival, of the 3 seconds that Slack waits. The rest is for the network, and for a busy machine.
ANSWER_SECONDS = 2.0
MIN_SECONDS = 0.5  # that a late request's work gets before its answer
SLACK_SECONDS = 3.0  # then Slack tells the person that it failed


def count_from_arrival(request: Request[Any, Any, Any]) -> None:
    """Lets the request's deadline begin when the kernel received it, which is earlier than when this process read it: after a
    restart, or while the process is busy."""
    connection: Any = (request.scope.get("extensions") or {}).get(CONNECTION)
    if isinstance(connection, ClientConnection):
        request_started.set(min(request_started.get(), time.perf_counter() - connection.data_age()))


def is_late(settings: Settings) -> bool:
    """Whether the request has waited for so long that it is acknowledged first, and worked on behind the answer."""
    return time.perf_counter() - request_started.get() > settings.stint_slack_late_seconds


def is_given_up() -> bool:
    """Whether Slack has told the person already that the request failed."""
    return time.perf_counter() - request_started.get() > SLACK_SECONDS


async def is_done_in_time(task: asyncio.Task[Any]) -> bool:
    """Waits for the task until the answer must be sent, and also in a late request for MIN_SECONDS."""
    done, _ = await asyncio.wait({task}, timeout=max(MIN_SECONDS, time_left()))
    return bool(done)


def time_left() -> float:
    """The seconds until the answer must be sent."""
    return max(0.0, request_started.get() + ANSWER_SECONDS - time.perf_counter())

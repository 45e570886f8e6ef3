"""What a request takes that needs no server: the machine needs that for any request, so a limit comes on top of it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

from tests.support.installation import Installation

LIVE_SECONDS = 5  # longer answers are not the machine's: something blocks the event loop


class LiveTimes:
    """The slowest answer of /health/live so far, in seconds."""

    slowest = 0.0


@contextmanager
def live_times(stint: Installation) -> Iterator[LiveTimes]:
    """Asks again and again, 20 times a second, while the block runs. Fails if an answer took LIVE_SECONDS."""
    times, over = LiveTimes(), threading.Event()

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", stint.port, timeout=30)
        while not over.wait(0.05):
            started_at = time.monotonic()
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            times.slowest = max(times.slowest, time.monotonic() - started_at)
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield times
    finally:
        over.set()
        asking.join()
    assert times.slowest < LIVE_SECONDS

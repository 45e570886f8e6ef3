"""Coroutines for tests in whose thread an event loop runs: that of Playwright, between any two of its calls."""

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def run_apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of the coroutine, which the event loop of another thread runs: always the same one, so that a connection can
    be used by several coroutines, one after the other."""
    with _one_makes:
        loop = _loop()
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


_one_makes = threading.Lock()  # of several threads that are the first: `cache` would let each make a loop


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="apart", daemon=True).start()
    return loop

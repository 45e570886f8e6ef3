"""Tests that assert seconds run alone on the machine: `@pytest.mark.exclusive`. A plugin of the workers of this run."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FIRST_SECONDS = 60  # if no exclusive test has begun by then, its worker has died


class ExclusiveTests:
    """A lock for readers and one writer, shared by processes through two files. Other tests share `running`; an exclusive one
    takes `waiting` first, so that no further test begins, and then `running`, when all others have ended. A process that dies
    releases its locks."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._waiting, self._running = (os.open(directory / name, flags, 0o600) for name in ("waiting", "running"))
        self._first_began = directory / "first-began"
        self._is_mine = self._waits_for_first = False

    def expect_one(self) -> None:
        """An exclusive test comes first: other tests wait until it has begun."""
        self._waits_for_first = True

    @contextmanager
    def shared(self) -> Iterator[None]:
        if self._waits_for_first:
            self._wait_for_first()
        fcntl.flock(self._waiting, fcntl.LOCK_SH)
        fcntl.flock(self._running, fcntl.LOCK_SH)
        fcntl.flock(self._waiting, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._running, fcntl.LOCK_UN)

    @contextmanager
    def exclusive(self, *, keep: bool) -> Iterator[None]:
        """`keep`: the next test of this worker is exclusive, too, so the locks stay."""
        if not self._is_mine:
            fcntl.flock(self._waiting, fcntl.LOCK_EX)
            fcntl.flock(self._running, fcntl.LOCK_EX)
            self._first_began.touch()
        try:
            yield
        finally:
            self._is_mine = keep
            if not keep:
                fcntl.flock(self._running, fcntl.LOCK_UN)
                fcntl.flock(self._waiting, fcntl.LOCK_UN)

    def _wait_for_first(self) -> None:
        end = time.monotonic() + FIRST_SECONDS
        while not self._first_began.exists() and time.monotonic() < end:
            time.sleep(0.05)
        self._waits_for_first = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # so that waiting is no part of what a test's timeout counts
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        if is_exclusive(item):
            lock = self.exclusive(keep=nextitem is not None and is_exclusive(nextitem))
        else:
            lock = self.shared()
        with lock:
            return (yield)


def is_exclusive(item: pytest.Item) -> bool:
    return item.get_closest_marker("exclusive") is not None

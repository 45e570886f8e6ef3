"""Tests that assert seconds have the machine for themselves: `@pytest.mark.alone`, a plugin of this run's workers."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FIRST_SECONDS = 60  # should the first never come, its worker has died


class Room:
    """A room for a crowd or for one: whoever wants to be alone closes the door first, and waits until all have left. Shared by
    processes, by way of two files; what a process holds ends with it."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._door, self._room = (os.open(directory / name, flags, 0o600) for name in ("door", "room"))
        self._arrived = directory / "arrived"
        self._is_mine = self._lets_the_first_in = False

    def expect_somebody(self) -> None:
        """Whoever wants to be alone begins: others wait until the first of them is in."""
        self._lets_the_first_in = True

    @contextmanager
    def among_others(self) -> Iterator[None]:
        if self._lets_the_first_in:
            self._wait_for_the_first()
        fcntl.flock(self._door, fcntl.LOCK_SH)
        fcntl.flock(self._room, fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @contextmanager
    def alone(self, *, stays: bool) -> Iterator[None]:
        """`stays`: the next one wants to be alone, too, and so nobody is let in between."""
        if not self._is_mine:
            fcntl.flock(self._door, fcntl.LOCK_EX)
            fcntl.flock(self._room, fcntl.LOCK_EX)
            self._arrived.touch()
        try:
            yield
        finally:
            self._is_mine = stays
            if not stays:
                fcntl.flock(self._room, fcntl.LOCK_UN)
                fcntl.flock(self._door, fcntl.LOCK_UN)

    def _wait_for_the_first(self) -> None:
        end = time.monotonic() + FIRST_SECONDS
        while not self._arrived.exists() and time.monotonic() < end:
            time.sleep(0.05)
        self._lets_the_first_in = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # so that waiting is no part of what a test's timeout counts
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        if wants_to_be_alone(item):
            place = self.alone(stays=nextitem is not None and wants_to_be_alone(nextitem))
        else:
            place = self.among_others()
        with place:
            return (yield)


def wants_to_be_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None

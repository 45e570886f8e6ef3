"""Tests that assert seconds: `@pytest.mark.exclusive`. Beside them runs at most one that is marked `exclusive(uses="little")`,
which mostly waits. No other test runs meanwhile, except those that are marked `quiet`: these use a tenth of a processor at
most. A plugin of the workers of this run."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

USES = ("most", "little")  # how much of the machine an exclusive test uses
LANES = tuple(range(len(USES)))  # of exclusive tests: those that use the same
FIRST_SECONDS = 60  # if the first exclusive test of a lane has not begun by then, its worker has died


class ExclusiveTests:
    """For each lane a lock for readers and one writer, shared by processes through two files. Other tests share `running` of
    all lanes; an exclusive one takes `waiting` of its lane first, so that no further test begins, and then `running`, when
    all others have ended. A process that dies releases its locks."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._waiting, self._running = (
            [os.open(directory / f"{name}-{lane}", flags, 0o600) for lane in LANES] for name in ("waiting", "running")
        )
        self._began = [directory / f"began-{lane}" for lane in LANES]
        self._directory = directory
        self._mine: int | None = None  # the lane whose locks this worker keeps for its next test
        self._expected: set[int] = set()  # the lanes that come before other tests

    @pytest.hookimpl(trylast=True)  # when pytest has chosen by markers and names
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        lanes = {item.nodeid: lane for item in items if (lane := lane_of(item)) is not None}
        self._expected = set(lanes.values())
        items.sort(key=lambda item: lanes.get(item.nodeid, len(LANES) + (not _is_quiet(item))))  # stable
        write_lanes(self._directory, lanes)

    @contextmanager
    def shared(self) -> Iterator[None]:
        self._wait_for_first()
        for waiting in self._waiting:
            fcntl.flock(waiting, fcntl.LOCK_SH)
        for running in self._running:
            fcntl.flock(running, fcntl.LOCK_SH)
        for waiting in self._waiting:
            fcntl.flock(waiting, fcntl.LOCK_UN)
        try:
            yield
        finally:
            for running in self._running:
                fcntl.flock(running, fcntl.LOCK_UN)

    @contextmanager
    def exclusive(self, lane: int, *, keep: bool) -> Iterator[None]:
        """`keep`: the next test of this worker is of the same lane, so the locks stay."""
        if self._mine is None:
            fcntl.flock(self._waiting[lane], fcntl.LOCK_EX)
            fcntl.flock(self._running[lane], fcntl.LOCK_EX)
            self._began[lane].touch()
        try:
            yield
        finally:
            self._mine = lane if keep else None
            if not keep:
                fcntl.flock(self._running[lane], fcntl.LOCK_UN)
                fcntl.flock(self._waiting[lane], fcntl.LOCK_UN)

    def _wait_for_first(self) -> None:
        end = time.monotonic() + FIRST_SECONDS
        while not all(self._began[lane].exists() for lane in self._expected) and time.monotonic() < end:
            time.sleep(0.05)
        self._expected = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # so that waiting is no part of what a test's timeout counts
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        lane = lane_of(item)
        lock: AbstractContextManager[None]
        if lane is None:
            lock = nullcontext() if _is_quiet(item) else self.shared()
        else:
            lock = self.exclusive(lane, keep=nextitem is not None and lane_of(nextitem) == lane)
        with lock:
            return (yield)


def lane_of(item: pytest.Item) -> int | None:
    """None: it does not mind others."""
    marker = item.get_closest_marker("exclusive")
    return None if marker is None else USES.index(marker.kwargs.get("uses", USES[0]))


def _is_quiet(item: pytest.Item) -> bool:
    return item.get_closest_marker("quiet") is not None


def write_lanes(directory: Path, lanes: Mapping[str, int]) -> None:
    """Called in each worker, for the scheduler: that is in the process of pytest that collects nothing."""
    written = directory / f"lanes-{os.getpid()}"
    written.write_text(json.dumps(lanes))
    written.rename(_lanes_file(directory))


def read_lanes(directory: Path) -> dict[str, int]:
    """The lane of each exclusive test, by its id."""
    lanes: dict[str, int] = json.loads(_lanes_file(directory).read_text())
    return lanes


def _lanes_file(directory: Path) -> Path:
    return directory / "lanes.json"

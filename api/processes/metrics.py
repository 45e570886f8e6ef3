"""The metrics of all API processes behind one port, in the answer of any of them.

If PROMETHEUS_MULTIPROC_DIR names a directory, prometheus_client writes each process's values to files there, and a scrape reads
all of them. The files have the number of a place, which a process takes for its life; the next process with that place
continues the counters of the files. So counters never decrease, and restarts leave no further files.
"""

import fcntl
import os
from pathlib import Path
from typing import IO

from prometheus_client import CollectorRegistry, generate_latest, multiprocess, values

EXPECTED = "STINT_EXPECTED_PROCESSES"  # from the supervisor: how many API processes there should be behind the port

_place: tuple[int, IO[bytes]] | None = None  # the number, and the file whose lock keeps it
_serves: IO[bytes] | None = None  # the file whose lock tells that this process serves


def take_place() -> None:
    """Takes the lowest free place, if PROMETHEUS_MULTIPROC_DIR is set. Call it before any metric is created."""
    global _place
    if not (name := os.environ.get("PROMETHEUS_MULTIPROC_DIR")):
        return
    directory = Path(name)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = 1
    while (lock := _lock(directory / f"{number}.lock")) is None:
        number += 1
    _place = number, lock
    # the gauges of the process that had this place before
    multiprocess.mark_process_dead(number, name)  # type: ignore[no-untyped-call]
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


def serve() -> None:
    """Counts this process among those that serve, until it ends. Call it once it does."""
    global _serves
    if _place is not None and _serves is None:
        _serves = (Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]) / f"{_place[0]}.serves").open("ab")
        fcntl.flock(_serves, fcntl.LOCK_EX)  # nobody has it for longer than a look


def serving() -> tuple[int, int]:
    """How many processes serve behind this port, and how many there should be; one of one without PROMETHEUS_MULTIPROC_DIR."""
    if _place is None:
        return 1, 1
    files = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.serves")
    return sum(map(_is_locked, files)), int(os.environ.get(EXPECTED) or 1)


def place() -> int:
    """The number of this process among those behind one port, from 1; 1 for a process alone."""
    return 1 if _place is None else _place[0]


def exposition() -> bytes:
    """The metrics of all processes in Prometheus's text format: counters and histograms are sums, also of processes that have
    ended; gauges are those of processes that run."""
    if _place is None:
        return generate_latest()
    directory = os.environ["PROMETHEUS_MULTIPROC_DIR"]
    for path in Path(directory).glob("*.lock"):
        if path.stem != str(_place[0]) and (lock := _lock(path)) is not None:
            with lock:
                multiprocess.mark_process_dead(int(path.stem), directory)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _lock(path: Path) -> IO[bytes] | None:
    """The file, locked; None if another process has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _is_locked(path: Path) -> bool:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

"""The CPU time of processes, from /proc: what each kind of process costs one request."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")

Reading = Mapping[str, Mapping[int, float]]


class Processes:
    """The processes that serve one side of a comparison. `trees` returns the pids of its kinds of processes ("api", "relay");
    their children count too. Of the process `postgres` and its children, the backends of other databases than `database` and
    `without_backend`, which is the measurement's own, do not count; what serves all databases does."""

    def __init__(
        self,
        trees: Callable[[], Mapping[str, Sequence[int]]],
        *,
        postgres: int | None = None,
        database: str = "",
        without_backend: int = 0,
    ) -> None:
        self._trees = trees
        self._postgres, self._database, self._without = postgres, database, without_backend

    def read(self) -> Reading:
        """CPU seconds so far, by kind and process. Empty on a system without /proc."""
        if not (_PROC / "self" / "stat").exists():
            return {}
        seconds, children = _all_processes()
        counted = {kind: _tree(pids, children) for kind, pids in self._trees().items()}
        if self._postgres is not None:
            counted["postgres"] = [pid for pid in _tree([self._postgres], children) if self._counts(pid)]
        return {kind: {pid: seconds[pid] for pid in pids if pid in seconds} for kind, pids in counted.items()}

    def _counts(self, pid: int) -> bool:
        if pid == self._without:
            return False
        try:
            # "postgres: stint DATABASE [local] idle" for a backend; other processes of Postgres name what they do
            words = (_PROC / str(pid) / "cmdline").read_text().split()
        except OSError:
            return False
        is_backend = len(words) > 3 and words[0] == "postgres:" and words[3].startswith("[local]")
        return not is_backend or words[2] == self._database


def milliseconds(before: Reading, after: Reading, *, count: int) -> dict[str, float]:
    """Milliseconds of CPU time per request, by kind of process, of those that run at the end. Processes that ended in between,
    such as a worker of autovacuum, do not count."""
    return {
        kind: sum(seconds - before[kind].get(pid, 0.0) for pid, seconds in processes.items()) / count * 1000
        for kind, processes in after.items()
        if kind in before
    }


def _all_processes() -> tuple[dict[int, float], dict[int, list[int]]]:
    """The CPU seconds and the children of each process."""
    seconds: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
        children.setdefault(int(fields[1]), []).append(int(entry.name))
    return seconds, children


def _tree(roots: Sequence[int], children: Mapping[int, Sequence[int]]) -> list[int]:
    found = list(roots)
    for pid in found:
        found += children.get(pid, ())
    return found

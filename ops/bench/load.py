"""Load on an HTTP server, created by another process (generator.py), and what it costs each kind of process."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ops.bench.cpu import Processes, milliseconds
from ops.bench.installation import Installation
from ops.bench.rounds import Side

WARM_UP_SECONDS = 0.5  # at most an eighth of what is measured
FIRST_SECONDS = 1.0  # at most a quarter of it


@dataclass(frozen=True)
class Load:
    """The generator's measurements of one round. `sent` are all requests, with those of the warm-up, and `requests` those that
    were answered after it. `cpu_microseconds` is the generator's own cost of a request."""

    sent: int
    requests: int
    per_second: float
    p50_milliseconds: float
    p99_milliseconds: float
    cpu_microseconds: float


def request(method: str, path: str, *, token: str | None = None) -> str:
    """A request without a body, as it is sent over the connection."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    length = "" if method == "GET" else "Content-Length: 0\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}{length}\r\n"


def load(stage: Installation, url: str, clients: list[list[str]], *, seconds: float) -> Load:
    """Keeps one connection for each client busy with the client's requests."""
    parts = urlsplit(url)
    times = {"warm_up": min(WARM_UP_SECONDS, seconds / 8), "seconds": seconds}
    todo = {"host": parts.hostname, "port": parts.port, "clients": clients, **times}
    file = stage.home / "load.json"
    file.write_text(json.dumps(todo))
    return Load(**stage.measure_module("ops.bench.generator", str(file)))


class Server:
    """One side of a comparison over HTTP: its URL, the requests of each client, and the processes whose CPU time counts. The
    CPU time is that of `per` requests, such as 2 for a start and its stop, and includes the work that `drain` waits for."""

    def __init__(
        self,
        stage: Installation,
        url: str,
        clients: list[list[str]],
        processes: Processes,
        *,
        per: int = 1,
        drain: Callable[[], None] = lambda: None,
    ) -> None:
        self._stage, self.url, self._clients, self._processes = stage, url, clients, processes
        self._per, self._drain = per, drain
        self.loads: list[Load] = []
        self._cpu: list[dict[str, float]] = []

    def per_second(self, seconds: float) -> float:
        """Measures one round: requests a second. Before the first, a load that does not count opens connections and prepares
        statements."""
        if not self.loads:
            load(self._stage, self.url, self._clients, seconds=min(FIRST_SECONDS, seconds / 4))
            self._drain()
        before = self._processes.read()
        self.loads.append(load(self._stage, self.url, self._clients, seconds=seconds))
        self._drain()
        after = self._processes.read()
        self._cpu.append(milliseconds(before, after, count=max(1, self.loads[-1].sent // self._per)))
        return self.loads[-1].per_second

    def cpu_sum(self) -> float:
        """CPU milliseconds in the last round, of all processes together."""
        return sum(self._cpu[-1].values())

    def cpu(self) -> dict[str, float]:
        """CPU milliseconds by kind of process: the medians of the rounds."""
        return {kind: statistics.median(one[kind] for one in self._cpu) for kind in self._cpu[-1]}

    def rates(self, what: str, values: Sequence[float]) -> Side:
        """The side of a line of requests a second."""
        return Side(what, "requests/s", values, self.cpu())

    def costs(self, what: str, unit: str) -> Side:
        """The side of a line of CPU time."""
        return Side(what, unit, [sum(one.values()) for one in self._cpu], self.cpu())

    def notes(self) -> dict[str, Any]:
        """Facts for a line's notes."""
        return {
            "p99_milliseconds": round(max(one.p99_milliseconds for one in self.loads), 1),
            "generator_cpu_microseconds_per_request": round(min(one.cpu_microseconds for one in self.loads), 1),
        }

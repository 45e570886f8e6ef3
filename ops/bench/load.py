"""Load on an HTTP server, created by another process (generator.py)."""

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from ops.bench.stage import Stage

WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Load:
    """The generator's measurements of one round. `cpu_microseconds` is its own cost of a request."""

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


def load(stage: Stage, url: str, clients: list[list[str]], *, seconds: float) -> Load:
    """Keeps one connection for each client busy with the client's requests."""
    parts = urlsplit(url)
    todo = {"host": parts.hostname, "port": parts.port, "clients": clients, "warm_up": WARM_UP_SECONDS, "seconds": seconds}
    file = stage.home / "load.json"
    file.write_text(json.dumps(todo))
    return Load(**stage.measure_module("ops.bench.generator", str(file)))

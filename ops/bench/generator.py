"""`python -m ops.bench.generator FILE`: creates HTTP load from its own process, and prints one JSON object.

It reads only the status and length of an answer, so that it costs little compared with what it measures. Its own cost is in its
report (`cpu_microseconds`, per request).
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

ANSWER_SECONDS = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Measurements:
    """The measurements of all clients between the warm-up and the end."""

    def __init__(self) -> None:
        self.counting = False
        self.sent = 0  # also during the warm-up, and those that are not answered before the end
        self.seconds: list[float] = []
        self.failure: str | None = None


class Client(asyncio.Protocol):
    """One keep-alive connection that sends its requests one after the other, in a loop."""

    def __init__(self, requests: Sequence[bytes], measurements: Measurements) -> None:
        self._requests, self._measurements = requests, measurements
        self._next = 0
        self._answer = b""
        self._expected = 0  # length of the present answer in bytes; 0 until its head is complete
        self._sent = 0.0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's class is not a subclass
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._measurements.failure = self._measurements.failure or f"the server hung up ({exc})"

    def data_received(self, data: bytes) -> None:
        self._answer = self._answer + data if self._answer else data
        if not self._expected:
            head = self._answer.find(b"\r\n\r\n")
            if head < 0:
                return
            length = _LENGTH.search(self._answer, 0, head)
            self._expected = head + 4 + (int(length[1]) if length else 0)
        if len(self._answer) < self._expected:
            return
        if self._answer[9:10] != b"2":
            self._measurements.failure = self._answer[:600].decode(errors="replace")
        if self._measurements.counting:
            self._measurements.seconds.append(time.perf_counter() - self._sent)
        self._answer, self._expected = b"", 0
        self._send()

    def close(self) -> None:
        self._measurements.failure = self._measurements.failure or ""  # the end of the connection is no failure from now on
        self._transport.close()

    def _send(self) -> None:
        self._measurements.sent += 1
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)


async def load(host: str, port: int, clients: list[list[bytes]], *, warm_up: float, seconds: float) -> dict[str, float]:
    """Keeps every client busy for `warm_up` and then `seconds`, or until the first answer if that comes later. Raises
    RuntimeError when an answer is not 2xx, or none comes within ANSWER_SECONDS more."""
    loop, measurements = asyncio.get_running_loop(), Measurements()
    protocols = []
    for requests in clients:
        _, protocol = await loop.create_connection(partial(Client, requests, measurements), host, port)
        protocols.append(protocol)
    await asyncio.sleep(warm_up)
    started, cpu, measurements.counting = time.perf_counter(), time.process_time(), True
    await asyncio.sleep(seconds)
    ends = time.perf_counter() + ANSWER_SECONDS
    while not measurements.seconds and measurements.failure is None and time.perf_counter() < ends:  # noqa: ASYNC110 (rare)
        await asyncio.sleep(0.01)
    measurements.counting = False
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    if measurements.failure is not None:
        raise RuntimeError(measurements.failure)
    for protocol in protocols:
        protocol.close()
    if not (count := len(measurements.seconds)):
        raise RuntimeError(f"no answer within {elapsed:.0f} s")
    ordered = sorted(measurements.seconds)
    return {
        "sent": measurements.sent,
        "requests": count,
        "per_second": count / elapsed,
        "p50_milliseconds": ordered[count // 2] * 1000,
        "p99_milliseconds": ordered[int(count * 0.99)] * 1000,
        "cpu_microseconds": cpu / count * 1_000_000,
    }


def main() -> None:
    """Reads the load from the file, runs it, and prints the result."""
    todo = json.loads(Path(sys.argv[1]).read_text())
    clients = [[request.encode() for request in requests] for requests in todo["clients"]]
    result = uvloop.run(load(todo["host"], todo["port"], clients, warm_up=todo["warm_up"], seconds=todo["seconds"]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""`python -m ops.bench.generator FILE`: HTTP load from a process of its own; prints one JSON object.

It reads no more of an answer than its status and length, so that it costs little beside what it measures; what it does cost
is in its report (`cpu_microseconds`, per request).
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Tally:
    """What all clients saw between the warm-up and the end."""

    def __init__(self) -> None:
        self.counting = False
        self.seconds: list[float] = []
        self.failure: str | None = None


class Client(asyncio.Protocol):
    """One keep-alive connection that sends its requests in turn, the next as soon as the last is answered."""

    def __init__(self, requests: Sequence[bytes], tally: Tally) -> None:
        self._requests, self._tally = requests, tally
        self._next = 0
        self._answer = b""
        self._expected = 0  # bytes of the answer that is arriving; 0: its head is not complete
        self._sent = 0.0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by name
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.failure = self._tally.failure or f"the server hung up ({exc})"

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
            self._tally.failure = self._answer[:600].decode(errors="replace")
        if self._tally.counting:
            self._tally.seconds.append(time.perf_counter() - self._sent)
        self._answer, self._expected = b"", 0
        self._ask()

    def close(self) -> None:
        self._tally.failure = self._tally.failure or ""  # from now on nobody's failure
        self._transport.close()

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)


async def load(host: str, port: int, clients: list[list[bytes]], *, warm_up: float, seconds: float) -> dict[str, float]:
    """Keeps every client asking for `seconds`, after `warm_up`. Raises RuntimeError for an answer that is no success."""
    loop, tally = asyncio.get_running_loop(), Tally()
    protocols = []
    for requests in clients:
        _, protocol = await loop.create_connection(lambda requests=requests: Client(requests, tally), host, port)  # type: ignore[misc]
        protocols.append(protocol)
    await asyncio.sleep(warm_up)
    begun, cpu, tally.counting = time.perf_counter(), time.process_time(), True
    await asyncio.sleep(seconds)
    tally.counting = False
    elapsed, cpu = time.perf_counter() - begun, time.process_time() - cpu
    if tally.failure is not None:
        raise RuntimeError(tally.failure)
    for protocol in protocols:
        protocol.close()
    if not (count := len(tally.seconds)):
        raise RuntimeError(f"no answer within {seconds:g} s")
    ordered = sorted(tally.seconds)
    return {
        "requests": count,
        "per_second": count / elapsed,
        "p50_milliseconds": ordered[count // 2] * 1000,
        "p99_milliseconds": ordered[int(count * 0.99)] * 1000,
        "cpu_microseconds": cpu / count * 1_000_000,
    }


def main() -> None:
    """Reads what to do from the file, does it, and prints what came of it."""
    todo = json.loads(Path(sys.argv[1]).read_text())
    clients = [[request.encode() for request in requests] for requests in todo["clients"]]
    result = uvloop.run(load(todo["host"], todo["port"], clients, warm_up=todo["warm_up"], seconds=todo["seconds"]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""`python -m ops.bench.listeners FILE`: opens streams of live events and reads them, and prints one JSON object at the end.

It counts what it receives and does nothing else with it. It prints a line when all streams are open.
"""

import json
import select
import socket
import sys
import time
from pathlib import Path

CONNECT_AT_ONCE = 30
FIRST_EVENT = b"event: "


class Listeners:
    """Open streams: what was received on all of them together, and of how many the server has closed the connection."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self.events = self.bytes = self.closed = 0

    def open(self, requests: list[str]) -> None:
        """Opens a stream for each request, and returns when each has had its first event. Raises RuntimeError when a request
        is answered otherwise."""
        for start in range(0, len(requests), CONNECT_AT_ONCE):
            waiting = [self._connected(request) for request in requests[start : start + CONNECT_AT_ONCE]]
            for sock in waiting:
                head = b""
                while FIRST_EVENT not in head:
                    received = sock.recv(65536)
                    head += received
                    if not received or not head.startswith(b"HTTP/1.1 200"[: len(head)]):
                        raise RuntimeError("the stream was not opened: " + head.partition(b"\r\n")[0].decode())
                sock.setblocking(False)
                self._sockets[sock.fileno()] = sock
                self._poll.register(sock.fileno(), select.EPOLLIN)

    def read_until(self, end: float) -> None:
        """Reads all streams until `end`, by time.monotonic()."""
        while (left := end - time.monotonic()) > 0:
            for number, _ in self._poll.poll(left):
                received = self._sockets[number].recv(65536)
                self.events += received.count(FIRST_EVENT)
                self.bytes += len(received)
                if not received:
                    self._poll.unregister(number)
                    self.closed += 1

    def _connected(self, request: str) -> socket.socket:
        sock = socket.create_connection(self._address, timeout=30)
        sock.sendall(request.encode())
        return sock


def main() -> None:
    todo = json.loads(Path(sys.argv[1]).read_text())
    listeners = Listeners(todo["host"], todo["port"])
    listeners.open(todo["requests"])
    print("all streams are open", flush=True)
    listeners.read_until(time.monotonic() + todo["seconds"])
    print(json.dumps({"events": listeners.events, "bytes": listeners.bytes, "closed": listeners.closed}), flush=True)


if __name__ == "__main__":
    main()

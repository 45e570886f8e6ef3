"""An HTTP server that gives each request the answer that a test has set, to test clients of other servers over real sockets.

with answering() as server:
    server.status, server.body = 503, b"{}"
    …  # the code calls server.url
    assert server.requests
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Answers(ThreadingHTTPServer):
    """Answers each request with `status`, `headers` and `body`, and keeps the path, the headers, in lower case, and the
    body of each request."""

    daemon_threads = True
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed
    body = b"{}"
    pause_seconds = 0.0  # after each byte of the body
    trickle = b""  # sent instead of an answer: what is before `|` at once, all other bytes one by one
    requests: list[tuple[str, dict[str, str]]]
    bodies: list[bytes]  # of the requests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def answer(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.server.trickle:
            self.trickle()
            return
        self.send_response(self.server.status)
        for name, value in {"Content-Length": str(len(self.server.body)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for byte in self.server.body:
            self.wfile.write(bytes([byte]))
            time.sleep(self.server.pause_seconds)

    def trickle(self) -> None:
        self.close_connection = True
        with suppress(OSError):  # the client has gone
            first, separator, rest = self.server.trickle.rpartition(b"\r\n|")
            self.wfile.write(first + separator[:2])
            for byte in rest:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        """Writes no log."""


@contextmanager
def answering() -> Iterator[Answers]:
    """A running server. Until a test sets something else, each answer is 200 with an empty JSON object."""
    with Answers(("127.0.0.1", 0), _Handler) as server:
        server.requests, server.bodies = [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

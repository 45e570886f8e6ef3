"""What one connection may cost: uvicorn by itself takes a head of any size, and waits for the rest of it for ever."""

import asyncio
from uuid import uuid4

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.cors import HEADERS
from api.problems import problem

MAX_HEAD_BYTES = 64 * 1024  # the request line and all headers
# Between an answer and the next request, longer than clients and proxies keep a connection that they do not use (httpx 5 s,
# nginx and load balancers 60 s): whoever hangs up first must not be us, or a request that is just on its way is lost.
IDLE_SECONDS = 75
TOO_LARGE = f"The request's line and headers together are larger than {MAX_HEAD_BYTES // 1024} KiB."


class Bounded(HttpToolsProtocol):
    """uvicorn's own protocol with limits on the head of a request: how long it takes, and how large it is. Whoever is refused
    here is disconnected, since what they would still send can't be told apart from the next request."""

    head_seconds = 10.0  # from the connection's begin until a head begins, and from there until it is complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head, self._in_body, self._head_bytes = False, False, 0
        self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        of_a_head = not self._in_body
        super().data_received(data)
        if self._in_head and of_a_head:  # and still not at its end
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self.cycle is None or self.cycle.response_complete:  # else it waits for the answer before
            self._wait(self.head_seconds)

    def on_headers_complete(self) -> None:
        self._deadline.cancel()
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._wait(self.head_seconds if self._in_head or self._in_body else IDLE_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """What can't be read as HTTP is told so like everything else."""
        self._refuse(400, "This can't be read as a request.")

    def _wait(self, seconds: float) -> None:
        self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self._in_head:
            self._refuse(408, f"The request's head was not complete within {self.head_seconds:g} seconds.")
        else:
            self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        request_id = uuid4().hex
        body = msgspec.json.encode(problem(status, detail, request_id=request_id))
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
            *HEADERS,
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)
        self.transport.close()

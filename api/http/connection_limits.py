"""Limits per HTTP connection: head size, head timeout and idle timeout. uvicorn has none of them: it accepts a head (request
line and headers) of any size, and waits for its rest indefinitely.
"""

import asyncio
from uuid import uuid4

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.http.limits.framing import FramedProtocol
from api.http.problems import problem
from api.http.security import refusal_headers

MAX_HEAD_BYTES = 64 * 1024  # the request line and all headers
# The longest time between a response and the next request. It is longer than the idle timeout of clients and proxies (httpx2
# 5 s, nginx and load balancers 60 s), so that they close an idle connection first: if the server did, it could lose a request
# that is on its way.
IDLE_SECONDS = 75
# Bytes around one byte of a chunked body, at most: a client may send a chunk for each.
MAX_FRAMING = 8
TOO_MUCH_FRAMING = "The trailers, or the extensions of the chunks, are larger than Stint reads."
TOO_LARGE = f"The request line and the headers together are larger than {MAX_HEAD_BYTES // 1024} KiB."


class LimitedProtocol(FramedProtocol):
    """uvicorn's protocol with limits on the size and the time of a request's head. A connection that exceeds one is closed,
    because the rest of the refused request could not be distinguished from the next request."""

    refusal_headers = refusal_headers("")
    head_seconds = 10.0  # from the connection's start until a head starts, and from there until the head is complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head, self._in_body, self._head_bytes = False, False, 0
        self._body_bytes, self._framing_bytes = 0, 0
        self._unanswered: list[RequestResponseCycle] = []
        self._deadline = self.loop.call_later(self.head_seconds, self._time_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        for cycle in self._unanswered:  # uvicorn tells only the last request that its client is gone, not one before it
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        of_a_head, message = not self._in_body, self.cycle
        super().data_received(data)
        if self._in_head and of_a_head:  # the head is still incomplete
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, TOO_LARGE)
        elif self._in_body and self.cycle is message:  # the body is still incomplete
            self._framing_bytes += len(data)
            if self._framing_bytes > MAX_HEAD_BYTES + MAX_FRAMING * self._body_bytes:
                if self.cycle.response_started:
                    self.transport.close()
                else:
                    self._refuse(400, TOO_MUCH_FRAMING)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self.cycle is None or self.cycle.response_complete:  # else the previous response is not complete yet
            self._set_deadline(self.head_seconds)

    def on_headers_complete(self) -> None:
        self._deadline.cancel()
        self._in_head, self._in_body = False, True
        self._body_bytes, self._framing_bytes = 0, 0
        super().on_headers_complete()
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete] + [self.cycle]

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._framing_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._set_deadline(self.head_seconds if self._in_head or self._in_body else IDLE_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Answers invalid HTTP with a problem document, like all errors."""
        self._refuse(400, self.invalid)

    def _set_deadline(self, seconds: float) -> None:
        self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        if self._in_head:
            self._refuse(408, f"The request line and the headers were not complete within {self.head_seconds:g} seconds.")
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
            *self.refusal_headers,
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)
        self.transport.close()

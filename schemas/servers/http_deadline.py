"""Requests by urllib3 with a deadline for the whole of each: connection, TLS, headers and body. Only the resolution of a name
cannot be interrupted; no request is sent when that took too long."""

import io
import socket
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import urllib3

from schemas import tracing


class _Deadline:
    """The end of one request. Its socket is shut down then, whatever the thread of the request waits for: a socket's timeout
    alone starts again with each byte, and http.client reads all headers in one call."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._timer: threading.Timer | None = None

    @property
    def has_passed(self) -> bool:
        return time.monotonic() > self._at

    def watch(self, connected: socket.socket) -> None:
        """Shuts the connection down at the deadline. A second descriptor of it is kept, since TLS takes the first one over."""
        self._sockets.append(connected.dup())
        if self._timer is None:
            self._timer = threading.Timer(self._at - time.monotonic(), self._shut_down)
            self._timer.start()

    def _shut_down(self) -> None:
        for watched in self._sockets:
            with suppress(OSError):  # the server has closed it
                watched.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        for watched in self._sockets:
            watched.close()


class _WatchedConnection(urllib3.connection.HTTPConnection):
    """A connection that ends at the deadline, also while TLS is negotiated. It sends nothing after the deadline."""

    deadline: _Deadline

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        if self.deadline.has_passed:
            connected.close()
            raise urllib3.exceptions.NewConnectionError(self, "connecting took too long")
        self.deadline.watch(connected)
        return connected


class _WatchedTlsConnection(_WatchedConnection, urllib3.connection.HTTPSConnection):
    """The same with TLS."""


class DeadlinePoolManager(urllib3.PoolManager):
    """Limits the duration of a whole request. No retries, no redirects."""

    def __init__(self, seconds: float) -> None:
        super().__init__(retries=False)
        self._seconds = seconds

    def _new_pool(self, scheme: str, *args: Any, **options: Any) -> urllib3.HTTPConnectionPool:
        pool = super()._new_pool(scheme, *args, **options)
        base = _WatchedTlsConnection if scheme == "https" else _WatchedConnection
        pool.ConnectionCls = type(base.__name__, (base,), {"deadline": self._deadline})
        return pool

    def request(self, method: str, url: str, *args: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        attributes = {"http.request.method": method, "server.address": urlsplit(url).hostname or ""}
        with tracing.span(f"{method} {attributes['server.address']}", "client", attributes=attributes) as span:
            answer = self._request(method, url, *args, **options)
            if span is not None:
                span.set_attribute("http.response.status_code", answer.status)
                if answer.status >= 400:
                    tracing.fail(span, str(answer.status))
            return answer

    def _request(self, method: str, url: str, *args: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        self._deadline = _Deadline(self._seconds)
        try:
            response = super().request(method, url, *args, **options | {"preload_content": False, "redirect": False})
            body = io.BytesIO()
            while chunk := response.read1():
                body.write(chunk)
            if self._deadline.has_passed:  # a shut down connection looks like the end of the headers, or of the body
                raise urllib3.exceptions.TimeoutError
        finally:
            self._deadline.close()
        return urllib3.HTTPResponse(io.BytesIO(body.getvalue()), response.headers, response.status, reason=response.reason)

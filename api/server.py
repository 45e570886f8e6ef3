"""The HTTP server: uvicorn on uvloop and httptools, set up in one place, so that what is compared runs alike."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from api.connections import IDLE_SECONDS, Bounded

# where in an ASGI scope's `extensions` the Line is found
LINE = "stint.line"


class Line:
    """The connection that a request came by, for an answer that stays open: ASGI cannot hang up on a client that does not read,
    and does not say that the server is stopping."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._stopping = False
        self._on_stop: Callable[[], None] | None = None

    def keep_at_most(self, size: int) -> None:
        """Of what the client has not read yet, the kernel keeps about that many bytes."""
        with contextlib.suppress(OSError):  # it has hung up
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def when_stopping(self, call: Callable[[], None]) -> None:
        """Calls that once the server stops, at once if it does already."""
        self._on_stop = call
        if self._stopping:
            call()

    def stop(self) -> None:
        self._stopping = True
        if self._on_stop is not None:
            self._on_stop()


class Protocol(Bounded):
    """With a Line in each scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._line = Line(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {LINE: self._line}  # type: ignore[dict-item]

    def shutdown(self) -> None:
        super().shutdown()
        self._line.stop()


def serve(app: Any, *, host: str, port: int, trusted_proxies: str = "", head_seconds: float = 10) -> None:
    """Serves an ASGI application until SIGTERM. The access log is ours: one JSON line a request. Whom a request comes from is
    taken from X-Forwarded-For only where a trusted proxy wrote it. Who has sent no complete head of a request after
    `head_seconds` is disconnected."""
    _allow_many_connections()
    Bounded.head_seconds = head_seconds
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=Protocol,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=8,
    )


def _allow_many_connections() -> None:
    # many systems let a process open 1,024 files unless it asks for more, and every listener to live events is one
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

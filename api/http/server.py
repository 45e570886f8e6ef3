"""The HTTP server: uvicorn on uvloop and httptools. The API and the benchmark's baseline share these settings."""

import asyncio
import contextlib
import ipaddress
import resource
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from api.http.connection_limits import IDLE_SECONDS, LimitedProtocol
from api.http.security import refusal_headers

# the key of the ClientConnection in an ASGI scope's `extensions`
CONNECTION = "stint.connection"


class ClientConnection:
    """A request's connection, for a response that stays open. ASGI itself has no way to close the connection of a client that
    does not read, nor to learn that the server is stopping."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._stopping = False
        self._on_stop: Callable[[], None] | None = None

    def limit_send_buffer(self, size: int) -> None:
        """Limits the bytes that the kernel buffers for a client that does not read to about `size`."""
        with contextlib.suppress(OSError, ValueError):  # the client has disconnected; uvloop then has no socket any more
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def on_server_stop(self, callback: Callable[[], None]) -> None:
        """Calls `callback` when the server stops; immediately if it is already stopping."""
        self._on_stop = callback
        if self._stopping:
            callback()

    def stop(self) -> None:
        self._stopping = True
        if self._on_stop is not None:
            self._on_stop()


class ServerProtocol(LimitedProtocol):
    """Adds a ClientConnection to each request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection = ClientConnection(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self._connection}  # type: ignore[dict-item]

    def shutdown(self) -> None:
        super().shutdown()
        self._connection.stop()


def serve(app: Any, *, host: str, port: int, trusted_proxies: str = "", head_seconds: float = 10, public_url: str = "") -> None:
    """Serves an ASGI application until SIGTERM. uvicorn's access log is off; `with_request_log` writes one JSON line per
    request. The client's address is taken from X-Forwarded-For only if a trusted proxy sent it. A client that has not sent a
    complete request head after `head_seconds` is disconnected."""
    _allow_many_connections()
    LimitedProtocol.head_seconds = head_seconds
    LimitedProtocol.refusal_headers = refusal_headers(public_url)
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=ServerProtocol,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=_with_mapped(trusted_proxies),
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=8,
    )


def _allow_many_connections() -> None:
    # the default limit on open files is often 1,024, and each stream of live events needs one
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _with_mapped(trusted_proxies: str) -> str:
    """The list with each IPv4 address and network also as a socket for both versions has it (`::ffff:192.0.2.1`)."""
    entries = [entry.strip() for entry in trusted_proxies.split(",")]
    mapped = []
    for entry in entries:
        with contextlib.suppress(ValueError):  # a name, an IPv6 network, or *
            network = ipaddress.IPv4Network(entry)
            mapped.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return ",".join(entries + mapped)

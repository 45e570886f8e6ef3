"""The HTTP server: uvicorn on uvloop and httptools. The API and the benchmark's baseline share these settings."""

import asyncio
import contextlib
import fcntl
import ipaddress
import resource
import socket
import struct
import sys
import termios
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.server import ServerState

from api.http.connection_limits import IDLE_SECONDS, LimitedProtocol
from api.http.security import refusal_headers
from schemas.starting import BACKLOG, report_ready

LAST_DATA_RECV = 52  # where Linux's struct tcp_info has tcpi_last_data_recv, in milliseconds
# how long a process that stops waits for the first request of a new connection
FIRST_REQUEST_SECONDS = 3.0
# How long it waits for a further request of a connection that is idle. A client may send one just when the process stops: it is
# answered, with the connection's end. A client that is told in this way sends its next request to another process.
NEXT_REQUEST_SECONDS = 1.0

# the key of the ClientConnection in an ASGI scope's `extensions`
CONNECTION = "stint.connection"


class ClientConnection:
    """A request's connection, for a response that stays open. ASGI itself has no way to close the connection of a client that
    does not read, nor to learn that the server is stopping."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._stopping = False
        self._on_stop: Callable[[], None] | None = None

    def data_age(self) -> float:
        """How many seconds ago the kernel received the latest data of the connection. 0 if the kernel does not tell.

        For a request that was sent at once, this is how long it has waited in the queue of connections and for the event loop.
        """
        try:
            sock = self.transport.get_extra_info("socket")
            (milliseconds,) = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), LAST_DATA_RECV)
        except (OSError, ValueError, AttributeError, struct.error):  # no TCP, not Linux, or the client has disconnected
            return 0.0
        return float(milliseconds) / 1000

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
    """Adds a ClientConnection to each request's scope.

    When the server stops, it still answers requests that have arrived, and those that arrive within a second on an idle
    connection. uvicorn's own protocol would close both connections.
    """

    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.connection = ClientConnection(transport)
        if isinstance(self.server_state, StoppableState) and self.server_state.stopping:
            self.shutdown()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self.connection}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._stopping:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        self._stopping = True
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        elif not self._in_head:
            is_new = self.cycle is None or _has_unread_data(self.transport)
            self._set_deadline(FIRST_REQUEST_SECONDS if is_new else NEXT_REQUEST_SECONDS)
        self.connection.stop()

    def _time_out(self) -> None:
        """A process that had no CPU for a while reads late what has arrived in time."""
        if not self._in_head and not self._in_body and _has_unread_data(self.transport):
            self._set_deadline(FIRST_REQUEST_SECONDS)
        else:
            super()._time_out()


def _has_unread_data(transport: asyncio.Transport) -> bool:
    """Whether the kernel has received data of the connection that this process has not read."""
    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
    except (OSError, ValueError):  # the client has disconnected
        return False
    return bool(struct.unpack("i", answer)[0])


class StoppableState(ServerState):
    """What the connections of one server share; they also learn that it is stopping."""

    stopping = False


class Server(uvicorn.Server):
    """uvicorn's server, which reports that it accepts connections, and tells late connections that it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state: StoppableState = StoppableState()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            report_ready()

    async def main_loop(self) -> None:
        """Runs until a signal ends the server. uvicorn's own looks for that ten times a second; once is enough for the header
        `Date`."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._ends.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ends.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.server_state.stopping = True
        await super().shutdown(sockets)


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    inherited: socket.socket | None = None,
    trusted_proxies: str = "",
    head_seconds: float = 10,
    public_url: str = "",
) -> None:
    """Serves an ASGI application until SIGTERM, on the socket `inherited`; without one, on a socket of its own.

    - `with_request_log` writes one JSON line for each request. uvicorn's access log is off.
    - The client's address is that of X-Forwarded-For only if a trusted proxy has sent this header.
    - A client that has not sent the head of its request within `head_seconds` is disconnected.
    """
    _allow_many_connections()
    LimitedProtocol.head_seconds = head_seconds
    LimitedProtocol.refusal_headers = refusal_headers(public_url)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        backlog=BACKLOG,
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
    server = Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run([inherited] if inherited is not None else None)
    if not server.started:
        sys.exit(STARTUP_FAILURE)


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

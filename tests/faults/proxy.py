"""A TCP proxy between Stint and one of its servers, with the faults that real networks have.

    with Proxy("127.0.0.1:5672") as proxy:           # or the path of a Unix socket, such as Postgres's
        url = through(proxy, "amqp://stint@127.0.0.1:5672/")
        proxy.blackhole()
        proxy.heal()

Every method is called from any thread, takes effect before it returns, and can follow any other.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

from tests.support.installation import free_port

Towards = Literal["client", "server"]
_CHUNK = 65_536


class Proxy:
    """Forwards to one target, in a thread of its own, until `stop`."""

    def __init__(self, target: str, *, host: str = "127.0.0.1") -> None:
        """`target` is host:port, or the path of a Unix socket. `host` is where it listens."""
        self.target, self.host = target, host
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy to {target}", daemon=True)
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[_Connection] = set()
        self._delay = 0.0
        self._is_black_hole = False
        self._cut_after: int | None = None

    def start(self) -> "Proxy":
        self._thread.start()
        self._do(self._listen)
        return self

    def stop(self) -> None:
        """Closes all connections and ends the thread."""
        self.refuse()
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> "Proxy":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def connections(self) -> int:
        """How many are open, dead ones included."""
        return len(self._connections)

    def cut(self) -> None:
        """Resets every connection there is, once; new ones are let through."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Resets every connection, and refuses new ones until it is healed."""
        self._do(self._refuse)

    def delay(self, seconds: float) -> None:
        """Holds each chunk back for that long, both ways."""
        self._do(lambda: setattr(self, "_delay", seconds))

    def blackhole(self) -> None:
        """Swallows everything both ways and closes nothing, as a firewall does that forgot its connections. New ones are
        accepted, and silent. What one end closes stays open at the other end."""
        self._do(self._blackhole)

    def half_close(self, towards: Towards = "client") -> None:
        """Closes one direction of every open connection; the other direction is still forwarded."""

        def half_close_all() -> None:
            for connection in list(self._connections):
                connection.half_close(towards)

        self._do(half_close_all)

    def cut_after(self, count: int) -> None:
        """Resets each connection, old or new, once the server has sent that many further bytes over it: they arrive, and no
        more."""
        self._do(lambda: self._tear(count))

    def heal(self) -> None:
        """All is well for new connections, and for those that were only slow. One that was black-holed has lost bytes and
        stays silent permanently, which is the worst that can happen to it: its owner has to find out. Where one end has given
        it up, the other end is told now. `cut` ends those that are left."""
        self._do(self._heal)

    def _do(self, change: Callable[[], object]) -> None:
        async def there() -> None:
            change()

        asyncio.run_coroutine_threadsafe(there(), self._loop).result(10)

    def _listen(self) -> None:
        # not by asyncio's server: when that is closed, a client that it was just accepting waits indefinitely
        self._listening = socket.create_server((self.host, self.port))
        self._listening.setblocking(False)
        self._loop.add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            task = self._loop.create_task(self._serve(listening.accept()[0], listening))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _heal(self) -> None:
        self._delay, self._is_black_hole, self._cut_after = 0.0, False, None
        for connection in list(self._connections):
            connection.heal()
        if self._listening is None:
            self._listen()

    async def _finish(self) -> None:
        while self._tasks:
            self._cut()
            await asyncio.sleep(0.001)

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.cut()

    def _refuse(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        self._cut()

    def _blackhole(self) -> None:
        self._is_black_hole = True
        for connection in self._connections:
            connection.is_dead = True

    def _tear(self, count: int) -> None:
        self._cut_after = count
        for connection in self._connections:
            connection.left = count

    async def _serve(self, client: socket.socket, listening: socket.socket) -> None:
        connection = _Connection(self, *await asyncio.open_connection(sock=client, limit=_CHUNK))
        connection.is_dead, connection.left = self._is_black_hole, self._cut_after
        self._connections.add(connection)
        try:
            if listening is self._listening:
                await connection.serve()
        except OSError:  # an end was reset, or the target is not there
            pass
        finally:
            self._connections.discard(connection)
            connection.cut()

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the target. Raises OSError."""
        if self.target.startswith("/"):
            return await asyncio.open_unix_connection(self.target, limit=_CHUNK)
        host, _, port = self.target.rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=_CHUNK)

    async def hold(self) -> None:
        """Waits as long as a chunk is held back."""
        if self._delay:
            await asyncio.sleep(self._delay)


class _Connection:
    """One client, and its connection to the target."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writers = reader, {"client": writer}
        self._silenced: set[str] = set()  # ends that were told that the other says no more
        self._healed = asyncio.Event()
        self.is_dead = False
        self.left: int | None = None  # bytes from the server, until it is cut

    async def serve(self) -> None:
        """Forwards until both ends have said all, or one is reset."""
        if self.is_dead:
            await self._swallow(self._reader)
            return
        reader, self._writers["server"] = await self._proxy.dial()
        for writer in self._writers.values():
            writer.transport.set_write_buffer_limits(0)  # so that drain waits until all is written
        async with asyncio.TaskGroup() as both:
            both.create_task(self._forward(self._reader, "server"))
            both.create_task(self._forward(reader, "client"))

    async def _forward(self, reader: asyncio.StreamReader, towards: Towards) -> None:
        writer = self._writers[towards]
        try:
            while chunk := await reader.read(_CHUNK):
                await self._proxy.hold()
                if self.is_dead or towards in self._silenced:
                    continue
                if towards == "client" and self.left is not None:
                    chunk = chunk[: self.left]
                    self.left -= len(chunk)
                writer.write(chunk)
                await writer.drain()
                if towards == "client" and self.left == 0:
                    self.cut()
        except OSError:
            if not self.is_dead:
                self.cut()
        if self.is_dead:
            await self._healed.wait()  # until then the other end is not told
            self.cut()
        self.half_close(towards)

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(_CHUNK):
            pass

    def half_close(self, towards: Towards) -> None:
        writer = self._writers.get(towards)
        if writer is None or towards in self._silenced:
            return
        self._silenced.add(towards)
        with contextlib.suppress(OSError):
            writer.write_eof()

    def heal(self) -> None:
        self.left = None
        self._healed.set()

    def cut(self) -> None:
        """Resets both ends: what is on its way is lost, and each end gets an error rather than a proper end."""
        self._healed.set()
        for writer in self._writers.values():
            if not writer.transport.is_closing():
                sock = writer.get_extra_info("socket")
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()


def target_of(url: str) -> str:
    """What a proxy in front of that URL's server forwards to."""
    parts = urlsplit(url)
    directory = parse_qs(parts.query).get("host")  # psycopg's way to name the directory of a Unix socket
    if directory:
        return f"{directory[0]}/.s.PGSQL.5432"
    default = {"amqp": 5672, "postgresql": 5432, "http": 80, "smtp": 25}
    return f"{parts.hostname}:{parts.port or default[parts.scheme]}"


def through(proxy: Proxy, url: str) -> str:
    """The same URL, by way of the proxy."""
    parts = urlsplit(url)
    account, at, _ = parts.netloc.rpartition("@")
    # a Unix socket knows no TLS, and asking for it costs a round trip each time
    query = "sslmode=disable&gssencmode=disable" if parts.scheme == "postgresql" else parts.query
    return urlunsplit(parts._replace(netloc=f"{account}{at}127.0.0.1:{proxy.port}", query=query))


@contextmanager
def wired(environment: dict[str, str], *names: str) -> Iterator[dict[str, Proxy]]:
    """A proxy in front of each server that the environment names in these variables, which then lead through it:

    with wired(stint.environment, "DATABASE_URL", "AMQP_URL") as wires: …; wires["AMQP_URL"].cut()
    """
    with contextlib.ExitStack() as stack:
        wires = {name: stack.enter_context(Proxy(target_of(environment[name]))) for name in names}
        environment |= {name: through(proxy, environment[name]) for name, proxy in wires.items()}
        yield wires

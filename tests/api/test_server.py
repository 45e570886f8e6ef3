"""The HTTP server: when it stops, it answers what has arrived; how long a request has waited; what it costs while idle."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn

from api.http.bench_baseline import app
from api.http.server import Server, ServerProtocol
from ops.up.processes import until
from schemas.starting import listening_socket
from tests.support.installation import Installation, eventually

REQUEST = b"GET / HTTP/1.1\r\nHost: stint\r\n\r\n"
WAIT_SECONDS = 0.2
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Serving:
    """A running server in the test's own process, and its clients."""

    def __init__(self, server: Server, listening: socket.socket) -> None:
        self.server = server
        self._address = listening.getsockname()
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def protocols(self) -> list[ServerProtocol]:
        return cast("list[ServerProtocol]", list(self.server.server_state.connections))

    async def connect(self) -> Streams:
        """A connection that the server has accepted."""
        before = len(self.protocols)
        streams = await asyncio.open_connection(*self._address)
        self._writers.append(streams[1])
        await until(lambda: len(self.protocols) > before)
        return streams

    def close(self) -> None:
        for writer in self._writers:
            writer.close()

    async def ask(self, streams: Streams) -> bytes:
        streams[1].write(REQUEST)
        return await head(streams)


async def head(streams: Streams) -> bytes:
    """The head of the next answer; its body is read, too."""
    answer = await streams[0].readuntil(b"\r\n\r\n")
    length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await streams[0].readexactly(length)
    return answer


@asynccontextmanager
async def serving() -> AsyncIterator[Serving]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(uvicorn.Config(app, http=ServerProtocol, log_config=None, timeout_graceful_shutdown=8))
        task = asyncio.create_task(server.serve([listening]))
        try:
            await until(lambda: server.started)
            yield (stint := Serving(server, listening))
            stint.close()
        finally:
            server.should_exit = True
            await task


def run(test: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(limited())


def test_the_first_request_of_a_connection_that_was_just_accepted_is_answered() -> None:
    async def test() -> None:
        async with serving() as stint:
            client = await stint.connect()
            stint.server.should_exit = True
            await until(lambda: stint.server.server_state.stopping)
            answer = await stint.ask(client)
            assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer.lower()
            assert await client[0].read() == b""

    run(test())


def test_a_request_that_is_sent_when_the_server_stops_is_answered_and_an_idle_connection_is_closed() -> None:
    async def test() -> None:
        async with serving() as stint:
            idle, waiting, next_one = [await stint.connect() for _ in range(3)]
            for client in (idle, waiting, next_one):
                assert (await stint.ask(client)).startswith(b"HTTP/1.1 200")
            waiting[1].write(REQUEST)  # the server reads it only after the next await
            for protocol in stint.protocols:
                protocol.shutdown()
            assert b"connection: close" in (await head(waiting)).lower()
            await asyncio.sleep(0.1)  # the server has read what it had received
            assert b"connection: close" in (await stint.ask(next_one)).lower()
            assert await next_one[0].read() == b""
            assert await idle[0].read() == b""

    run(test())


def test_a_request_that_arrives_before_the_time_of_its_connection_is_over_is_answered_although_it_is_read_later() -> None:
    async def test() -> None:
        async with serving() as stint:
            late, idle = await stint.connect(), await stint.connect()
            for client in (late, idle):
                assert (await stint.ask(client)).startswith(b"HTTP/1.1 200")
            late[1].write(REQUEST)  # the server reads it only after the next await
            for protocol in stint.protocols:
                protocol._time_out()
            assert (await head(late)).startswith(b"HTTP/1.1 200")
            assert await idle[0].read() == b""

    run(test())


def test_a_connection_that_is_accepted_after_the_stop_began_is_not_kept() -> None:
    async def test() -> None:
        async with serving() as stint:
            stint.server.server_state.stopping = True
            answer = await stint.ask(await stint.connect())
            assert b"connection: close" in answer.lower()

    run(test())


def test_only_a_listening_socket_is_taken_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as other, (tmp_path / "file").open("w") as file:
        taken = listening_socket(listening.fileno())
        assert taken.getsockname() == listening.getsockname()
        taken.detach()
        with pytest.raises(ValueError, match="does not listen"):
            listening_socket(other.fileno())
        with pytest.raises(ValueError, match="is no socket"):
            listening_socket(file.fileno())


def test_the_time_that_a_request_has_waited_in_the_kernel_is_known() -> None:
    """On a new connection and on one that is kept: from the arrival of the data until the process looks."""

    async def test() -> None:
        async with serving() as stint:
            client = await stint.connect()
            for _ in range(2):
                client[1].write(REQUEST)
                time.sleep(WAIT_SECONDS)  # noqa: ASYNC251 - the event loop is as busy as one that computes
                [protocol] = stint.protocols
                assert protocol.connection.data_age() >= WAIT_SECONDS - 0.05
                await head(client)

    run(test())


def test_an_idle_process_wakes_up_a_few_times_a_second(stint: Installation) -> None:
    main_thread = Path(f"/proc/{stint.processes['api'].pid}/task/{stint.processes['api'].pid}/status")

    def in_a_second() -> int:
        counts = []
        for pause in (1, 0):
            [count] = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", main_thread.read_text(), re.MULTILINE)
            counts.append(int(count))
            time.sleep(pause)
        return counts[1] - counts[0]

    eventually(lambda: in_a_second() < 12, why="other work of the process is over soon")

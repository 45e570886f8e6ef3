"""How the socket of a connection is closed. In order: what was sent before reaches Postgres. By a reset: what the kernel has
not sent yet is discarded, so that nothing is executed late that was given up during an interruption of the network."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from schemas.postgres.connection import Connection
from tests.faults.proxy import target_of
from tests.support.installation import Installation

IN_ORDER, RESET = "in order", "reset"


class Recorder:
    """Forwards one connection to Postgres, and notes how the client closes it."""

    def __init__(self, database_url: str) -> None:
        self._target = target_of(database_url)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()
        self._closed: str | None = None
        name = psycopg.conninfo.conninfo_to_dict(database_url)
        self.url = psycopg.conninfo.make_conninfo(
            user=str(name["user"]),
            dbname=str(name["dbname"]),
            password=str(name.get("password", "")),
            host="127.0.0.1",
            port=self._listening.getsockname()[1],
            sslmode="disable",
            gssencmode="disable",
        )

    def closed(self) -> str | None:
        self._thread.join(20)
        return self._closed

    def stop(self) -> None:
        self._listening.close()

    def _forward(self) -> None:
        client, _ = self._listening.accept()
        with client, self._connect() as server:
            threading.Thread(target=_answer, args=(server, client), daemon=True).start()
            try:
                _copy(client, server)
                self._closed = IN_ORDER
            except ConnectionResetError:
                self._closed = RESET

    def _connect(self) -> socket.socket:
        if self._target.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            return server
        host, _, port = self._target.rpartition(":")
        return socket.create_connection((host, int(port)))


def _copy(source: socket.socket, sink: socket.socket) -> None:
    while chunk := source.recv(65_536):
        sink.sendall(chunk)


def _answer(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):  # the client has closed its end
        _copy(server, client)


@pytest.fixture
def recorder(stint: Installation) -> Iterator[Recorder]:
    made = Recorder(stint.database_url)
    yield made
    made.stop()


async def close_when_idle(conn: Connection) -> None:
    await conn.close()


async def close_after_a_failure(conn: Connection) -> None:
    await conn.execute("BEGIN")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await conn.execute("SELECT 1 / 0")
    await conn.close()


async def close_during_a_statement(conn: Connection) -> None:
    waiting = asyncio.create_task(conn.execute("SELECT pg_sleep(2)"))
    await asyncio.sleep(0.2)
    await conn.close()
    waiting.cancel()
    with suppress(psycopg.Error, asyncio.CancelledError):
        await waiting


async def abort_a_statement(conn: Connection) -> None:
    waiting = asyncio.create_task(conn.execute("SELECT pg_sleep(2)"))
    await asyncio.sleep(0.2)
    conn.abort()
    with pytest.raises(psycopg.OperationalError):
        await waiting
    await conn.close()


@pytest.mark.parametrize(
    "end, expected",
    [
        (close_when_idle, IN_ORDER),
        (close_after_a_failure, IN_ORDER),
        (close_during_a_statement, RESET),
        (abort_a_statement, RESET),
    ],
)
def test_what_waits_for_an_answer_is_reset(
    recorder: Recorder, end: Callable[[Connection], Coroutine[Any, Any, None]], expected: str
) -> None:
    async def connect_and_end() -> None:
        await end(await Connection.connect(recorder.url, autocommit=True))

    asyncio.run(connect_and_end())
    assert recorder.closed() == expected


PROCESS = """
import asyncio, sys
from schemas.postgres.connection import Connection

async def main():
    conn = await Connection.connect(sys.argv[1], autocommit=True)
    print("connected", flush=True)
    await conn.execute("SELECT pg_sleep(60)")

asyncio.run(main())
"""


def test_the_connection_of_a_killed_process_is_reset(recorder: Recorder) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROCESS, recorder.url], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        process.send_signal(signal.SIGKILL)
    assert recorder.closed() == RESET

"""Errors of connections reach people as words, with one address and without types of Python."""

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from pika.adapters.utils.connection_workflow import AMQPConnectorSocketConnectError, AMQPConnectorStackTimeout
from pika.exceptions import AMQPConnectionError, StreamLostError

from schemas.diagnosis import mail, rabbitmq
from schemas.diagnosis.report import api
from schemas.rabbitmq.problems import lost
from schemas.servers.error_words import IN_TIME, address, in_words

CLOSED = "the connection was closed"
RECORD = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 5672))  # as pika shows an address


@contextmanager
def closing() -> Iterator[int]:
    """A port whose connections are closed at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    server.accept()[0].close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            with suppress(OSError):
                socket.create_connection(server.getsockname(), 1).close()
            thread.join(5)


@pytest.mark.unit
def test_each_error_has_words_without_types_and_addresses() -> None:
    assert in_words(ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 1)")) == "Connection refused"
    several = "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 101] Connect call failed ('10.0.0.1', 1)"
    assert in_words(OSError(several)) == "Connection refused"
    assert in_words(socket.gaierror(socket.EAI_NONAME, "Name or service not known")) == "no machine has this name"
    assert in_words(TimeoutError()) == in_words(TimeoutError("10.0.0.1/(<AddressFamily.AF_INET")) == "no answer in time"
    assert in_words(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")).startswith("TLS fails: ")
    assert in_words(ConnectionError("anything")) == CLOSED and in_words(KeyError("x")) == "KeyError"
    outer, inner = RuntimeError("of a library"), ConnectionResetError(104, "x")
    outer.__cause__ = inner
    inner.__cause__ = outer
    assert in_words(outer) == "Connection reset by peer"
    assert [address("::1", 1), address("a", 2), address(None, 3)] == ["[::1]:1", "a:2", "localhost:3"]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            AMQPConnectionError(AMQPConnectorSocketConnectError(TimeoutError(f"timed out: '10.0.0.1'/{RECORD}"))),
            "no answer in time",
        ),
        (AMQPConnectorStackTimeout(f"Timeout during AMQP handshake'10.0.0.1'/{RECORD}; ssl=False"), IN_TIME),
        (
            StreamLostError("Stream connection lost: ConnectionResetError(104, 'reset')"),
            "the connection was closed",
        ),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_what_pika_says_has_no_tuple_of_a_socket(error: Exception, words: str) -> None:
    assert str(lost(error)) == words


LOOKS: dict[str, Callable[[int], str]] = {
    "rabbitmq": lambda port: asyncio.run(rabbitmq.probe(f"amqp://u:p@127.0.0.1:{port}/")),
    "mail": lambda port: asyncio.run(mail.probe(f"smtp://127.0.0.1:{port}")),
    "api": lambda port: asyncio.run(api.probe(f"http://u:p@127.0.0.1:{port}")),
}


@pytest.mark.parametrize("name", LOOKS)
def test_an_address_is_named_once(name: str) -> None:
    assert LOOKS[name](1) == "does not answer: Connection refused at 127.0.0.1:1"
    with closing() as port:
        state = LOOKS[name](port)
    assert state.count("127.0.0.1") <= 1 and not re.search(r"Errno|Error|[<>()'\"]", state), state

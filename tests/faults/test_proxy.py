"""The proxy does to connections what its methods say, no more and no less."""

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy, target_of, through, wired
from tests.support.installation import eventually

pytestmark = pytest.mark.processes

RESET = (ConnectionResetError, BrokenPipeError)


class Echo:
    """An echo server that records which clients have disconnected."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.ended = self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            try:
                while heard := client.recv(4096):
                    client.sendall(heard)
            except OSError:
                pass
        self.ended += 1


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening
        with contextlib.suppress(OSError):  # a test closed it
            listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def echo(listening: socket.socket) -> Echo:
    return Echo(listening)


@pytest.fixture
def proxy(echo: Echo, listening: socket.socket) -> Iterator[Proxy]:
    with Proxy(f"127.0.0.1:{listening.getsockname()[1]}") as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with dial(proxy) as client:
        assert said(client, b"hello") == b"hello"
        yield client


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 5)


def said(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return heard(client, len(words))


def heard(client: socket.socket, length: int) -> bytes:
    """That many bytes, or fewer when the connection ends properly before."""
    whole = b""
    while len(whole) < length and (chunk := client.recv(length - len(whole))):
        whole += chunk
    return whole


def is_silent(client: socket.socket, words: bytes = b"anybody?") -> bool:
    client.settimeout(0.2)
    client.sendall(words)
    try:
        return client.recv(1) is None
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)


def test_bytes_pass_in_both_directions_and_so_does_an_end(client: socket.socket, proxy: Proxy, echo: Echo) -> None:
    with dial(proxy) as other:
        assert said(other, b"x" * 1_000_000) == b"x" * 1_000_000
        assert proxy.connections == 2
        other.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
    eventually(lambda: (proxy.connections, echo.ended) == (1, 1))
    assert said(client, b"still here") == b"still here"


def test_a_unix_socket_is_a_target_too(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        Echo(listening)
        with Proxy(path) as proxy, dial(proxy) as client:
            assert said(client, b"hello") == b"hello"
            proxy.cut()
            with pytest.raises(RESET):
                client.recv(1)
        listening.shutdown(socket.SHUT_RDWR)


def test_a_target_that_is_not_there_resets(proxy: Proxy, listening: socket.socket) -> None:
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    with pytest.raises(RESET), dial(proxy) as client:
        said(client, b"hello")
        raise AssertionError("an end, where a reset was expected")


def test_cut_resets_what_is_there_once(client: socket.socket, proxy: Proxy, echo: Echo) -> None:
    proxy.cut()
    with pytest.raises(RESET):
        client.recv(1)
    eventually(lambda: echo.ended == 1)
    with dial(proxy) as again:
        assert said(again, b"hello") == b"hello"


def test_refuse_lasts_until_it_is_healed(client: socket.socket, proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(RESET):
        client.recv(1)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            dial(proxy)
    proxy.heal()
    with dial(proxy) as again:
        assert said(again, b"hello") == b"hello"


def test_delay_holds_back_both_ways(client: socket.socket, proxy: Proxy) -> None:
    proxy.delay(0.2)
    started_at = time.monotonic()
    assert said(client, b"slow") == b"slow"
    assert time.monotonic() - started_at >= 0.4
    proxy.heal()
    assert said(client, b"fast") == b"fast"


def test_a_black_hole_swallows_all_and_closes_nothing(client: socket.socket, proxy: Proxy, echo: Echo) -> None:
    proxy.blackhole()
    assert is_silent(client)
    with dial(proxy) as other:
        assert is_silent(other)
        assert echo.accepted == 1
        proxy.heal()
        assert is_silent(client) and is_silent(other)
    with dial(proxy) as again:
        assert said(again, b"hello") == b"hello"
    proxy.cut()
    with pytest.raises(RESET):
        client.recv(1)


def test_an_end_that_a_black_hole_swallowed_is_told_when_it_is_healed(client: socket.socket, proxy: Proxy, echo: Echo) -> None:
    proxy.blackhole()
    client.close()
    time.sleep(0.2)
    assert (echo.ended, proxy.connections) == (0, 1)
    proxy.heal()
    eventually(lambda: (echo.ended, proxy.connections) == (1, 0))


def test_half_closed_towards_the_client_it_hears_an_end_and_may_go_on(proxy: Proxy, echo: Echo) -> None:
    with dial(proxy) as client:
        assert said(client, b"hello") == b"hello"
        proxy.half_close("client")
        assert client.recv(1) == b""
        client.sendall(b"I go on")
        time.sleep(0.1)
        assert (echo.ended, proxy.connections) == (0, 1)
    eventually(lambda: (echo.ended, proxy.connections) == (1, 0))


def test_half_closed_towards_the_server_it_hears_an_end(client: socket.socket, proxy: Proxy, echo: Echo) -> None:
    proxy.half_close("server")
    eventually(lambda: echo.ended == 1)
    assert client.recv(1) == b""


def test_cut_after_tears_an_answer_in_the_middle(client: socket.socket, proxy: Proxy) -> None:
    proxy.cut_after(5)
    with dial(proxy) as other:
        for torn in (client, other):
            torn.sendall(b"0123456789")
            assert heard(torn, 5) == b"01234"
            with pytest.raises(RESET):
                torn.recv(1)
    proxy.heal()
    with dial(proxy) as again:
        assert said(again, b"0123456789") == b"0123456789"


def test_stop_leaves_nothing_behind(echo: Echo, listening: socket.socket) -> None:
    before = set(threading.enumerate())  # some of them may be about to end
    with Proxy(f"127.0.0.1:{listening.getsockname()[1]}") as proxy, dial(proxy) as client:
        said(client, b"hello")
        proxy.blackhole()
    eventually(lambda: echo.ended == 1)
    eventually(lambda: set(threading.enumerate()) <= before)


def test_it_stops_amid_clients_that_keep_coming(echo: Echo, listening: socket.socket) -> None:
    """A client that is just being accepted is closed, too: an open one would be a warning, which is an error here."""
    over = threading.Event()

    def keep_coming(port: int) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
                client.sendall(b"hello")

    for _ in range(5):
        over.clear()
        proxy = Proxy(f"127.0.0.1:{listening.getsockname()[1]}").start()
        threads = [threading.Thread(target=keep_coming, args=(proxy.port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        proxy.stop()
        over.set()
        for thread in threads:
            thread.join()
        assert proxy.connections == 0
    gc.collect()


def test_the_urls_of_all_servers_lead_through_proxies() -> None:
    environment = {
        "DATABASE_URL": "postgresql://stint@/t1?host=/run/a%20place",
        "AMQP_URL": "amqp://stint:s%40cret@127.0.0.1:5671/gw0",
        "SMTP_URL": "smtp://localhost:2500",
        "SLACK_API_URL": "http://127.0.0.1:4000/api/",
        "XERO_API_URL": "http://127.0.0.1:4001",
    }
    assert [target_of(url) for url in environment.values()] == [
        "/run/a place/.s.PGSQL.5432", "127.0.0.1:5671", "localhost:2500", "127.0.0.1:4000", "127.0.0.1:4001",
    ]  # fmt: skip
    assert target_of("postgresql://stint@db/stint") == "db:5432"
    with wired(environment, *environment) as wires:
        at = {name: f"127.0.0.1:{wire.port}" for name, wire in wires.items()}
    assert environment == {
        "DATABASE_URL": f"postgresql://stint@{at['DATABASE_URL']}/t1?sslmode=disable&gssencmode=disable",
        "AMQP_URL": f"amqp://stint:s%40cret@{at['AMQP_URL']}/gw0",
        "SMTP_URL": f"smtp://{at['SMTP_URL']}",
        "SLACK_API_URL": f"http://{at['SLACK_API_URL']}/api/",
        "XERO_API_URL": f"http://{at['XERO_API_URL']}",
    }
    assert through(wires["AMQP_URL"], "amqp://127.0.0.1:1/%2F").endswith("/%2F")

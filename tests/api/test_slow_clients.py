"""What a client may cost that is slow, or sends without end: a bounded time, a bounded memory, and nobody else's turn."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from tests.api.answers import CORS, Json
from tests.api.conftest import Another
from tests.given import Given
from tests.installation import Installation

GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def hasty(another: Another) -> Installation:
    """An API of little patience."""
    return another(STINT_HEAD_SECONDS="0.5", STINT_BODY_SECONDS="1")


@contextmanager
def connected(api: Installation) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
        yield sock


def everything(sock: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    found = b""
    while chunk := sock.recv(65536):
        found += chunk
    return found


def refused(answer: bytes, status: int) -> Json:
    """The problem that the last answer on a connection is, after which the server hung up."""
    head, _, body = answer.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first.startswith(f"{status} "), answer
    assert headers.items() >= {"content-type": "application/problem+json", "connection": "close", **CORS}.items()
    found: Json = json.loads(body)
    assert (found["status"], found["requestId"]) == (status, headers["x-request-id"])
    return found


def trickled(sock: socket.socket, every_seconds: float = 0.2) -> bytes:
    """Sends a byte now and then, until the server hangs up; what it said."""
    sock.settimeout(every_seconds)
    found, end = b"", time.monotonic() + 30
    while time.monotonic() < end:
        try:
            sock.sendall(b"a")
            if not (chunk := sock.recv(65536)):
                return found
            found += chunk
        except TimeoutError:
            continue
        except OSError:
            return found
    raise AssertionError(f"still connected after 30 s: {found!r}")


def test_a_connection_on_which_nothing_comes_is_closed(hasty: Installation) -> None:
    with connected(hasty) as sock:
        assert everything(sock) == b""


def test_a_head_that_trickles_is_408(hasty: Installation) -> None:
    with connected(hasty) as sock:
        sock.sendall(GET + b"X-Slow: ")
        refused(trickled(sock), 408)


def test_a_second_head_that_trickles_is_408(hasty: Installation) -> None:
    with connected(hasty) as sock:
        sock.sendall(GET + b"\r\n")
        assert sock.recv(12) == b"HTTP/1.1 200"
        sock.sendall(GET + b"X-Slow: ")
        refused(trickled(sock), 408)


def test_a_connection_that_was_of_use_is_kept_for_longer_than_clients_keep_theirs(hasty: Installation) -> None:
    connection = HTTPConnection("127.0.0.1", hasty.port, timeout=20)
    for wait_seconds in (5.5, 0):  # httpx lets go after 5 s
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
        time.sleep(wait_seconds)
    connection.close()


def test_a_body_that_trickles_is_408_and_changes_nothing(hasty: Installation, given: Given) -> None:
    admin = given.admin()
    with connected(hasty) as sock:
        head = f"POST /api/customers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {admin.token}\r\n"
        sock.sendall(f'{head}Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{{"name":"Slow'.encode())
        assert "body" in refused(trickled(sock), 408)["detail"]  # what its head may take does not count here
    assert given.stint.value("SELECT count(*) FROM customers WHERE starts_with(name, 'Slow')") == 0


def test_a_body_that_trickles_after_its_answer_is_cut_off(hasty: Installation) -> None:
    with connected(hasty) as sock:
        sock.sendall(b"POST /api/customers HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n{")
        assert trickled(sock).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("header", [b"X-Large: " + b"a" * 70_000, b"\r\n".join(b"X-%d: a" % number for number in range(9_000))])
def test_headers_that_are_too_large_are_431(header: bytes, stint: Installation) -> None:
    with connected(stint) as sock:
        sock.sendall(GET + header + b"\r\nConnection: close\r\n\r\n")
        refused(everything(sock), 431)


def test_a_head_without_end_is_431_before_it_fills_the_memory(stint: Installation) -> None:
    with connected(stint) as sock:
        sock.sendall(GET + b"X-Endless: " + b"a" * 70_000)
        assert "64 KiB" in refused(everything(sock), 431)["detail"]


def test_a_header_of_60_kib_and_a_large_body_are_taken(stint: Installation, given: Given) -> None:
    admin = given.admin()
    answer = admin.http.post("/api/customers", json={"name": "Acme", "notes": "a" * 10_000}, headers={"X-Large": "a" * 60_000})
    assert answer.status_code == 201
    large = admin.http.post("/api/customers", json={"name": "a" * 200_000})
    assert large.status_code == 422


def test_what_is_no_http_is_400(stint: Installation) -> None:
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"):
        with connected(stint) as sock:
            sock.sendall(junk)
            refused(everything(sock), 400)

"""Slow clients and endless requests: their time and memory are limited, and other clients are not affected."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from tests.support.answers import CORS, Json
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation

GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def short_timeouts(another: Another) -> Installation:
    """An API with short timeouts."""
    return another(STINT_HEAD_SECONDS="0.5", STINT_BODY_SECONDS="1")


@contextmanager
def connected(api: Installation) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
        yield sock


def read_to_end(sock: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    found = b""
    while chunk := sock.recv(65536):
        found += chunk
    return found


def refused(answer: bytes, status: int) -> Json:
    """The problem in the last response, after which the server closed the connection."""
    head, _, body = answer.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first.startswith(f"{status} "), answer
    assert headers.items() >= {"content-type": "application/problem+json", "connection": "close", **CORS}.items()
    found: Json = json.loads(body)
    assert (found["status"], found["requestId"]) == (status, headers["x-request-id"])
    return found


def trickle(sock: socket.socket, every_seconds: float = 0.2) -> bytes:
    """Sends a byte from time to time until the server closes the connection; returns all that it sent."""
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


def test_an_unused_connection_is_closed(short_timeouts: Installation) -> None:
    with connected(short_timeouts) as sock:
        assert read_to_end(sock) == b""


def test_a_head_that_trickles_is_408(short_timeouts: Installation) -> None:
    with connected(short_timeouts) as sock:
        sock.sendall(GET + b"X-Slow: ")
        refused(trickle(sock), 408)


def test_a_second_head_that_trickles_is_408(short_timeouts: Installation) -> None:
    with connected(short_timeouts) as sock:
        sock.sendall(GET + b"\r\n")
        assert sock.recv(12) == b"HTTP/1.1 200"
        sock.sendall(GET + b"X-Slow: ")
        refused(trickle(sock), 408)


def test_a_connection_is_kept_open_for_longer_than_clients_keep_it(short_timeouts: Installation) -> None:
    connection = HTTPConnection("127.0.0.1", short_timeouts.port, timeout=20)
    for wait_seconds in (5.5, 0):  # httpx2 closes idle connections after 5 s
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
        time.sleep(wait_seconds)
    connection.close()


def test_a_body_that_trickles_is_408_and_changes_nothing(short_timeouts: Installation, given: Given) -> None:
    admin = given.admin()
    with connected(short_timeouts) as sock:
        head = f"POST /api/customers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {admin.token}\r\n"
        sock.sendall(f'{head}Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{{"name":"Slow'.encode())
        assert "body" in refused(trickle(sock), 408)["detail"]  # the limit on the head does not apply
    assert given.stint.value("SELECT count(*) FROM customers WHERE starts_with(name, 'Slow')") == 0


def test_a_body_that_trickles_after_its_response_is_cut_off(short_timeouts: Installation) -> None:
    with connected(short_timeouts) as sock:
        sock.sendall(b"POST /api/customers HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n{")
        assert trickle(sock).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("header", [b"X-Large: " + b"a" * 70_000, b"\r\n".join(b"X-%d: a" % number for number in range(9_000))])
def test_headers_that_are_too_large_are_431(header: bytes, stint: Installation) -> None:
    with connected(stint) as sock:
        sock.sendall(GET + header + b"\r\nConnection: close\r\n\r\n")
        refused(read_to_end(sock), 431)


def test_an_endless_head_is_431_before_it_fills_the_memory(stint: Installation) -> None:
    with connected(stint) as sock:
        sock.sendall(GET + b"X-Endless: " + b"a" * 70_000)
        assert "64 KiB" in refused(read_to_end(sock), 431)["detail"]


def test_a_header_of_60_kib_and_a_large_body_are_accepted(stint: Installation, given: Given) -> None:
    admin = given.admin()
    answer = admin.http.post("/api/customers", json={"name": "Acme", "notes": "a" * 10_000}, headers={"X-Large": "a" * 60_000})
    assert answer.status_code == 201
    large = admin.http.post("/api/customers", json={"name": "a" * 200_000})
    assert large.status_code == 422


def test_invalid_http_is_400(stint: Installation) -> None:
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"):
        with connected(stint) as sock:
            sock.sendall(junk)
            refused(read_to_end(sock), 400)
    with connected(stint) as sock:
        sock.sendall(b"GET /api/me HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n")
        assert b"The request cannot be read; check its headers" in read_to_end(sock)

"""Where a request ends: the API agrees about it with every proxy, so that no byte of a body is read as another request."""

import json
import socket

import pytest

from api.http.limits.framing import WRONG_CODING, WRONG_HOST
from tests.support.given import Given
from tests.support.installation import Installation

HOST = b"Host: 127.0.0.1\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n",
]


def answers(api: Installation, *parts: bytes) -> list[bytes]:
    """All responses until the server closes the connection, each from its status on."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
        for part in parts:
            sock.sendall(part)
            if part is not parts[-1]:
                with pytest.raises(TimeoutError):  # nothing is answered before the whole request is there
                    sock.settimeout(0.2)
                    sock.recv(1)
                sock.settimeout(20)
        found = b""
        while chunk := sock.recv(65536):
            found += chunk
    return found.split(b"HTTP/1.1 ")[1:]


def post(path: bytes, headers: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\n%b\r\n%b" % (path, HOST, headers, body)


def chunked(body: bytes, *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n0\r\n%b\r\n" % (len(body), extension, body, trailers)


def authorized(given: Given) -> bytes:
    return f"Authorization: Bearer {given.admin().token}\r\n".encode()


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["h2c", "websocket"])
def test_a_body_after_a_wish_for_another_protocol_is_the_body(upgrade: bytes, stint: Installation, given: Given) -> None:
    body = json.dumps({"name": "Acme"}).encode()
    head = authorized(given) + upgrade + b"Content-Length: %d\r\n" % len(body)
    request = post(b"/api/customers", head, body)
    created, live = answers(stint, request + NEXT)
    assert created.startswith(b"201") and live.startswith(b"200")

    created, live = answers(stint, request[: -len(body)], body + NEXT)
    assert created.startswith(b"201") and live.startswith(b"200")

    head = authorized(given) + upgrade + b"Transfer-Encoding: chunked\r\n"
    created, live = answers(stint, post(b"/api/customers", head, chunked(body)) + NEXT)
    assert created.startswith(b"201") and live.startswith(b"200")


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["h2c", "websocket"])
def test_no_request_in_a_body_is_answered(upgrade: bytes, stint: Installation) -> None:
    head = upgrade + b"Content-Length: %d\r\n" % len(SMUGGLED)
    request = post(b"/api/leads", head, SMUGGLED)
    refused, live = answers(stint, request[: -len(SMUGGLED)], SMUGGLED + NEXT)
    assert refused.startswith(b"4") and live.startswith(b"200")
    assert b"/docs lists" not in refused + live


def test_a_request_without_a_body_goes_on_in_the_same_protocol(stint: Installation) -> None:
    get = b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + UPGRADES[0] + b"\r\n"
    assert [answer[:3] for answer in answers(stint, get + get + NEXT)] == [b"200"] * 3


def test_a_trailer_is_no_header(stint: Installation, given: Given) -> None:
    body = chunked(json.dumps({"name": "Acme"}).encode(), trailers=authorized(given))
    refused, live = answers(stint, post(b"/api/customers", b"Transfer-Encoding: chunked\r\n", body) + NEXT)
    assert refused.startswith(b"401") and live.startswith(b"200")


@pytest.mark.parametrize(
    "more",
    [{"trailers": b"X: " + b"a" * 1_000_000 + b"\r\n"}, {"extension": b";" + b"a" * 1_000_000}],
    ids=["trailers", "extension"],
)
def test_what_is_around_a_body_has_a_limit(more: dict[str, bytes], stint: Installation, given: Given) -> None:
    body = chunked(json.dumps({"name": "Acme"}).encode(), **more)
    with socket.create_connection(("127.0.0.1", stint.port), timeout=20) as sock:
        try:
            sock.sendall(post(b"/api/customers", authorized(given) + b"Transfer-Encoding: chunked\r\n", body))
            answer = sock.recv(65536)
        except ConnectionError:  # closed while it was sent
            return
    assert answer.startswith(b"HTTP/1.1 400") and b"larger than Stint reads" in answer


def test_a_body_of_many_small_chunks_is_read(stint: Installation, given: Given) -> None:
    text = json.dumps({"name": "Acme", "notes": "a" * 9_000}).encode()
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in text) + b"0\r\n\r\n"
    created, _ = answers(stint, post(b"/api/customers", authorized(given) + b"Transfer-Encoding: chunked\r\n", body) + NEXT)
    assert created.startswith(b"201")


@pytest.mark.parametrize(
    ("codings", "version"),
    [(b"gzip, chunked", b"1.1"), (b"gzip\r\nTransfer-Encoding: chunked", b"1.1"), (b",chunked", b"1.1"), (b"chunked", b"1.0")],
)
def test_another_transfer_coding_is_refused(codings: bytes, version: bytes, stint: Installation, given: Given) -> None:
    head = authorized(given) + b"Transfer-Encoding: %b\r\n" % codings
    request = post(b"/api/customers", head, chunked(json.dumps({"name": "Acme"}).encode()))
    [refused] = answers(stint, request.replace(b"HTTP/1.1", b"HTTP/" + version))
    assert refused.startswith(b"400") and WRONG_CODING.encode() in refused


@pytest.mark.parametrize(
    "hosts",
    [
        [], [b"a", b"b"], [b"a", b"a"], [b"a,b"], [b"a:80:80"], [b"a:x"], [b"[::1"], [b"user@a"], [b"a%00"], [b"a b"], [b"a/b"],
    ],
    ids=repr,
)  # fmt: skip
def test_another_number_of_hosts_than_one_is_refused(hosts: list[bytes], stint: Installation) -> None:
    lines = b"".join(b"Host: %b\r\n" % host for host in hosts)
    [refused] = answers(stint, b"GET /health/live HTTP/1.1\r\n%b\r\n" % lines)
    assert refused.startswith(b"400") and WRONG_HOST.encode() in refused


@pytest.mark.parametrize("host", [b"", b"a", b"stint.example:8000", b"[::1]:80", b"10.0.0.1", b"a_b-c.d", b"a:"], ids=repr)
def test_a_host_is_a_name_or_an_address(host: bytes, stint: Installation) -> None:
    [answer] = answers(stint, b"GET /health/live HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host)
    assert answer.startswith(b"200")


def test_a_client_of_http_1_0_needs_no_host(stint: Installation) -> None:
    [answer] = answers(stint, b"GET /health/live HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"200")

"""What every response tells browsers and caches."""

import socket

import httpx2
import pytest

from api.http.security import API_POLICY, PAGE_POLICY
from tests.support.answers import EVERY_ROUTE, assert_cors, filled
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation

PATHS = [
    "/",
    "/api/nothing",
    "/nothing",
    "/docs",
    "/docs/openapi.json",
    "/docs/nothing",
    "/health/live",
    "/metrics",
    "/auth/code",
]


def assert_safe(answer: httpx2.Response, policy: bytes = API_POLICY) -> None:
    """Asserts that each header is there once. assert_cors also checks the ones that never differ."""
    assert_cors(answer)
    assert answer.headers.get_list("content-security-policy") == [policy.decode()]
    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize(("method", "template"), EVERY_ROUTE)
def test_every_route_has_the_headers(method: str, template: str, stint: Installation) -> None:
    for sent in (method, "OPTIONS", *(["HEAD"] if method == "GET" else [])):
        answer = httpx2.request(sent, stint.url + filled(template), headers={"Authorization": "Bearer none"})
        assert_safe(answer)
        if template != "/.well-known/jwks.json" or sent == "OPTIONS":
            assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "TRACE"])
def test_every_path_has_the_headers(method: str, path: str, stint: Installation) -> None:
    answer = httpx2.request(method, stint.url + path)
    assert_safe(answer, PAGE_POLICY if path.startswith("/docs") else API_POLICY)
    assert answer.headers["cache-control"] == "no-store"


def test_private_answers_are_not_stored_and_public_files_are(given: Given, stint: Installation) -> None:
    admin = given.admin()
    for path in ("/api/me", "/api/tasks", "/api/sync", "/api/dead-letters"):
        assert admin.http.get(path).headers["cache-control"] == "no-store"
    with admin.http.stream("GET", "/api/events") as stream:
        assert stream.headers["cache-control"] == "no-store"
        assert_safe(stream)
    asset = httpx2.get(f"{stint.url}/docs-assets/swagger-ui.css")
    assert "max-age=3600" in asset.headers["cache-control"]
    assert asset.headers["x-content-type-options"] == "nosniff" and asset.headers["content-type"].startswith("text/css")
    assert "max-age=300" in httpx2.get(f"{stint.url}/.well-known/jwks.json").headers["cache-control"]


def raw(api: Installation, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as sock:
        sock.sendall(sent)
        found = b""
        while chunk := sock.recv(65536):
            found += chunk
    return found


REFUSED = [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000, b"GET /\0 HTTP/1.1\r\n\r\n"]


@pytest.mark.parametrize("sent", REFUSED, ids=["no HTTP", "too large", "NUL"])
def test_a_request_that_is_refused_before_it_is_one_has_the_headers(sent: bytes, stint: Installation) -> None:
    head = raw(stint, sent).partition(b"\r\n\r\n")[0].lower().decode().split("\r\n")
    names = [line.partition(":")[0] for line in head]
    for name in (
        "x-content-type-options", "referrer-policy", "x-frame-options", "content-security-policy", "cache-control",
        "access-control-allow-origin", "access-control-expose-headers",
    ):  # fmt: skip
        assert names.count(name) == 1, (name, head)


def test_behind_https_browsers_are_told_to_stay_there(another: Another) -> None:
    api = another(PUBLIC_URL="HTTPS://stint.example.com")
    for path in ("/api/me", "/health/live", "/nothing", "/docs", "/"):
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = httpx2.request(method, api.url + path)
            assert answer.headers.get_list("strict-transport-security") == ["max-age=31536000"], path
    assert b"strict-transport-security: max-age=31536000" in raw(api, b"nonsense\r\n\r\n")


def test_a_script_may_read_what_it_needs(given: Given) -> None:
    exposed = given.admin().http.get("/api/me").headers["access-control-expose-headers"].split(",")
    assert {"Location", "Retry-After", "X-Request-Id"} <= set(exposed)


def test_the_root_leads_a_person_to_the_console(stint: Installation) -> None:
    for query in ("", "?utm_source=mail"):
        answer = httpx2.get(f"{stint.url}/{query}")
        assert (answer.status_code, answer.headers["location"]) == (302, "/console")
    assert httpx2.get(f"{stint.url}/", follow_redirects=True).headers["content-type"].startswith("text/html")

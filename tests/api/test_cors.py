"""The contract's CORS headers on every response."""

import httpx2
import pytest

from tests.api.table import TABLE
from tests.identity.tokens import UNKNOWN_KEY
from tests.support.answers import EVERY_ROUTE, assert_cors, filled
from tests.support.given import Given
from tests.support.installation import Installation

INVALID = ["/api/tasks/%00", "/api/tasks/%ff", "/%c3%28", "/api/tasks?customer=%00", "/api/tasks?customer=%ff"]
UNKNOWN = ["/api", "/api/nothing", "/api/tasks/not-an-id/nothing", "/docs/nothing", "/docs-assets/nothing.js"]


def test_a_success_has_the_headers_once(given: Given) -> None:
    admin = given.admin()
    for path in ("/api/me", "/api/tasks", "/health/live", "/health/ready", "/metrics", "/docs", "/docs/openapi.json"):
        answer = admin.http.get(path, headers={"Origin": "https://app.example.com"})
        assert answer.status_code == 200
        assert_cors(answer)
    created = admin.http.post("/api/customers", json={"name": "Acme"})
    assert created.status_code == 201
    assert_cors(created)


@pytest.mark.parametrize(("method", "template"), EVERY_ROUTE)
def test_a_refusal_has_the_headers_once(method: str, template: str, stint: Installation) -> None:
    answer = httpx2.request(method, stint.url + filled(template), headers={"Authorization": "Bearer none"})
    is_public = not TABLE[f"{method} {template}"].needs_token and not template.startswith("/api/slack/")
    is_public = is_public and template != "/diagnosis"  # which needs another token
    expected = 401 if not is_public else 200 if method == "GET" else 422  # no body was sent
    assert answer.status_code == expected
    assert_cors(answer)


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_path_has_the_headers_once(path: str, stint: Installation) -> None:
    answer = httpx2.get(stint.url + path)
    assert answer.status_code == 404
    assert_cors(answer)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_a_wrong_method_has_the_headers_once(method: str, stint: Installation) -> None:
    answer = httpx2.request(method, f"{stint.url}/api/tasks")
    assert answer.status_code == (401 if method in ("GET", "HEAD", "POST") else 405)
    assert_cors(answer)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
def test_every_kind_of_client_error_has_the_headers_once(status: int, given: Given) -> None:
    admin = given.admin()
    task = given.task(admin)
    send = {
        400: lambda: admin.http.post("/api/customers", content=b"{", headers={"Content-Type": "application/json"}),
        404: lambda: admin.http.get(f"/api/tasks/{given.new_id()}"),
        409: lambda: admin.http.post(f"/api/tasks/{task['id']}/stop"),
        413: lambda: admin.http.post("/api/customers", content=b"x" * 300_000, headers={"Content-Type": "application/json"}),
        415: lambda: admin.http.post("/api/customers", content=b"{}", headers={"Content-Type": "text/plain"}),
        422: lambda: admin.http.post("/api/customers", json={}),
    }
    answer = send[status]()
    assert answer.status_code == status
    assert_cors(answer)


@pytest.mark.parametrize("path", ["/api/tasks", "/health/ready", "/.well-known/jwks.json"])
def test_a_server_error_has_the_headers_once(path: str, without_postgres: Installation) -> None:
    answer = httpx2.get(without_postgres.url + path, headers=UNKNOWN_KEY)
    assert answer.status_code == 503
    assert_cors(answer)


@pytest.mark.parametrize("template", [*sorted({template for _, template in EVERY_ROUTE}), *UNKNOWN, *INVALID])
def test_options_answers_204_without_a_token(template: str, stint: Installation) -> None:
    answer = httpx2.options(stint.url + filled(template))
    assert (answer.status_code, answer.content) == (204, b"")
    assert_cors(answer)


@pytest.mark.exclusive(uses="little")
def test_options_does_not_use_postgres(without_postgres: Installation) -> None:
    answer = httpx2.options(f"{without_postgres.url}/api/tasks", headers={"Authorization": "Bearer none"})
    assert answer.status_code == 204
    assert answer.elapsed.total_seconds() < 1
    assert_cors(answer)

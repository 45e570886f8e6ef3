"""Errors are problem details that tell what to do, and show nothing internal."""

import httpx2
import pytest

from tests.support.answers import at, problem
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.sync.streams import metric


@pytest.mark.parametrize("path", [
    "/api", "/api/nothing", "/api/tasks/1/2/3/4", "/docs-assets/nothing.js", "/favicon.ico", "/docs/nothing",
    "/docs/nothing/below",
])  # fmt: skip
def test_an_unknown_path_is_404_with_or_without_a_token(path: str, given: Given, stint: Installation) -> None:
    problem(httpx2.get(stint.url + path), 404)
    problem(given.person().http.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/tasks", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/api/me", "GET, HEAD, OPTIONS"),
        ("POST", "/health/live", "GET, HEAD, OPTIONS"),
        ("PATCH", "/docs", "GET, HEAD, OPTIONS"),
        ("GET", "/api/time-bills/approve-all", "OPTIONS, POST"),
        ("TRACE", "/api/tasks/6f2a0c5e-6f0f-4d3b-9c55-0d5b6f1f2a11", "GET, HEAD, OPTIONS, PUT"),
    ],
)
def test_a_wrong_method_is_405_with_the_allowed_ones(method: str, path: str, allowed: str, stint: Installation) -> None:
    answer = httpx2.request(method, stint.url + path)
    problem(answer, 405)
    assert answer.headers["allow"] == allowed


def test_head_is_answered_like_get_without_a_body(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    for path in (f"/api/tasks/{task['id']}", "/api/tasks", "/health/ready", "/metrics", "/docs", "/docs/openapi.json"):
        full, head = by.http.get(path), by.http.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == full.headers["content-type"], path
        if path != "/metrics":  # its content has changed: it counts requests
            assert head.headers["content-length"] == str(len(full.content)), path
    for path, status in ((f"/api/tasks/{given.new_id()}", 404), ("/api/time-bills/approve-all", 405), ("/nothing", 404)):
        refused = by.http.head(path)
        assert (refused.status_code, refused.content) == (status, b""), path
        assert refused.headers["content-type"] == "application/problem+json"
    assert httpx2.head(f"{stint.url}/api/tasks").status_code == 401
    assert by.http.head("/api/events").headers["content-type"].startswith("text/event-stream")
    eventually(lambda: metric(stint.url, "stint_listeners") == 0, why="HEAD leaves no stream open")
    assert 'method="HEAD",route="/api/tasks/{task_id' in httpx2.get(f"{stint.url}/metrics").text


def test_a_locked_row_is_503_and_changes_nothing(given: Given, stint: Installation, another: Another) -> None:
    short_timeout = another(STINT_STATEMENT_SECONDS="0.3")
    by = given.person()
    task = given.task(by)
    with at(short_timeout, by.token) as client:
        with stint.sql() as conn, conn.transaction():
            conn.execute("SELECT 1 FROM users WHERE id = %s FOR UPDATE", (by.id,))
            refused = client.post(f"/api/tasks/{task['id']}/start")
        problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        problem(client.get("/api/active-timers/me"), 404)
        assert client.post(f"/api/tasks/{task['id']}/start").status_code == 201


def test_the_type_names_the_kind_of_error_and_the_detail_the_case(given: Given) -> None:
    by = given.person()
    unknown = problem(by.http.get(f"/api/tasks/{given.new_id()}"), 404)
    no_route = problem(by.http.get("/api/no-route"), 404)
    assert unknown["type"] == no_route["type"] == "urn:stint:problem:not-found"
    assert unknown["title"] == no_route["title"] == "Not found"
    assert unknown["detail"] != no_route["detail"]

"""Errors are problem details that say what to do, and nothing of our inside."""

import httpx
import pytest

from tests.api.answers import at, problem
from tests.api.conftest import Another
from tests.given import Given
from tests.installation import Installation


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/api/tasks/1/2/3/4", "/docs-assets/nothing.js", "/favicon.ico"])
def test_an_unknown_path_is_404_with_or_without_a_token(path: str, given: Given, stint: Installation) -> None:
    problem(httpx.get(stint.url + path), 404)
    problem(given.person().http.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/api/tasks"), ("DELETE", "/api/me"), ("POST", "/health/live"), ("PATCH", "/docs")]
)
def test_a_wrong_method_is_405(method: str, path: str, stint: Installation) -> None:
    problem(httpx.request(method, stint.url + path), 405)


def test_a_row_that_somebody_else_holds_is_503_and_nothing_is_changed(
    given: Given, stint: Installation, another: Another
) -> None:
    impatient = another(STINT_STATEMENT_SECONDS="0.3")
    by = given.person()
    task = given.task(by)
    with at(impatient, by.token) as client:
        with stint.sql() as conn, conn.transaction():
            conn.execute("SELECT 1 FROM users WHERE id = %s FOR UPDATE", (by.id,))
            refused = client.post(f"/api/tasks/{task['id']}/start")
        problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        problem(client.get("/api/active-timers/me"), 404)
        assert client.post(f"/api/tasks/{task['id']}/start").status_code == 201


def test_the_type_tells_the_kind_and_the_detail_the_case(given: Given) -> None:
    by = given.person()
    unknown = problem(by.http.get(f"/api/tasks/{given.new_id()}"), 404)
    nowhere = problem(by.http.get("/api/nowhere"), 404)
    assert unknown["type"] == nowhere["type"] == "urn:stint:problem:not-found"
    assert unknown["title"] == nowhere["title"] == "Not found"
    assert unknown["detail"] != nowhere["detail"]

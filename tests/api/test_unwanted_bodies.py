"""A body that a route does not take is refused, on every route, and not ignored."""

from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest

from tests.api.contract import fetch_document, operations
from tests.api.table import TABLE
from tests.support.answers import filled, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation

READ_THEIR_OWN = ("/api/slack/events", "/api/slack/interactivity")  # signed forms and JSON, which Slack documents
JSON = {"content-type": "application/json"}
REFUSED: list[tuple[bytes, dict[str, str]]] = [
    (b'{"endTime": "2026-03-02T09:00:00Z"}', JSON),
    (b'{"":{}}', JSON),
    (b"[]", JSON),
    (b"null", JSON),
    (b"{", JSON),
    (b"a=b", {"content-type": "application/x-www-form-urlencoded"}),
    (b"\xff\x00", {}),
]


@pytest.fixture(scope="module")
def admin(stint: Installation) -> Iterator[Person]:
    with closing(Given(stint)) as given:
        yield given.admin()


@pytest.fixture(scope="module")
def bodiless(stint: Installation) -> list[tuple[str, str]]:
    """The operations of the OpenAPI document that have no request body."""
    found = [
        key
        for key, entry in operations(fetch_document(stint)).items()
        if "requestBody" not in entry and key[1] not in READ_THEIR_OWN
    ]
    assert len(found) > 30
    return found


def test_every_route_without_a_body_refuses_one(admin: Person, bodiless: list[tuple[str, str]]) -> None:
    for method, path in bodiless:
        for content, headers in REFUSED:
            answer = admin.http.request(method, filled(path), content=content, headers=headers)
            refused = problem(answer, 422)
            assert "takes no body" in refused["detail"], (method, path, content)


def test_an_empty_object_counts_as_no_body(given: Given, admin: Person, bodiless: list[tuple[str, str]]) -> None:
    for method, path in bodiless:
        for content in (b"", b"{}", b" {\n } "):
            by = given.person() if path == "/auth/sign-out" else admin  # it ends the sessions of the user
            with by.http.stream(method, filled(path), content=content, headers=JSON) as answer:
                if answer.status_code == 422:
                    assert "takes no body" not in answer.read().decode(), (method, path, content)


def test_a_body_in_chunks_is_refused_too(admin: Person, bodiless: list[tuple[str, str]]) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"notes"'
        yield b': "mine"}'

    for method, path in bodiless:
        problem(admin.http.request(method, filled(path), content=chunks(), headers=JSON), 422)


def test_a_refused_body_changes_nothing(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    timer = by.post(f"/api/tasks/{task['id']}/start")
    problem(by.http.request("DELETE", "/api/active-timers/me", json={"endTime": timer["startTime"]}), 422)
    problem(by.http.put(f"/api/customers/{task['customerId']}/focus", json={"seconds": 60}), 422)
    assert by.get("/api/active-timers/me")["id"] == timer["id"]
    assert all(focus["userId"] != by.id for focus in by.get("/api/focus", limit=1000)["items"])
    assert by.http.request("DELETE", "/api/active-timers/me", json={}).status_code == 204


def test_who_may_not_call_a_route_learns_that_first(given: Given, bodiless: list[tuple[str, str]], stint: Installation) -> None:
    anonymous = httpx2.Client(base_url=stint.url)
    for method, path in bodiless:
        expected = 401 if TABLE[f"{method} {path}"].needs_token else 422
        problem(anonymous.request(method, filled(path), json={"a": 1}), expected)
    anonymous.close()

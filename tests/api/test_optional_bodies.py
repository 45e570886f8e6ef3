"""On a route whose body is optional, what holds nothing counts as no body."""

import pytest

from tests.support.answers import problem
from tests.support.given import Given

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {}),
        (b" ", {}),
        (b"\r\n\t ", JSON),
        (b"{}", {}),
        (b" {\n } ", {}),
        (b"{}", JSON),
        (b"\n", {"Content-Type": "text/plain"}),
    ],
)
def test_nothing_starts_and_stops_a_timer_as_no_body_does(content: bytes, headers: dict[str, str], given: Given) -> None:
    by = given.person()
    task = given.task(by)
    started = by.http.post(f"/api/tasks/{task['id']}/start", content=content, headers=headers)
    assert started.status_code == 201, started.text
    stopped = by.http.post(f"/api/tasks/{task['id']}/stop", content=content, headers=headers)
    assert stopped.status_code == 202, stopped.text
    by.post(f"/api/tasks/{task['id']}/start")
    stopped = by.http.post("/api/active-timers/me/stop", content=content, headers=headers)
    assert stopped.status_code == 202, stopped.text


def test_anything_else_is_still_read_strictly(given: Given) -> None:
    by = given.person()
    path = f"/api/tasks/{given.task(by)['id']}/start"
    for content in (b'{"notes": "mine"}', b"{x", b"[]"):
        problem(by.http.post(path, content=content), 415)
    problem(by.http.post(path, content=b"{}", headers={"Content-Type": "text/plain"}), 415)
    problem(by.http.post(path, content=b"{x", headers=JSON), 400)
    # a body that is needed
    problem(by.http.post("/api/tasks", content=b" ", headers=JSON), 400)
    problem(by.http.post("/api/tasks", content=b"{}"), 415)

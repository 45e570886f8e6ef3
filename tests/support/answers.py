"""Assertions about the responses of the API, and the list of its routes."""

import re
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2

from api.app import ROUTES
from tests.support.installation import Installation

Json = dict[str, Any]

CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "Content-Type,Authorization",
    "access-control-allow-methods": "OPTIONS,GET,POST,PUT,PATCH,DELETE",
    "access-control-expose-headers": "Location,Retry-After,X-Request-Id,Allow,WWW-Authenticate,Content-Disposition,Warning",
}
# further headers that every response has
ALWAYS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}

# every route of the application: (method, path template)
EVERY_ROUTE = sorted((method, re.sub(r":\w+", "", path)) for method, path, _ in ROUTES)


def filled(template: str, **values: Any) -> str:
    """The path with these values; parameters that are not named get random ids."""
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], uuid4())), template)


def assert_cors(answer: httpx2.Response) -> None:
    """Asserts that the response has each CORS header exactly once, with its exact value, and no other; and those of ALWAYS."""
    sent = [(name.lower(), value) for name, value in answer.headers.multi_items() if name.lower().startswith("access-control")]
    assert sorted(sent) == sorted(CORS.items()), sent
    assert all(answer.headers.get_list(name) == [value] for name, value in ALWAYS.items()), answer.headers


def problem(answer: httpx2.Response, status: int) -> Json:
    """Asserts that the response is a complete problem document with that status, and returns it."""
    assert answer.status_code == status, f"{answer.status_code} instead of {status}: {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    body: Json = answer.json()
    assert {"type", "title", "status", "detail", "requestId"} <= set(body), body
    assert body["status"] == status
    assert body["type"].startswith("urn:stint:problem:") and body["title"] and body["detail"]
    assert body["requestId"] == answer.headers["x-request-id"]
    assert not re.search(r"Traceback|psycopg|pydantic|SELECT |INSERT |instance of|'data'", answer.text), answer.text[:500]
    assert_cors(answer)
    return body


def refused_fields(answer: httpx2.Response) -> list[str]:
    """The paths of the fields that a 422 names, each with a message."""
    errors = problem(answer, 422)["errors"]
    assert errors and all(set(error) == {"path", "message"} and error["message"] for error in errors), errors
    return [error["path"] for error in errors]


def until_free(send: Callable[[], httpx2.Response]) -> httpx2.Response:
    """The answer of a request that is sent again while Stint is busy, for at most 60 seconds: such a refusal has changed
    nothing. On a machine that stalls for some seconds, a part of many requests at once is refused."""
    ends = time.monotonic() + 60
    while (answer := send()).status_code == 503 and "Nothing was changed" in answer.text and time.monotonic() < ends:
        time.sleep(float(answer.headers["Retry-After"]))
    return answer


def at(other: Installation, token: str) -> httpx2.Client:
    """A client of another API, with a token."""
    return httpx2.Client(base_url=other.url, headers={"Authorization": f"Bearer {token}"}, timeout=20)

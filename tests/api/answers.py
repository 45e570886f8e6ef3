"""What every answer of the API is held against."""

import re
from typing import Any
from uuid import uuid4

import httpx

from api.app import ROUTES
from tests.installation import Installation

Json = dict[str, Any]

CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "Content-Type,Authorization",
    "access-control-allow-methods": "OPTIONS,GET,POST,PUT,PATCH,DELETE",
}

# every route of the application: (method, path template)
EVERY_ROUTE = sorted(
    (str(method), re.sub(r":\w+", "", path)) for route in ROUTES for method in route.http_methods for path in route.paths
)


def filled(template: str, **values: Any) -> str:
    """The path with these values, and made-up ids for what is not named."""
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], uuid4())), template)


def assert_cors(answer: httpx.Response) -> None:
    """Each header of the contract, with its exact value, exactly once, and no other of that kind."""
    sent = [(name.lower(), value) for name, value in answer.headers.multi_items() if name.lower().startswith("access-control")]
    assert sorted(sent) == sorted(CORS.items()), sent


def problem(answer: httpx.Response, status: int) -> Json:
    """The problem that the answer is, with everything that each of ours has."""
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


def refused_fields(answer: httpx.Response) -> list[str]:
    """The paths that a 422 names, each with a message."""
    errors = problem(answer, 422)["errors"]
    assert errors and all(set(error) == {"path", "message"} and error["message"] for error in errors), errors
    return [error["path"] for error in errors]


def at(other: Installation, token: str) -> httpx.Client:
    """A client of another API, with a token."""
    return httpx.Client(base_url=other.url, headers={"Authorization": f"Bearer {token}"}, timeout=20)

"""Each error in the OpenAPI document has an example, and it is what the route really answers."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.contract import fetch_document, operations
from tests.api.table import TABLE, UNKNOWN_ID
from tests.identity.tokens import UNKNOWN_KEY
from tests.support.answers import EVERY_ROUTE, Json, filled
from tests.support.given import Given, Person
from tests.support.installation import Installation

JSON = {"Content-Type": "application/json"}
CORRECT_IT = "correct the operation's line in OF_OPERATIONS of api/documentation/errors.py"


@pytest.fixture(scope="module")
def with_a_body(stint: Installation) -> set[tuple[str, str]]:
    """The routes whose body is documented; Slack documents those that it sends."""
    return {route for route, operation in operations(fetch_document(stint)).items() if "requestBody" in operation}


@pytest.fixture(scope="module")
def documented(stint: Installation) -> dict[tuple[str, str], dict[int, Json]]:
    """Of each route: the example of each error."""
    found: dict[tuple[str, str], dict[int, Json]] = {}
    for route, operation in operations(fetch_document(stint)).items():
        answers = {int(status): answer for status, answer in operation["responses"].items() if status >= "400"}
        problems = {
            status: answer["content"]["application/problem+json"]["examples"]
            for status, answer in answers.items()
            if "application/problem+json" in answer["content"]
        }
        assert all(len(examples) == 1 for examples in problems.values()), route
        found[route] = {status: next(iter(examples.values()))["value"] for status, examples in problems.items()}
    return found


@pytest.fixture(scope="module")
def people(stint: Installation) -> Iterator[dict[str, Person]]:
    given = Given(stint)
    admin = given.admin()
    customer = given.customer(admin)
    roles = {role: given.person(role, customer["id"]) for role in ("customer_user", "none")}
    yield {"admin": admin, **roles}
    given.close()


def send(by: httpx2.Client, route: tuple[str, str], *, query: str = "", body: Any = ..., **more: Any) -> httpx2.Response:
    method, template = route
    path = f"{filled(template, owner=UNKNOWN_ID)}?{query}".rstrip("?")
    case = TABLE[f"{method} {template}"]
    if body is ...:
        body = re.sub(r"\{\w+\}", UNKNOWN_ID, json.dumps(case.body)) if case.body else ""
    return by.request(method, path, content=body, **({"headers": JSON} if body else {}) | more)


def test_every_error_has_an_example_of_its_status(documented: dict[tuple[str, str], dict[int, Json]]) -> None:
    assert sorted(documented) == EVERY_ROUTE
    for route, examples in documented.items():
        assert {400, 500} <= set(examples), route
        for status, example in examples.items():
            assert example["status"] == status and example["detail"] and example["requestId"], (route, status)


@pytest.mark.parametrize("route", EVERY_ROUTE, ids=lambda route: " ".join(route))
def test_the_examples_are_real_answers(
    route: tuple[str, str],
    documented: dict[tuple[str, str], dict[int, Json]],
    with_a_body: set[tuple[str, str]],
    people: dict[str, Person],
    stint: Installation,
    without_postgres: Installation,
) -> None:
    case, examples = TABLE[" ".join(route)], documented[route]
    admin, anybody = people["admin"].http, httpx2.Client(base_url=stint.url, timeout=20)
    takes_a_body, is_slacks = route in with_a_body, route[1] in ("/api/slack/events", "/api/slack/interactivity")
    sent: list[tuple[int, httpx2.Response]] = []
    if takes_a_body:
        sent += [
            (400, send(admin, route, body="{x")),
            (413, send(admin, route, body="x" * 300_000)),
            (415, send(admin, route, body="{}", headers={"Content-Type": "text/plain"})),
        ]
    elif is_slacks:
        sent.append((401, send(anybody, route)))
    else:
        sent.append((400, send(admin, route, query="%00")))
    if case.needs_token:
        sent.append((401, send(anybody, route)))
        by = people["none"] if case.customer_user != 403 else people["customer_user"]
        sent.append((403, send(by.http, route)))
    if 422 in examples:
        is_unknown = examples[422]["errors"][0]["path"] == "nonsense"
        body = '{"nonsense": 1}' if is_unknown else "{}"
        sent.append((422, send(admin, route, body=body) if takes_a_body else send(admin, route, query="nonsense=1")))
    if 404 in examples and case.needs_token and "/xero/" not in route[1]:
        sent.append((404, send(admin, route)))
    if 503 in examples and case.needs_token:
        with httpx2.Client(base_url=without_postgres.url, timeout=20) as away:
            sent.append((503, send(away, route, headers=UNKNOWN_KEY | (JSON if takes_a_body else {}))))
    anybody.close()
    for status, answer in sent:
        assert answer.status_code == status, f"{status}: {answer.status_code} {answer.text[:300]}"
        assert status in examples, f"{status} is not documented: {CORRECT_IT}"
        is_as_documented = answer.json() | {"requestId": ""} == examples[status] | {"requestId": ""}
        assert is_as_documented, f"{status}: {answer.json()} is not {examples[status]}: {CORRECT_IT}"


def test_no_error_is_documented_that_cannot_be(
    documented: dict[tuple[str, str], dict[int, Json]], with_a_body: set[tuple[str, str]]
) -> None:
    for (method, template), examples in documented.items():
        what, case = f"{method} {template}", TABLE[f"{method} {template}"]
        assert (403 in examples) is case.needs_token, what
        is_slacks = "/slack/" in template and not case.needs_token
        assert ({408, 413, 415} <= set(examples)) is ((method, template) in with_a_body or is_slacks), what
        if method == "GET" and "/xero/" not in template:
            assert 409 not in examples, what
        if "{" not in template and not template.startswith(("/auth/", "/.well-known")):
            assert 404 not in examples, what
    limited = {f"{method} {template}" for (method, template), examples in documented.items() if 429 in examples}
    assert limited >= {"POST /api/leads", "POST /auth/code", "POST /auth/token", "GET /api/events"}
    assert {route for route in limited if route.startswith("GET")} == {"GET /api/events", "GET /.well-known/jwks.json"}

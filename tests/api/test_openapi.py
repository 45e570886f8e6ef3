"""The OpenAPI document: complete and correct for every route; and its page, which loads nothing from other sites."""

import asyncio
import json
import re
import time

import httpx2
import pytest
from litestar.routes import HTTPRoute
from pydantic import SecretStr

from api.app import ROUTES, create_routes
from schemas.settings import Settings
from tests.api.contract import Contract, fetch_document, operations
from tests.api.table import TABLE
from tests.support.answers import EVERY_ROUTE, Json
from tests.support.in_process import Exchange, in_process
from tests.support.installation import SECRET_KEY, Installation

WRITING = {"POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture(scope="module")
def document(stint: Installation) -> Json:
    return fetch_document(stint)


def test_the_table_of_routes_repeats_each_handlers_method_and_path() -> None:
    declared = [
        (method, path, handler.fn.__name__)
        for _, _, handler in ROUTES
        for method in handler.http_methods
        for path in handler.paths
    ]
    assert [(method, path, handler.fn.__name__) for method, path, handler in ROUTES] == declared


def test_a_handler_has_one_dependency_at_most() -> None:
    # Litestar resolves two or more as concurrent tasks, which takes longer than most handlers
    app = create_routes(Settings(database_url="postgresql:///", secret_key=SecretStr(SECRET_KEY)))
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    models = [model for route in routes for _, model in route.route_handler_map.values()]

    dependencies = [sum(map(len, model.dependency_batches)) for model in models]

    assert len(dependencies) > len(ROUTES)
    assert max(dependencies) == 1


def test_the_document_has_every_route(document: Json) -> None:
    assert document["openapi"].startswith("3.")
    assert sorted(operations(document)) == EVERY_ROUTE


def test_every_operation_has_a_summary_a_description_and_its_security(document: Json) -> None:
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    assert document["security"] == [{"bearer": []}]
    for (method, path), entry in operations(document).items():
        assert entry["summary"] and entry["description"], path
        assert ("security" in entry) is not TABLE[f"{method} {path}"].needs_token, path
        assert entry.get("security", [{}]) == [{}], f"{method} {path}"  # no token
        for parameter in entry.get("parameters", []):
            assert parameter["schema"], path
            if parameter["in"] == "query":
                assert parameter.get("description"), f"{path}: {parameter['name']}"
    assert len({entry["operationId"] for entry in operations(document).values()}) == len(EVERY_ROUTE)


def test_a_204_is_documented_without_content(document: Json) -> None:
    without = {key: entry["responses"]["204"] for key, entry in operations(document).items() if "204" in entry["responses"]}
    assert {key for key in without if key[0] != "DELETE"} == {("POST", "/auth/sign-out")}
    assert all("content" not in answer for answer in without.values())
    for (method, path), entry in operations(document).items():
        if method == "DELETE":
            assert [status for status in entry["responses"] if status < "300"] == ["204"] and "requestBody" not in entry, path


def test_an_optional_body_is_not_required(document: Json) -> None:
    for (method, path), entry in operations(document).items():
        if "requestBody" in entry:
            is_optional = path.endswith(("/start", "/stop", "/recompute"))
            assert entry["requestBody"].get("required", False) is not is_optional, f"{method} {path}"


def test_every_operation_documents_its_errors_as_problems(document: Json) -> None:
    """Which ones, and with which examples: tests/api/test_documented_errors.py."""
    contract = Contract(document)
    for (_, path), entry in operations(document).items():
        for status, answer in entry["responses"].items():
            if status >= "400" and (path, status) != ("/health/ready", "503"):
                schema = contract.resolve(answer["content"]["application/problem+json"]["schema"])
                assert set(schema["required"]) == {"type", "title", "status", "detail", "requestId"}, f"{path} {status}"
                assert "errors" in schema["properties"]


def test_every_body_has_an_example(document: Json) -> None:
    contract = Contract(document)
    bodies = {key: entry["requestBody"] for key, entry in operations(document).items() if "requestBody" in entry}
    with_a_body = WRITING - {"DELETE"}
    assert set(bodies) == {
        route
        for route in EVERY_ROUTE
        # Slack documents the bodies that it sends
        if route[0] in with_a_body
        and not route[1].endswith(("/focus", "/slack/events", "/slack/interactivity", "/auth/sign-out"))
    }
    for key, body in bodies.items():
        schema = body["content"]["application/json"]["schema"]
        options = [contract.resolve(option) for option in schema.get("oneOf", [schema])]
        fields = [field for option in options for field in option.get("properties", {}).values()]
        assert any(field.get("examples") for field in fields), key
        examples = [(field, example) for field in fields for example in field.get("examples", [])]
        assert not [fault for field, example in examples for fault in contract.faults(example, field)], key


def test_every_name_is_camel_case(document: Json) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field in schema.get("properties", {}):
            assert re.fullmatch(r"[a-z][a-zA-Z]*", field), f"{name}.{field}"
    for (_, path), entry in operations(document).items():
        for parameter in entry.get("parameters", []):
            assert parameter["in"] == "path" or re.fullmatch(r"[a-z][a-zA-Z]*", parameter["name"]), path


def test_the_page_loads_nothing_from_other_sites(stint: Installation) -> None:
    page = httpx2.get(f"{stint.url}/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.findall(r"""(?:https?:)?//[\w.-]+\.\w+""", page.text)
    assets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert len(assets) >= 3
    for asset in assets:
        answer = httpx2.get(stint.url + asset)
        assert answer.status_code == 200 and answer.content, asset
        if asset.endswith(".css"):
            assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//", answer.text), asset
            assert "@import" not in answer.text


def test_other_requests_do_not_wait_while_the_document_is_made() -> None:
    """The CPU time of the event loop's thread, which other requests wait for, compared with that of all threads."""

    async def main() -> tuple[float, float]:
        settings = Settings(database_url="postgresql://stint@127.0.0.1:1/stint", secret_key=SecretStr(SECRET_KEY))
        async with in_process(settings) as api:
            exchange = Exchange("GET", "/docs/openapi.json")
            of_the_loop, of_all = time.thread_time(), time.process_time()
            await api.request(exchange)
            of_the_loop, of_all = time.thread_time() - of_the_loop, time.process_time() - of_all
            assert exchange.status == 200 and json.loads(exchange.content)["paths"]
            return of_the_loop, of_all

    of_the_loop, of_all = asyncio.run(main())
    assert of_the_loop < of_all * 0.5, (of_the_loop, of_all)


def test_the_page_needs_no_token_and_no_postgres(without_postgres: Installation) -> None:
    for path in ("/docs", "/docs/openapi.json", "/docs-assets/swagger-ui.css"):
        assert httpx2.get(without_postgres.url + path, timeout=20).status_code == 200

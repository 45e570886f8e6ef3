"""The OpenAPI document by a public ruleset, as generators of clients read it."""

import json
import re
from copy import deepcopy
from typing import Any

import pytest

from api.documentation.__main__ import document as print_document
from tests.api.contract import operations
from tests.api.openapi_rules import faults
from tests.support.answers import EVERY_ROUTE, Json


@pytest.fixture(scope="module")
def document() -> Json:
    made: Json = json.loads(print_document())
    return made


def test_the_document_breaks_no_rule(document: Json) -> None:
    assert faults(document) == []


@pytest.mark.parametrize(
    ("rule", "path", "value"),
    [
        ("operation-operationId-unique", "paths//api/me/get/operationId", "listTasks"),
        ("operation-operationId-valid-in-url", "paths//api/me/get/operationId", "ApiMe_get"),
        ("operation-singular-tag", "paths//api/me/get/tags", []),
        ("operation-tag-defined", "paths//api/me/get/tags", ["Me"]),
        ("operation-success-response", "paths//api/me/get/responses", {"400": {}}),
        ("tag-description", "tags", [{"name": "Tasks"}]),
        ("info-contact", "info/contact", None),
        ("path-params", "paths//api/tasks/{task_id}/get/parameters", []),
        ("invalid-ref", "components/schemas/Task", {"$ref": "#/components/schemas/Nothing"}),
        ("oas3-unused-component", "components/schemas/Nothing", {"type": "object"}),
        ("oas3-valid-schema-example", "components/schemas/Task/properties/title", {"type": "string", "examples": [5]}),
    ],
)
def test_each_rule_finds_what_breaks_it(rule: str, path: str, value: Any, document: Json) -> None:
    broken = deepcopy(document)
    place: Any = broken
    *parents, last = [key.replace("\0", "/") for key in re.sub(r"//(api[^ ]*?)/(?=get/)", _joined, path).split("/")]
    for key in parents:
        place = place[key]
    place[last] = value
    assert any(fault.startswith(f"{rule}:") for fault in faults(broken)), faults(broken)


def _joined(found: re.Match[str]) -> str:
    return "/" + ("/" + found[1]).replace("/", "\0") + "/"


def test_operation_ids_are_a_verb_and_a_noun(document: Json) -> None:
    ids = {route: operation["operationId"] for route, operation in operations(document).items()}
    assert ids["POST", "/api/tasks/{task_id}/stop"] == "stopTimer"
    assert ids["GET", "/api/xero/projects/{project_id}/tasks"] == "listXeroTasks"
    assert [name for name in ids.values() if not re.fullmatch(r"[a-z]+([A-Z][a-z]*)+|signIn", name)] == []
    verbs = {
        "GET": {"get", "list", "listen", "pull"},
        "DELETE": {"delete", "remove", "clear", "discard", "cancel", "disconnect"},
    }
    for (method, path), name in ids.items():
        found = re.match(r"[a-z]+", name)
        assert found and (method not in verbs or found[0] in verbs[method]), f"{method} {path}: {name}"


def test_lists_with_enrich_keep_the_names_of_their_items(document: Json) -> None:
    for noun in ("TimeEntry", "TimeBill", "Timer"):
        items = document["components"]["schemas"][f"{noun}List"]["properties"]["items"]["items"]
        assert [option["$ref"].rpartition("/")[2] for option in items["anyOf"]] == [f"Enriched{noun}", noun]
        plain, enriched = (document["components"]["schemas"][name] for name in (noun, f"Enriched{noun}"))
        assert set(plain["properties"]) < set(enriched["properties"])
        # so that a decoder that tries the first shape first finds out that it is not this one
        assert set(enriched["required"]) - set(plain["properties"])


def test_only_what_has_a_location_says_so(document: Json) -> None:
    for (method, path), operation in operations(document).items():
        for status, answer in operation["responses"].items():
            assert "URL follows" not in answer["description"]
            has_location = "Location" in answer.get("headers", {})
            assert has_location is (status == "201" and path != "/api/leads"), f"{method} {path} {status}"


def test_the_document_has_every_route(document: Json) -> None:
    assert sorted(operations(document)) == EVERY_ROUTE

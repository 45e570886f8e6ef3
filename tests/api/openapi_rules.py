"""The rules of Spectral's public ruleset `spectral:oas` that apply to OpenAPI 3.1, and those that generators of clients need,
each under its name there: https://docs.stoplight.io/docs/spectral. Node is not needed."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.api.contract import METHODS, Contract
from tests.support.answers import Json


def faults(document: Json) -> list[str]:
    """What breaks a rule, as `rule: place`."""
    rules = (_of_the_document, _of_the_operations, _of_the_references, _of_the_values)
    return [fault for rule in rules for fault in rule(document)]


def _of_the_document(document: Json) -> Iterator[str]:
    info = document["info"]
    for rule, value in {
        "info-contact": info.get("contact"), "info-description": info.get("description"), "info-license": info.get("license"),
        "oas3-api-servers": document.get("servers"),
    }.items():  # fmt: skip
        if not value:
            yield f"{rule}: info"
    names = [tag["name"] for tag in document.get("tags", [])]
    if len(names) != len(set(names)):
        yield "openapi-tags-uniqueness: tags"
    yield from (f"tag-description: {tag['name']}" for tag in document.get("tags", []) if not tag.get("description"))
    for path in document["paths"]:
        if path != "/" and path.endswith("/"):
            yield f"path-keys-no-trailing-slash: {path}"
        if "?" in path or "{}" in path:
            yield f"path-not-include-query: {path}"


def _of_the_operations(document: Json) -> Iterator[str]:
    tags, ids = {tag["name"] for tag in document.get("tags", [])}, Counter[str]()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method not in METHODS:
                continue
            place = f"{method.upper()} {path}"
            operation_id = operation.get("operationId", "")
            ids[operation_id] += 1
            if not re.fullmatch(r"[a-z]+([A-Z][a-z]*)*", operation_id):
                yield f"operation-operationId-valid-in-url: {place} {operation_id!r}"
            if not operation.get("description") or not operation.get("summary"):
                yield f"operation-description: {place}"
            if len(operation.get("tags", [])) != 1:
                yield f"operation-singular-tag: {place}"
            if not set(operation.get("tags", [])) <= tags:
                yield f"operation-tag-defined: {place}"
            if not any(status[0] in "23" for status in operation["responses"]):
                yield f"operation-success-response: {place}"
            if not any(status[0] == "4" for status in operation["responses"]):
                yield f"operation-4xx-response: {place}"
            in_path = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"]
            if sorted(in_path) != sorted(re.findall(r"\{(\w+)\}", path)):
                yield f"path-params: {place}"
            names = [(parameter["name"], parameter["in"]) for parameter in operation.get("parameters", [])]
            if len(names) != len(set(names)):
                yield f"operation-parameters: {place}"
    yield from (f"operation-operationId-unique: {name!r}" for name, count in ids.items() if count > 1)


def _of_the_references(document: Json) -> Iterator[str]:
    used = set[str]()
    for _, value in _walk(document, "#"):
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            used.add(value["$ref"].rpartition("/")[2])
    known = set(document["components"]["schemas"])
    yield from (f"invalid-ref: {name}" for name in sorted(used - known))
    yield from (f"oas3-unused-component: {name}" for name in sorted(known - used))


def _of_the_values(document: Json) -> Iterator[str]:
    contract = Contract(document)
    for place, value in _walk(document, "#"):
        if not isinstance(value, dict):
            continue
        if isinstance(value.get("enum"), list):
            if len(value["enum"]) != len({str(option) for option in value["enum"]}):
                yield f"duplicated-entry-in-enum: {place}"
            if contract.faults(value["enum"][0], {"type": value.get("type", "string")}):
                yield f"typed-enum: {place}"
        if value.get("type") == "array" and "items" not in value:
            yield f"array-items: {place}"
        is_schema = "type" in value or "$ref" in value or "anyOf" in value
        examples = [*value.get("examples", [])] if isinstance(value.get("examples"), list) else []
        examples += [value["default"]] if is_schema and "default" in value else []
        for example in examples if is_schema else []:
            yield from (f"oas3-valid-schema-example: {place} {fault}" for fault in contract.faults(example, value))
        if isinstance(value.get("schema"), dict) and isinstance(value.get("examples"), dict):
            for example in value["examples"].values():
                for fault in contract.faults(example["value"], value["schema"]):
                    yield f"oas3-valid-media-example: {place} {fault}"
        if (
            "description" in value
            and isinstance(value["description"], str)
            and re.search(r"(?i)<script|eval\(", value["description"])
        ):
            yield f"no-script-tags-in-markdown: {place}"


def _walk(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    yield place, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key != "value":  # the example itself
            yield from _walk(item, f"{place}/{key}")

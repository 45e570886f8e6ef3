"""The OpenAPI document as a contract: checks values against its schemas."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

import httpx2

from tests.support.answers import Json
from tests.support.installation import Installation

METHODS = {"get", "post", "put", "patch", "delete"}
_document: Json = {}


def fetch_document(stint: Installation) -> Json:
    """The document, which is the same in each installation: a process of pytest reads it once, because making it takes an API
    half a second of CPU."""
    if not _document:
        answer = httpx2.get(f"{stint.url}/docs/openapi.json", timeout=60)
        assert answer.status_code == 200
        _document.update(answer.json())
    return _document


def operations(document: Json) -> dict[tuple[str, str], Json]:
    """Each operation by method and path."""
    return {
        (method.upper(), path): entry
        for path, item in document["paths"].items()
        for method, entry in item.items()
        if method in METHODS
    }


class Contract:
    """Checks values against the document's schemas, with the part of JSON Schema that they use."""

    def __init__(self, document: Json) -> None:
        self._schemas = document["components"]["schemas"]

    def resolve(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def faults(self, value: Any, schema: Json, where: str = "") -> list[str]:
        """What is wrong with the value; empty if it matches the schema."""
        schema = self.resolve(schema)
        if options := schema.get("anyOf", schema.get("oneOf")):
            tried = [self.faults(value, option, where) for option in options]
            return [] if not all(tried) else [f"{where}: {value!r} matches none of {tried}"]
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds and not any(_is(value, kind) for kind in kinds):
            return [f"{where}: {value!r} is not {kinds}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{where}: {value!r} is not one of {schema['enum']}"]
        if isinstance(value, str) and not _has_format(value, schema.get("format", "")):
            return [f"{where}: {value!r} is not a valid {schema['format']}"]
        if isinstance(value, list):
            items = schema.get("items", {})
            return [fault for number, item in enumerate(value) for fault in self.faults(item, items, f"{where}[{number}]")]
        if isinstance(value, dict) and "properties" in schema:
            known = schema["properties"]
            missing = [f"{where}.{name} is missing" for name in schema.get("required", []) if name not in value]
            unknown = [f"{where}.{name} is not documented" for name in value if name not in known]
            inner = [
                fault
                for name, item in value.items()
                if name in known
                for fault in self.faults(item, known[name], f"{where}.{name}")
            ]
            return missing + unknown + inner
        return []


def _is(value: Any, kind: str) -> bool:
    types: dict[str, Any] = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None), "number": float}
    return (isinstance(value, int) and not isinstance(value, bool)) if kind == "integer" else isinstance(value, types[kind])


def _has_format(value: str, form: str) -> bool:
    try:
        match form:
            case "uuid":
                return str(UUID(value)) == value
            case "date":
                return date.fromisoformat(value).isoformat() == value
            case "date-time":
                return value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
    return True

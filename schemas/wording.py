"""Invalid values in the words of a client: what is expected, with an example, never the text of a library.

Both come from the JSON schema of the value, which also documents it in OpenAPI: so they cannot differ.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.errors import FieldProblem

Schema = dict[str, Any]
ID = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"
MAX_PROBLEMS = 50  # a small request must not get a response of many times its size
MAX_HINTS = 5
MAX_SHOWN, EMPTY = 40, '""'  # characters of an unknown name, and how one without any is shown
# by format: what it is called, and an example
FORMATS = {
    "date-time": ("a time", "2026-11-29T14:30:00Z"),
    "date": ("a day", "2026-11-29"),
    "email": ("an e-mail address", "jo@acme.example"),
    "cursor": ("the nextCursor of an earlier page", "WyJ0YXNrcyJd"),
    "sync-timestamp": ("the syncTimestamp of an earlier answer, or a time", f"{ID}.1042"),
}
# by name, for values without an example of their own
NAMED = {
    "phone": "+49 30 1234567",
    "company": "Acme Ltd",
    "channelId": "C0123ABCD",
    "slackChannelId": "C0123ABCD",
    "duration": 3600,
    "minutes": 60,
    "limit": 200,
    "syncTimestamp": f"{ID}.1042",
}


def problems(model: type[BaseModel], error: ValidationError) -> list[FieldProblem]:
    """What is wrong in the values of a model, each with its path in the client's names."""
    return problems_in(model, error.errors(include_url=False, include_input=False))


def problems_in(model: type[BaseModel], errors: Iterable[Any]) -> list[FieldProblem]:
    """The same from the details of pydantic's error."""
    root = schema_of(model)
    found: dict[str, FieldProblem] = {}
    for detail in errors:
        path, schema, parent = _locate(root, detail["loc"])
        name = next((part for part in reversed(path) if not part.isdigit()), "")
        message = _message(detail, name, schema, parent, with_hint=len(found) < MAX_HINTS)
        each = "Each of " if name and path[-1].isdigit() and message.startswith(name) else ""
        problem = FieldProblem(path=".".join(path), message=each + message)
        found.setdefault(problem.path, problem)  # pydantic lists each part of a union that does not fit
        if len(found) == MAX_PROBLEMS:
            break
    return list(found.values())


def model_named(name: str, base: type[BaseModel]) -> type[BaseModel] | None:
    """The model of that name that is derived from `base`, if there is one: a ValidationError has only the name, as title."""
    return next((model for model in _derived(base) if model.__name__ == name), None)


@cache
def schema_of(model: type[BaseModel]) -> Schema:
    """The model's JSON schema without references."""
    schema = model.model_json_schema()
    return _resolved(schema, schema.get("$defs", {}))  # type: ignore[no-any-return]


def sentence(errors: Sequence[FieldProblem]) -> str:
    """The first of the problems in one text, for `detail`."""
    texts = []
    for error in errors[:5]:
        name = error.path.rpartition(".")[2]
        texts.append(error.message if error.path in error.message or not name else f"{error.path}: {error.message}")
    return " ".join(texts)


def must_be(name: str, schema: Schema, reason: str = "") -> str:
    """What the value of that name must be, with an example; and why it is not."""
    return f"{name} must be {expectation(schema, name)}{': ' if reason else ''}{reason}."


def object_needed(schema: Schema) -> str:
    """The body must be an object, with an example."""
    return f"Send a JSON object, such as {_json(example(schema))}."


def unknown(kind: str, name: str, known: Iterable[str], *, with_hint: bool = True) -> str:
    """There is no parameter or field of this name: the nearest name, and all of them."""
    names = sorted(known)
    if not names:
        return f"There is no {kind} {shown(name) or EMPTY} here: there are none."
    by_key = {_key(known_name): known_name for known_name in names}
    near = difflib.get_close_matches(_key(name[:MAX_SHOWN]), by_key, n=1, cutoff=0.7) if with_hint else []
    hint = f" Did you mean {by_key[near[0]]}?" if near else ""
    listed = f"The only {kind} is {names[0]}." if len(names) == 1 else f"The {kind}s are {', '.join(names)}."
    return f"There is no {kind} {shown(name) or EMPTY} here.{hint} {listed}"


def shown(name: str) -> str:
    """An unknown name, cut off if it is long."""
    return name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…"


def expectation(schema: Schema, name: str = "") -> str:
    """In words: what fits the schema, with an example."""
    parts: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    options = [option for option in parts if option.get("type") != "null"]
    if options:
        around = {key: schema[key] for key in ("examples",) if key in schema and len(options) == 1}
        return " or ".join(expectation(option | around, name) for option in options) + ", or null" * (len(options) < len(parts))
    if "const" in schema:
        return _json(schema["const"])
    if "enum" in schema:
        *first, last = map(_plain, schema["enum"])
        return f"{', '.join(first)} or {last}" if first else last
    kind, form = schema.get("type"), schema.get("format")
    if kind == "boolean":
        return "true or false"
    if form == "uuid":
        return f"the id of {_noun(name)}, such as {ID}"
    if "me" in schema.get("examples", ()):  # schemas/identity/current_user.py
        return f"the id of a user, such as {ID}, or me"
    words = FORMATS[form][0] if form in FORMATS else _kind(schema)
    shown_example = example(schema, name)
    comma = "" if form in ("date", "date-time") else ","
    return f"{words}{comma} such as {shown_example if form in FORMATS else _json(shown_example)}"


def example(schema: Schema, name: str = "", depth: int = 0) -> Any:
    """A value that fits the schema."""
    options = [option for option in schema.get("anyOf") or schema.get("oneOf") or [] if option.get("type") != "null"]
    for key in ("examples", "enum"):
        if schema.get(key):
            return next(value for value in schema[key] if value is not None)
    if "const" in schema:
        return schema["const"]
    if options:
        return example(options[0], name, depth)
    form = schema.get("format")
    if form == "uuid":
        return ID
    if form in FORMATS:
        return FORMATS[form][1]
    if name in NAMED:
        return NAMED[name]
    match schema.get("type"):
        case "integer":
            return max(schema.get("minimum", 1), min(5, schema.get("maximum", 5)))
        case "number":
            return max(schema.get("minimum", 1), min(2.5, schema.get("maximum", 2.5)))
        case "boolean":
            return True
        case "array":
            return [example(schema.get("items", {}), "", depth + 1)] if depth < 3 else []
        case "object":
            fields = schema.get("properties", {})
            names = schema.get("required") or list(fields)[:1]
            return {name: example(fields[name], name, depth + 1) for name in names} if depth < 3 else {}
    return ID if name.endswith("Id") else "Call the customer"[: schema.get("maxLength", 100)]


def _message(detail: Any, name: str, schema: Schema | None, parent: Schema, *, with_hint: bool) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return unknown("field", name, parent.get("properties", {}), with_hint=with_hint)
    if schema is None:
        return f"{name or 'This'} is not valid here."
    if kind == "missing":
        return f"{name} is needed: {expectation(schema, name)}."
    reason = _reason(detail, schema)
    if not name:
        return f"{reason[:1].upper()}{reason[1:]}." if reason else object_needed(schema)
    return must_be(name, schema, reason)


def _reason(detail: Any, schema: Schema) -> str:
    """Why the value does not fit, if the expectation does not tell; else the empty string."""
    if detail["type"] == "value_error":  # Stint's own validators
        return str(detail["msg"]).removeprefix("Value error, ").rstrip(".")
    if detail["type"] in ("greater_than_equal", "less_than_equal") and _has_format(schema, "date"):
        return "the year must be between 1900 and 9000"
    return ""


def _has_format(schema: Schema, form: str) -> bool:
    return any(option.get("format") == form for option in _options(schema))


def _locate(root: Schema, loc: Sequence[str | int]) -> tuple[list[str], Schema | None, Schema]:
    """The path of an invalid value, its schema (None for an unknown field) and the schema around it. In pydantic's `loc` there
    are also the names of a union's parts, which are not in the client's JSON."""
    path: list[str] = []
    schema: Schema | None = root
    parent = root
    for part in loc:
        if schema is None:
            break
        step = next((step for option in _options(schema) if (step := _step(option, part)) is not None), None)
        is_field = any("properties" in option for option in _options(schema))
        if step is None and not is_field:
            continue  # the name of a union's part, or of a validator
        parent = next((option for option in _options(schema) if "properties" in option), schema)
        schema = step
        path.append(shown(str(part)))
    return path, schema, parent


def _options(schema: Schema) -> Iterator[Schema]:
    yield schema
    for key in ("anyOf", "oneOf", "allOf"):
        for option in schema.get(key, []):
            yield from _options(option)


def _step(schema: Schema, part: str | int) -> Schema | None:
    if isinstance(part, int):
        items: Schema | None = schema.get("items")
        return items
    found: Schema | None = schema.get("properties", {}).get(part)
    return found


def _kind(schema: Schema) -> str:
    match schema.get("type"):
        case "integer":
            return "a whole number" + _range(schema, "minimum", "maximum")
        case "number":
            return "a number" + _range(schema, "minimum", "maximum")
        case "array":
            length = _range(schema, "minItems", "maxItems")
            return f"a list{length or ' of'} {'objects' if 'properties' in schema.get('items', {}) else 'values'}"
        case "object":
            return "an object"
        case "string":
            length = _range(schema, "minLength", "maxLength")
            return f"a text{length} characters" if length else "a text"
    return "a value"


def _range(schema: Schema, least: str, most: str) -> str:
    low, high = schema.get(least, schema.get("ge")), schema.get(most, schema.get("le"))
    if (above := schema.get("exclusiveMinimum", schema.get("gt"))) is not None:
        return f" above {above}" + (f" and up to {high}" if high is not None else "")
    if low is not None and high is not None and (low or least == "minimum"):
        return f" from {low} to {high}" if least == "minimum" else f" of {low} to {high}"
    if high is not None:
        return f" of at most {high}"
    return f" of at least {low}" if low is not None else ""


# of ids whose name is shorter than the noun
NOUNS = {
    "owner": "user", "letter_id": "dead letter", "bill_id": "time bill", "entry_id": "time entry", "op_id": "operation",
    "mapping_id": "channel mapping", "job_id": "recompute job",
}  # fmt: skip


def _noun(name: str) -> str:
    key = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    words = NOUNS.get(key, key.replace("_", " ").removesuffix("id").strip())
    if not words or words.endswith("s"):
        return "a row"
    return f"an {words}" if words[0] in "aeio" else f"a {words}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _resolved(schema: Any, definitions: dict[str, Schema]) -> Any:
    if isinstance(schema, list):
        return [_resolved(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        schema = target | {key: value for key, value in schema.items() if key != "$ref"}
    return {key: _resolved(value, definitions) for key, value in schema.items() if key != "$defs"}


def _derived(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield base
    for model in base.__subclasses__():
        yield from _derived(model)

"""How a shape looks in Python, in SQL and on the wire: one definition for all three.

A row that is answered is a `Row`. Its JSON is built by Postgres (`json_object`), from the same fields that document it,
so that a list can pass from the database to the socket as bytes and the two cannot drift apart.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Sql:
    """Marks a field whose value is not the column of its own name; `{t}` stands for the table's alias."""

    expression: str


@dataclass(frozen=True)
class Lookup:
    """Marks a field that comes from the row of another `table` whose id stands in `key`; in the expression `{j}` is that row
    and `{t}` the row itself. Null, or `default`, where there is no such row."""

    table: str
    key: str
    expression: str
    default: str | None = None

    def alias(self, table: str) -> str:
        return f"{table}_{self.key}"


@dataclass(frozen=True)
class Documented:
    """Adds a keyword to a field's schema in the OpenAPI document, where its type does not tell which values are taken."""

    keyword: str
    value: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {self.keyword: self.value}


def _only_text(value: object) -> object:
    # pydantic would take 5, and "5", for five seconds past 1970: a client that sends a number meant something else
    if isinstance(value, date) or (isinstance(value, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])", value)):
        return value
    raise ValueError("send text, such as 2026-11-23T09:30:00Z or 2026-11-23")


def _only(kind: type) -> BeforeValidator:
    """Of that very type. Field(strict=True) does not do it: the framework validates with strict=False, which overrides it, and
    then "60", true and 60.0 are whole numbers."""

    def check(value: object) -> object:
        if type(value) is kind:
            return value
        raise ValueError({int: "send a whole number", bool: "send true or false"}[kind])

    return BeforeValidator(check)


def _in_utc(value: datetime) -> datetime:
    try:
        value = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the year must lie between 1 and 9999 in UTC") from error
    if not 1900 <= value.year <= 9000:
        raise ValueError("the year must lie between 1900 and 9000")
    return value


def _whole_seconds(value: datetime) -> datetime:
    return value.replace(microsecond=0)


# years from 1900 on, and before 9000
_YEARS = "^(19|[2-8][0-9])[0-9]{2}-"
_TIME_SCHEMA = {"type": "string", "format": "date-time", "pattern": _YEARS, "examples": ["2026-11-23T09:30:00Z"]}
_DAY_SCHEMA = {"type": "string", "format": "date", "pattern": _YEARS}

# A moment on the wire: RFC 3339 in UTC with Z. `Second` is what hours are made of: fractions are cut off on the way in, so
# that duration is exactly endTime − startTime.
Instant = Annotated[AwareDatetime, BeforeValidator(_only_text), AfterValidator(_in_utc), WithJsonSchema(_TIME_SCHEMA)]
Second = Annotated[Instant, AfterValidator(_whole_seconds), Sql("second")]
Day = Annotated[date, BeforeValidator(_only_text), Field(ge=date(1900, 1, 1), le=date(9000, 1, 1)), WithJsonSchema(_DAY_SCHEMA)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    Documented("pattern", r"\S"),  # blanks alone are none
]
Text = Annotated[str, StringConstraints(max_length=10_000)]
Whole = Annotated[int, _only(int)]
Flag = Annotated[bool, _only(bool)]
Version = Annotated[Whole, Field(ge=1, le=2**53, description="The row's version as last read; a stale one gets 409")]


class Row(BaseModel):
    """One row as it is answered: frozen, camelCase on the wire. Fields stand in the order of the answer."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    @classmethod
    def from_json(cls, row: str | bytes) -> Self:
        """The row from the text that `json_object` made of it."""
        return cls.model_validate_json(row)


class Body(BaseModel):
    """What a client sends: frozen, camelCase, unknown fields refused."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)

    def fingerprint(self) -> bytes:
        """Tells whether a repeated create carries the same body."""
        return hashlib.sha256(self.model_dump_json().encode()).digest()


def json_object(model: type[Row], table: str) -> str:
    """SQL for one row of `table` (its alias) as a JSON object with the model's fields, in its order. It stands for itself, so
    that it can be returned by an INSERT or an UPDATE, too: each lookup is a query of its own."""

    def looked_up(lookup: Lookup) -> str:
        alias = lookup.alias(table)
        expression = lookup.expression.format(j=alias, t=table)
        found = f"(SELECT {expression} FROM {lookup.table} {alias} WHERE {alias}.id = {table}.{lookup.key})"
        return found if lookup.default is None else f"coalesce({found}, {lookup.default})"

    return _object(model, table, looked_up)


def json_joined(model: type[Row], table: str) -> tuple[str, str]:
    """The same for many rows: the object, and the joins that it needs. One join serves all fields from the same row, and what
    is looked up again and again is fetched once."""
    joins: dict[str, str] = {}

    def looked_up(lookup: Lookup) -> str:
        alias = lookup.alias(table)
        # LIMIT 1 keeps it a look-up by id: hashing the whole other table looks cheap to the planner while that is small
        row = f"SELECT * FROM {lookup.table} WHERE {lookup.table}.id = {table}.{lookup.key} LIMIT 1"
        joins[alias] = f"LEFT JOIN LATERAL ({row}) {alias} ON true"
        expression = lookup.expression.format(j=alias, t=table)
        return expression if lookup.default is None else f"coalesce({expression}, {lookup.default})"

    item = _object(model, table, looked_up)
    return item, " ".join(joins.values())


def _object(model: type[Row], table: str, looked_up: Callable[[Lookup], str]) -> str:
    pairs = []
    for name, field in model.model_fields.items():
        lookup = next((mark for mark in field.metadata if isinstance(mark, Lookup)), None)
        value = looked_up(lookup) if lookup else _value(name, field.annotation, field.metadata, table)
        pairs.append(f"'{field.alias or name}', {value}")
    return f"json_build_object({', '.join(pairs)})"


def _value(name: str, annotation: Any, metadata: list[Any], table: str) -> str:
    column = f"{table}.{name}"
    marks = [mark for mark in metadata if isinstance(mark, Sql)]
    inner, inner_marks = _unwrap(annotation)
    if any(mark.expression == "second" for mark in marks + inner_marks):
        return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
    if marks:
        return marks[0].expression.format(t=table)
    if inner is datetime:
        return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    return column


def _unwrap(annotation: Any) -> tuple[Any, list[Sql]]:
    """The type inside Optional and Annotated, and the Sql marks met on the way."""
    marks: list[Sql] = []
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *extra = get_args(annotation)
            marks += [mark for mark in extra if isinstance(mark, Sql)]
        elif origin in (Union, UnionType):
            rest = [option for option in get_args(annotation) if option is not type(None)]
            if len(rest) != 1:
                return annotation, marks
            annotation = rest[0]
        else:
            return annotation, marks


Rounding = Annotated[Literal[1, 5, 6, 10, 15, 30], _only(int)]

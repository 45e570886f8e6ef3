"""The base of all models: one definition for Python, SQL and JSON.

`Row` is the base of models in responses. Postgres builds their JSON (`json_object`) from the fields that also document them.
So a list goes from the database to the socket as bytes, and cannot differ from its documentation.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
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

from schemas import names


@dataclass(frozen=True)
class Sql:
    """Marks a field whose value is not the column of the same name. In the expression, `{t}` is the table's alias."""

    expression: str


@dataclass(frozen=True)
class Lookup:
    """Marks a field from a row of another `table`, whose id is in the column `key`. In the expression, `{j}` is that row's
    alias and `{t}` the alias of the row itself. The value is null, or `default`, if there is no such row."""

    table: str
    key: str
    expression: str
    default: str | None = None

    def alias(self, table: str) -> str:
        return f"{table}_{self.key}"


@dataclass(frozen=True)
class SchemaKeyword:
    """Adds a keyword to a field's schema in the OpenAPI document, if its type does not tell which values are valid."""

    keyword: str
    value: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {self.keyword: self.value}


def _reject_numbers(value: object) -> object:
    # pydantic would read 5 and "5" as five seconds after 1970; a client that sends a number means something else
    if isinstance(value, date) or (isinstance(value, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])", value)):
        return value
    raise ValueError("send it as text, with the year, month and day")


def _exactly(*kinds: type) -> BeforeValidator:
    """Accepts only values of exactly these types. Field(strict=True) has no effect: Litestar validates with strict=False,
    which accepts "60", true and 60.0 as whole numbers."""

    def check(value: object) -> object:
        if type(value) in kinds:
            return value
        raise ValueError("send it without quotes and without a fraction" if kinds == (int,) else "send it without quotes")

    return BeforeValidator(check)


def _in_utc(value: datetime) -> datetime:
    try:
        value = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the year must be between 1900 and 9000") from error
    if not 1900 <= value.year <= 9000:
        raise ValueError("the year must be between 1900 and 9000")
    return value


def _whole_seconds(value: datetime) -> datetime:
    return value.replace(microsecond=0)


# years from 1900 on, and before 9000
_YEARS = "^(19|[2-8][0-9])[0-9]{2}-"
_TIME_SCHEMA = {"type": "string", "format": "date-time", "pattern": _YEARS, "examples": ["2026-11-23T09:30:00Z"]}
# marks times that Postgres writes in whole seconds; `_object` looks for it. It is no expression, but a mark like the others.
_WHOLE_SECONDS = Sql("second")
_DAY_SCHEMA = {"type": "string", "format": "date", "pattern": _YEARS}

# A time in JSON: RFC 3339 in UTC with Z. `Second` is for the times of timers and entries: fractions of the input are cut off,
# so that duration is exactly endTime − startTime.
Instant = Annotated[AwareDatetime, BeforeValidator(_reject_numbers), AfterValidator(_in_utc), WithJsonSchema(_TIME_SCHEMA)]
Second = Annotated[Instant, AfterValidator(_whole_seconds), _WHOLE_SECONDS]
Day = Annotated[
    date, BeforeValidator(_reject_numbers), Field(ge=date(1900, 1, 1), le=date(9000, 1, 1)), WithJsonSchema(_DAY_SCHEMA)
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(names.clean_name),
    SchemaKeyword("pattern", names.HAS_VISIBLE),  # a name of blanks and invisible characters only is refused
]
MAX_TEXT = 10_000  # characters
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Whole = Annotated[int, _exactly(int)]
Number = Annotated[float, _exactly(int, float)]
Flag = Annotated[bool, _exactly(bool)]
Version = Annotated[Whole, Field(ge=1, le=2**53, description="The row's version as last read; a stale one gets 409")]


def build_models() -> None:
    """Builds the validators of all models that are imported, and imports what these import at first use. Models leave that
    to it (`defer_build`), so that a command builds only what it needs; a process that answers requests should not do it in
    one."""
    import email_validator  # noqa: F401  # 50 ms

    models = BaseModel.__subclasses__()
    for model in models:
        models += model.__subclasses__()
        if model.__module__.partition(".")[0] in ("schemas", "api", "actors"):
            model.model_rebuild()


class Row(BaseModel):
    """The base of models in responses: frozen, camelCase in JSON. The fields are in the order of the JSON."""

    model_config = ConfigDict(
        defer_build=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    @classmethod
    def from_json(cls, row: str | bytes) -> Self:
        """The row from the JSON that `json_object` built."""
        return cls.model_validate_json(row)


class Body(BaseModel):
    """The base of request bodies: frozen, camelCase in JSON, unknown fields refused."""

    model_config = ConfigDict(
        defer_build=True, frozen=True, alias_generator=to_camel, extra="forbid", hide_input_in_errors=True
    )

    def fingerprint(self) -> bytes:
        """A hash of the body. It tells whether a repeated create request has the same body.

        Fields with their default values are left out, so that a field which a later version adds does not change the hash of a
        request that a client repeats after the upgrade.
        """
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).digest()


@cache
def json_object(model: type[Row], table: str) -> str:
    """SQL for one row of `table` (an alias) as a JSON object with the model's fields. It needs no joins, so that an INSERT or
    UPDATE can return it too: each lookup is a subquery."""

    def lookup_sql(lookup: Lookup) -> str:
        alias = lookup.alias(table)
        expression = lookup.expression.format(j=alias, t=table)
        subquery = f"(SELECT {expression} FROM {lookup.table} {alias} WHERE {alias}.id = {table}.{lookup.key})"
        return subquery if lookup.default is None else f"coalesce({subquery}, {lookup.default})"

    return _object(model, table, lookup_sql)


@cache
def json_joined(model: type[Row], table: str) -> tuple[str, str]:
    """`json_object` for many rows: the SQL of the object, and the joins that it needs. All fields from the same row share one
    join."""
    joins: dict[str, str] = {}

    def lookup_sql(lookup: Lookup) -> str:
        alias = lookup.alias(table)
        # LIMIT 1 forces a lookup by id: while the other table is small, the planner would prefer to hash all of it
        row = f"SELECT * FROM {lookup.table} WHERE {lookup.table}.id = {table}.{lookup.key} LIMIT 1"
        joins[alias] = f"LEFT JOIN LATERAL ({row}) {alias} ON true"
        expression = lookup.expression.format(j=alias, t=table)
        return expression if lookup.default is None else f"coalesce({expression}, {lookup.default})"

    item = _object(model, table, lookup_sql)
    return item, " ".join(joins.values())


def _object(model: type[Row], table: str, lookup_sql: Callable[[Lookup], str]) -> str:
    pairs = []
    for name, field in model.model_fields.items():
        lookup = next((mark for mark in field.metadata if isinstance(mark, Lookup)), None)
        value = lookup_sql(lookup) if lookup else _value(name, field.annotation, field.metadata, table)
        pairs.append(f"'{field.alias or name}', {value}")
    return f"json_build_object({', '.join(pairs)})"


def _value(name: str, annotation: Any, metadata: list[Any], table: str) -> str:
    column = f"{table}.{name}"
    marks = [mark for mark in metadata if isinstance(mark, Sql)]
    inner, inner_marks = _unwrap(annotation)
    if _WHOLE_SECONDS in marks + inner_marks:
        return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
    if marks:
        return marks[0].expression.format(t=table)
    if inner is datetime:
        return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    return column


def _unwrap(annotation: Any) -> tuple[Any, list[Sql]]:
    """The type inside Optional and Annotated, and the Sql marks around it."""
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


Rounding = Annotated[Literal[1, 5, 6, 10, 15, 30], _exactly(int)]

"""The query of a request, checked against the parameters of its route.

Litestar ignores what a route does not know: a filter with a typing error in its name (`?taskID=`) would return all rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.typing import FieldDefinition

from api.http.parameters import handler_parameters, is_query_parameter, parameter_schema, public_name
from schemas import wording
from schemas.errors import FieldProblem, Invalid

# In a route's `opt`: accept any query. Only for callers that add parameters which their user cannot remove.
ANY_QUERY = "any_query"
MAX_PROBLEMS = 20


@dataclass(frozen=True)
class _Parameter:
    """A parameter of a query. `takes_null`: it is a text, so the word null is a value. `is_list`: it may be repeated."""

    schema: dict[str, Any]
    takes_null: bool
    is_list: bool

    @classmethod
    def of(cls, field: FieldDefinition) -> "_Parameter":
        parts = (field, *field.inner_types)
        # a pattern takes only some texts
        has_pattern = "pattern" in (getattr(field.kwarg_definition, "schema_extra", None) or {})
        return cls(
            parameter_schema(field),
            takes_null=not has_pattern and any(part.annotation is str for part in parts),
            is_list=any(part.is_non_string_collection for part in parts),
        )

    @property
    def is_whole_number(self) -> bool:
        return "integer" in (self.schema.get("type"), self.schema.get("items", {}).get("type"))


async def reject_wrong_query(request: Request[Any, Any, Any]) -> None:
    """Raises Invalid for a query that Litestar would read as another one without an error. It names all faults:

    - unknown parameters;
    - empty values;
    - several values of a parameter that has only one;
    - the word `null`, unless the parameter is a text: `userId=null` would list everybody's rows;
    - whole numbers with other characters than digits.
    """
    if not request.scope["query_string"] or request.route_handler.opt.get(ANY_QUERY):
        return
    sent: dict[str, list[str]] = {}
    for name, value in request.query_params.items():
        sent.setdefault(name, []).append(value)
    problems = list(_problems(sent, _parameters(request.route_handler)))
    if problems:
        raise Invalid.because(problems)


@cache
def _parameters(handler: HTTPRouteHandler) -> dict[str, _Parameter]:
    """The parameters of the route's query, by their names.

    They are kept for each route: to make their schemas takes longer than everything else that a list costs in this process.
    """
    return {public_name(field): _Parameter.of(field) for field in handler_parameters(handler) if is_query_parameter(field)}


def _problems(sent: dict[str, list[str]], parameters: dict[str, _Parameter]) -> Iterator[FieldProblem]:
    found = 0
    for name, values in sent.items():
        parameter = parameters.get(name)
        if parameter is None:
            message = wording.unknown("query parameter", name, parameters)
        elif len(values) > 1 and not parameter.is_list:
            message = f"{name} was sent more than once; send one value."
        elif not all(values):
            message = wording.must_be(name, parameter.schema, "it is empty; send a value, or leave the parameter out")
        elif any(value.lower() == "null" for value in values) and not parameter.takes_null:
            message = wording.must_be(name, parameter.schema, "null is not a value here; leave the parameter out")
        elif parameter.is_whole_number and not all(map(_has_only_digits, values)):
            message = wording.must_be(name, parameter.schema, "send digits only")
        else:
            continue
        yield FieldProblem(path=wording.shown(name), message=message)
        if (found := found + 1) == MAX_PROBLEMS:  # a small request must not get a response of many times its size
            return


def _has_only_digits(value: str) -> bool:
    """Whether the value is digits with an optional sign. msgspec would also read 1e2 and 5.0 as whole numbers."""
    digits = value[1:] if value[:1] in ("+", "-") else value
    return digits.isascii() and digits.isdigit()

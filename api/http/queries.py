"""The query of a request, checked against the parameters of its route.

Litestar ignores what a route does not know: a filter with a typing error in its name (`?taskID=`) would return all rows.
"""

from collections.abc import Iterator
from typing import Any

from litestar import Request
from litestar.typing import FieldDefinition

from api.http.parameters import is_query_parameter, parameter_schema, public_name, route_parameters
from schemas import wording
from schemas.errors import FieldProblem, Invalid

# In a route's `opt`: accept any query. Only for callers that add parameters which their user cannot remove.
ANY_QUERY = "any_query"
MAX_PROBLEMS = 20


async def reject_wrong_query(request: Request[Any, Any, Any]) -> None:
    """Raises Invalid, with every fault, for a query that Litestar would silently read as another one: unknown parameters, empty
    values, all but one of a repeated parameter's values, the word `null` (`userId=null` would list everybody's rows),
    unless the parameter is a text, and whole numbers that are written in another way than with digits."""
    if not request.scope["query_string"] or request.route_handler.opt.get(ANY_QUERY):
        return
    sent: dict[str, list[str]] = {}
    for name, value in request.query_params.items():
        sent.setdefault(name, []).append(value)
    fields = {public_name(field): field for field in route_parameters(request) if is_query_parameter(field)}
    problems = list(_problems(sent, fields))
    if problems:
        raise Invalid.because(problems)


def _problems(sent: dict[str, list[str]], fields: dict[str, FieldDefinition]) -> Iterator[FieldProblem]:
    found = 0
    for name, values in sent.items():
        field = fields.get(name)
        if field is None:
            message = wording.unknown("query parameter", name, fields)
        elif len(values) > 1 and not _is_list(field):
            message = f"{name} was sent more than once; send one value."
        elif not all(values):
            message = wording.must_be(name, parameter_schema(field), "it is empty; send a value, or leave the parameter out")
        elif any(value.lower() == "null" for value in values) and not _is_text(field):
            message = wording.must_be(name, parameter_schema(field), "null is not a value here; leave the parameter out")
        elif _is_whole_number(field) and not all(map(_has_only_digits, values)):
            message = wording.must_be(name, parameter_schema(field), "send digits only")
        else:
            continue
        yield FieldProblem(path=wording.shown(name), message=message)
        if (found := found + 1) == MAX_PROBLEMS:  # a small request must not get a response of many times its size
            return


def _is_text(field: FieldDefinition) -> bool:
    """Whether any text is a value, also the word null; a parameter with a pattern takes only some."""
    has_pattern = "pattern" in (getattr(field.kwarg_definition, "schema_extra", None) or {})
    return not has_pattern and any(part.annotation is str for part in (field, *field.inner_types))


def _is_whole_number(field: FieldDefinition) -> bool:
    schema = parameter_schema(field)
    return "integer" in (schema.get("type"), schema.get("items", {}).get("type"))


def _has_only_digits(value: str) -> bool:
    """Whether the value is digits with an optional sign. msgspec would also read 1e2 and 5.0 as whole numbers."""
    digits = value[1:] if value[:1] in ("+", "-") else value
    return digits.isascii() and digits.isdigit()


def _is_list(field: FieldDefinition) -> bool:
    """Whether the parameter may be repeated."""
    return any(part.is_non_string_collection for part in (field, *field.inner_types))

"""The parameters of a route: those of its handler and those of the dependencies that the handler uses."""

from collections.abc import Iterator
from typing import Any

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.typing import FieldDefinition
from pydantic import BaseModel, TypeAdapter


def route_parameters(request: Request[Any, Any, Any]) -> Iterator[FieldDefinition]:
    """The parameters that the client of this route can send."""
    return handler_parameters(request.route_handler)


def handler_parameters(handler: HTTPRouteHandler) -> Iterator[FieldDefinition]:
    """The same of a handler that the application has registered."""
    dependencies = handler.resolve_dependencies()
    fields = list(handler.parsed_fn_signature.parameters.values())
    while fields:
        field = fields.pop()
        if (dependency := dependencies.get(field.name)) is not None:
            fields += dependency.parsed_fn_signature.parameters.values()
        else:
            yield field


def public_name(field: FieldDefinition) -> str:
    """The parameter's name in the client's request; the handler's own name can be another one."""
    return str(getattr(field.kwarg_definition, "name", None) or field.name)


def is_query_parameter(field: FieldDefinition) -> bool:
    return isinstance(field.kwarg_definition, ParameterKwarg) and field.kwarg_definition.param_type == "query"


def parameter_schema(field: FieldDefinition) -> dict[str, Any]:
    """The JSON schema of a parameter of the path or the query; it is never null."""
    schema: dict[str, Any] = TypeAdapter(field.annotation).json_schema()
    [schema, *_] = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    limits = field.kwarg_definition
    found = {
        "minimum": getattr(limits, "ge", None),
        "maximum": getattr(limits, "le", None),
        "minLength": getattr(limits, "min_length", None),
        "maxLength": getattr(limits, "max_length", None),
    }
    return (
        schema
        | {key: value for key, value in found.items() if value is not None}
        | (getattr(limits, "schema_extra", None) or {})
    )


def body_model(request: Request[Any, Any, Any]) -> type[BaseModel]:
    """The model of the route's body."""
    model = handler_body(request.route_handler)
    assert model is not None
    return model


def handler_body(handler: HTTPRouteHandler) -> type[BaseModel] | None:
    """The model of the handler's body; None if it takes no body."""
    field = handler.parsed_fn_signature.parameters.get("data")
    parts = () if field is None else (field, *field.inner_types)
    return next((part.annotation for part in parts if part.is_subclass_of(BaseModel)), None)

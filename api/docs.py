"""The OpenAPI document at /docs/openapi.json, and its page at /docs, which asks no other site for anything."""

import inspect
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import swagger_ui
from litestar import Request, Router
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, OpenAPIType, Operation, Parameter, RequestBody, Schema, SecurityScheme, Server
from litestar.static_files import create_static_files_router

from api.problems import TITLES, Problem

ASSETS = "/docs-assets"

DESCRIPTION = """
Timers become time entries, entries add up to time bills, an admin approves them.

* Send `Authorization: Bearer TOKEN` (`./stint token` makes one).
* Ids are UUIDs; a create may bring its own `id`, and is then safe to repeat.
* Times are RFC 3339 in UTC, dates `YYYY-MM-DD`, durations whole seconds. Unknown fields are refused.
* Lists take `limit` and `cursor`. Rows carry `version`; an update may send it back, and is refused with 409 if it is stale.
* Every error is `application/problem+json` (RFC 9457) with a `detail` that says what to do and the request's id.
"""


async def refuse_unknown(request: Request[Any, Any, Any]) -> None:
    """The framework has a page of its own for what is not there below /docs; we have one answer for it everywhere."""
    if request.path_params:
        raise NotFoundException


CONFIG = OpenAPIConfig(
    title="Stint",
    version="0.1.0",
    description=DESCRIPTION,
    openapi_router=Router("/docs", route_handlers=[], include_in_schema=False, before_request=refuse_unknown),
    use_handler_docstrings=True,
    components=Components(
        security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")},
    ),
    security=[{"bearer": []}],
    servers=[Server(url="/")],
    render_plugins=[
        SwaggerRenderPlugin(
            path="/",
            js_url=f"{ASSETS}/swagger-ui-bundle.js",
            css_url=f"{ASSETS}/swagger-ui.css",
            standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
            favicon=f"<link rel='icon' type='image/png' href='{ASSETS}/favicon-32x32.png'>",
        ),
        JsonRenderPlugin(path="/openapi.json"),
    ],
)

ASSETS_ROUTER = create_static_files_router(
    path=ASSETS,
    directories=[Path(swagger_ui.__file__).parent / "static"],
    opt={"exclude_from_auth": True},
    include_in_schema=False,
)


@dataclass
class _AsItIs(Operation):
    """The framework would document that a query may say null: such a parameter is left out instead; and that an answer has
    exactly one of several shapes: an empty list has all of them."""

    def __post_init__(self) -> None:
        for parameter in self.parameters or []:
            if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
                parameter.schema = _without_null(parameter.schema)
        for answer in (self.responses or {}).values():
            for media in (getattr(answer, "content", None) or {}).values():
                if isinstance(media.schema, Schema) and media.schema.one_of is not None:
                    media.schema = replace(media.schema, any_of=media.schema.one_of, one_of=None)


@dataclass
class _WithOptionalBody(_AsItIs):
    """The framework would document every body as needed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.request_body, RequestBody):
            self.request_body.required = False


def _without_null(schema: Schema) -> Schema:
    if schema.enum is not None:
        return replace(schema, type=OpenAPIType.STRING, enum=[value for value in schema.enum if value is not None])
    if schema.one_of is None:
        return schema
    [only] = [option for option in schema.one_of if isinstance(option, Schema) and option.type != OpenAPIType.NULL]
    return replace(
        schema,
        **{field.name: getattr(only, field.name) or getattr(schema, field.name) for field in fields(only)} | {"one_of": None},
    )


def a_problem(status: int) -> ResponseSpec:
    """How an error is documented: for those that every route of a kind has below, for one of its own at the route."""
    return ResponseSpec(Problem, description=TITLES[status], media_type="application/problem+json", generate_examples=False)


def document_errors(handler: HTTPRouteHandler) -> HTTPRouteHandler:
    """Gives the operation the shape of its errors; the framework would document one that we never answer with."""
    public = handler.opt.get("exclude_from_auth", False)
    statuses = {400, 429, 500, 503} | (set() if public else {401, 403})
    statuses |= {404} if "{" in "".join(handler.paths) else set()
    statuses |= set(handler.opt.get("also_answers", ()))
    statuses |= {409, 413, 415, 422} if handler.http_methods & {"POST", "PUT", "PATCH", "DELETE"} else {422}
    handler.responses = {status: a_problem(status) for status in sorted(statuses)} | dict(handler.responses or {})
    if public:
        handler.security = [{}]
    body = inspect.signature(handler.fn).parameters.get("data")
    may_be_left_out = body is not None and body.default is not inspect.Parameter.empty
    handler.operation_class = _WithOptionalBody if may_be_left_out else _AsItIs
    return handler

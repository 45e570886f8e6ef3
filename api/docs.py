"""The OpenAPI document at /docs/openapi.json, and its page at /docs, which asks no other site for anything."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import swagger_ui
from litestar import Request, Router
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, Operation, RequestBody, SecurityScheme, Server
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
class _WithOptionalBody(Operation):
    """The framework would document every body as needed."""

    def __post_init__(self) -> None:
        if isinstance(self.request_body, RequestBody):
            self.request_body.required = False


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
    if body is not None and body.default is not inspect.Parameter.empty:
        handler.operation_class = _WithOptionalBody
    return handler

"""The OpenAPI document at /docs/openapi.json, and its page at /docs, which loads nothing from other sites."""

import asyncio
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import swagger_ui
from litestar import Litestar, MediaType, Request, Router, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    Contact,
    License,
    OpenAPI,
    OpenAPIFormat,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
    SecurityScheme,
    Server,
)
from litestar.response import Redirect
from litestar.static_files import create_static_files_router

from api.documentation import operations
from api.documentation.errors import error_responses
from api.http.queries import ANY_QUERY

ASSETS = "/docs-assets"

DESCRIPTION = """
A stopped timer becomes a time entry, time entries add up to time bills, an admin approves time bills.

* Send `Authorization: Bearer TOKEN` (`./stint token` prints a token).
* Ids are UUIDs. If a create request contains its own `id`, it can be repeated safely.
* Times are RFC 3339 in UTC, dates `YYYY-MM-DD`, durations whole seconds. Unknown fields are refused.
* Lists take `limit` and `cursor`. Rows have a `version`; an update may send it, and gets 409 if the row has changed since.
* Every error is `application/problem+json` (RFC 9457) with a `detail` that tells what to do, and the request's id.
"""


DOCUMENT = "/openapi.json"


async def prepare_page(request: Request[Any, Any, Any]) -> None:
    """Raises the 404 of all other paths for unknown paths below /docs, for which Litestar has a page of its own.

    It also makes the document, once and in a thread. Litestar would make it on the event loop, and everything else would wait
    for half a second.
    """
    if request.path_params:
        raise NotFoundException
    if request.url.path.endswith(DOCUMENT):
        async with request.app.state.making_document:
            await asyncio.to_thread(make_document, request.app)


# Litestar's own page has an inline script with the whole document in it, which a strict Content-Security-Policy forbids.
PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Stint: the API</title>
<link rel="icon" type="image/png" href="{ASSETS}/favicon-32x32.png">
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
""".encode()
START = """SwaggerUIBundle({
  url: "/docs/openapi.json", dom_id: "#swagger-ui", deepLinking: true, presets: [SwaggerUIBundle.presets.apis]
})
"""


@get("/", media_type=MediaType.HTML, sync_to_thread=False)
def show_page() -> bytes:
    """Swagger UI, which reads the document itself. A plugin of Litestar would make the document for this answer, too."""
    return PAGE


@get("/start.js", media_type="text/javascript", sync_to_thread=False)
def start_page() -> str:
    """The script that starts Swagger UI."""
    return START


@get("/", opt={"exclude_from_auth": True, ANY_QUERY: True}, include_in_schema=False, sync_to_thread=False)
def show_console() -> Redirect:
    """Where a person arrives who opens the API's address."""
    return Redirect("/console")


def openapi_config() -> OpenAPIConfig:
    """The configuration of one application: Litestar adds routes of that application to the router in it."""
    return OpenAPIConfig(
        title="Stint",
        version="0.2.0",
        description=DESCRIPTION,
        openapi_router=Router(
            "/docs",
            route_handlers=[show_page, start_page],
            include_in_schema=False,
            before_request=prepare_page,
            opt={"exclude_from_auth": True},
        ),
        use_handler_docstrings=True,
        components=Components(
            security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")},
        ),
        security=[{"bearer": []}],
        tags=operations.tags(),
        contact=Contact(name="The administrators of this installation"),
        license=License(name="MIT", identifier="MIT"),
        servers=[Server(url="/")],
        render_plugins=[
            JsonRenderPlugin(path=DOCUMENT),
        ],
    )


ASSETS_ROUTER = create_static_files_router(
    path=ASSETS,
    directories=[Path(swagger_ui.__file__).parent / "static"],
    opt={"exclude_from_auth": True, ANY_QUERY: True},
    cache_control=CacheControlHeader(public=True, max_age=3600),
    include_in_schema=False,
)


# by status: what a success is
SUCCESSES = {200: "The answer", 201: "Created", 202: "Accepted: the work follows", 204: "Done; the answer is empty"}
WITHOUT_LOCATION = {"receiveLead"}  # no route reads one lead
LOCATION = OpenAPIHeader(
    schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.URI_REFERENCE), description="The path of what was created"
)
WITH_WARNING = {"createCustomer", "changeCustomer", "createPillar", "changePillar"}
WARNING = OpenAPIHeader(
    schema=Schema(type=OpenAPIType.STRING),
    description='Only if Xero could not be asked, or lacks a task that a pillar keeps: `199 stint "…"`, several with commas',
)


WITH_CSV = {"getXeroReconciliation", "getHoursReport"}  # with format=csv
CSV_IN_PAGES = {"getXeroReconciliation"}
CSV = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
LINK = OpenAPIHeader(
    schema=Schema(type=OpenAPIType.STRING), description='Only with `format=csv`: the next page, as `<…>; rel="next"` (RFC 8288)'
)


@dataclass
class _CorrectedOperation(Operation):
    """Corrects what Litestar documents:

    - An optional query parameter is left out, and never null.
    - A response that can have several shapes matches any of them (`anyOf`). `oneOf` would be wrong: an empty list matches all.
    - A 201 has the header `Location`. The answer to what is checked in Xero has `Warning`.
    """

    def __post_init__(self) -> None:
        for parameter in self.parameters or []:
            if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
                parameter.schema = _without_null(parameter.schema)
        for status, answer in (self.responses or {}).items():
            if status == "201" and self.operation_id not in WITHOUT_LOCATION and isinstance(answer, OpenAPIResponse):
                answer.headers = {**(answer.headers or {}), "Location": LOCATION}
            if status in ("200", "201") and self.operation_id in WITH_WARNING and isinstance(answer, OpenAPIResponse):
                answer.headers = {**(answer.headers or {}), "Warning": WARNING}
            if status == "200" and self.operation_id in WITH_CSV and isinstance(answer, OpenAPIResponse):
                answer.content = {**(answer.content or {}), "text/csv": CSV}
            if status == "200" and self.operation_id in CSV_IN_PAGES and isinstance(answer, OpenAPIResponse):
                answer.headers = {**(answer.headers or {}), "Link": LINK}
            for media in (getattr(answer, "content", None) or {}).values():
                if isinstance(media.schema, Schema) and media.schema.one_of is not None:
                    media.schema = replace(media.schema, any_of=media.schema.one_of, one_of=None)


@dataclass
class _OptionalBodyOperation(_CorrectedOperation):
    """The same with an optional body: Litestar would document every body as required."""

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


def make_document(app: Litestar) -> OpenAPI:
    """The document. The first call makes it, which takes half a second.

    Litestar documents errors in a shape that Stint never returns. So the documentation of each route is completed before: its
    tags, its operation id, and its responses.
    """
    if app.state.get("document") is None:
        for route in app.routes:
            for handler in getattr(route, "route_handlers", ()):
                if handler.resolve_include_in_schema():
                    _document(handler)
        app.state.document = app.openapi_schema
    document: OpenAPI = app.state.document
    return document


def _document(handler: HTTPRouteHandler) -> None:
    handler.tags = [operations.tag(handler)]
    handler.operation_id = operations.operation_id(handler)
    handler.responses = error_responses(handler) | dict(handler.responses or {})
    handler.response_description = SUCCESSES[handler.status_code]
    if handler.opt.get("exclude_from_auth"):
        handler.security = [{}]
    body = handler.parsed_fn_signature.parameters.get("data")
    is_optional = body is not None and body.has_default
    handler.operation_class = _OptionalBodyOperation if is_optional else _CorrectedOperation

"""Errors of the console as pages: the same statuses and texts as the API's problems, which stay JSON elsewhere."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response
from litestar.types import ExceptionHandlersMap

from api.console.gone import Gone, gone_page
from api.console.pages import HTML, environment, fragment, is_htmx
from api.console.sessions import READING, SignInNeeded
from api.console.urls import local_path, parts_of, url_of
from api.console.words import for_page
from api.http.problems import TITLES as PROBLEM_TITLES
from api.http.security import is_console

SIGN_IN = "/console/sign-in"
TITLES = {
    403: "You may not do this",
    404: "There is nothing here",
    405: "This page takes no such request",
    409: "This has changed meanwhile",
    422: "Something has to be corrected",
    429: "Too many requests",
    500: "Something went wrong",
    503: "Stint cannot answer just now",
}
Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]


def with_pages(handlers: ExceptionHandlersMap) -> ExceptionHandlersMap:
    """The handlers of errors, which answer requests to the console with a page."""
    return {kind: _with_page(handler) for kind, handler in handlers.items()} | {SignInNeeded: ask_to_sign_in, Gone: gone_page}


def _with_page(handler: Any) -> Handler:
    def wrapped(request: Request[Any, Any, Any], error: Any) -> Response[Any]:
        answer: Response[Any] = handler(request, error)
        return error_page(request, answer) if is_console(request.scope["path"]) else answer

    return wrapped


def error_page(request: Request[Any, Any, Any], answer: Response[Any]) -> Response[Any]:
    """The page for the problem that the API would answer. A message that waits for the next page stays for that."""
    problem = msgspec.json.decode(answer.content)
    status = answer.status_code or 500
    shown = fragment(
        request,
        "error.html",
        status=status,
        code=status,
        title=TITLES.get(status, problem["title"]),
        detail=for_page(problem["detail"]),
        request_id=problem["requestId"],
    )
    for name in ("Retry-After", "Allow"):
        if name in answer.headers:
            shown.headers[name] = answer.headers[name]
    return shown


def plain_error_page(status: int, detail: str, request_id: str) -> bytes:
    """The page of an error outside of the routes. It knows nothing of the request, and so does not fail because of it."""
    values: dict[str, Any] = {"me": None, "csrf": "", "flash": None, "navigation": [], "path": "/console", "query": {}}
    return (
        environment()
        .get_template("error.html")
        .render(
            **values,
            code=status,
            title=TITLES.get(status) or PROBLEM_TITLES.get(status, "Error"),
            detail=for_page(detail),
            request_id=request_id,
        )
        .encode()
    )


def ask_to_sign_in(request: Request[Any, Any, Any], _: SignInNeeded) -> Response[bytes]:
    """Redirects to the page to sign in, which leads back. A write leads back to the page that had its form."""
    if request.headers.get("accept") == "text/event-stream":
        return Response(b"", status_code=204, media_type=HTML)  # a browser does not connect again after this status
    target = f"{SIGN_IN}?next={quote(next_page(request), safe='')}"
    if request.scope["method"] not in READING:
        target += "&expired=true"
    if is_htmx(request):
        return Response(b"", status_code=204, headers={"HX-Redirect": target}, media_type=HTML)
    return Response(b"", status_code=303, headers={"Location": target}, media_type=HTML)


def next_page(request: Request[Any, Any, Any]) -> str:
    """The page that the person was on: of a form and of a part of a page the one that they are in."""
    if request.scope["method"] in READING and not is_htmx(request):
        return local_path(url_of(request.scope))
    before = parts_of(request.headers.get("hx-current-url") or request.headers.get("referer") or "")
    return local_path(before.path + (f"?{before.query}" if before.query else ""))

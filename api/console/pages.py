"""Pages and parts of pages as responses, from the templates in `templates/`; redirects with a message for the next page."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response

from api.console.cookies import host_cookie, pack, read_cookie, unpack
from api.console.formats import Formats
from api.console.sessions import session_of
from api.console.static import accepts_gzip, static_url
from api.console.urls import as_header
from api.console.words import for_page
from schemas.identity.external import hosted_page
from schemas.identity.users import User

FLASH = "__Host-stint-flash"
FLASH_SECONDS = 60
MAX_FLASH = 500  # characters
LEAST_COMPRESSED, GZIP_LEVEL = 1_000, 5  # bytes; a higher level costs more time than it saves
HTML = "text/html"  # the framework adds the charset


@dataclass(frozen=True)
class Entry:
    """An entry of the navigation, for those whom `is_for` accepts. `also`: other pages that belong to it."""

    path: str
    label: str
    is_for: Callable[[User], bool]
    also: tuple[str, ...] = ()


NAVIGATION = (
    Entry("/console", "Now", lambda user: user.is_internal),
    Entry("/console/hours", "Hours", lambda user: user.is_internal),
    Entry("/console/approve", "Approve", lambda user: user.is_admin),
    Entry("/console/reports", "Reports", lambda user: user.is_internal),
    Entry("/console/customers", "Customers", lambda user: user.is_internal),
    Entry("/console/connections", "Connections", lambda user: user.is_admin),
    Entry("/console/queues", "Queues", lambda user: user.is_admin, also=("/console/dead-letters",)),
    Entry("/console/my-hours", "Hours", lambda user: not user.is_internal),
)


@cache
def environment() -> Environment:
    """The templates. What is put into one is escaped; a name that has no value is an error."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters["for_page"] = for_page
    found.globals |= {
        "static": static_url,
        "pool_is_set_up": hosted_page.is_set_up,
        "pool_sign_out_url": hosted_page.sign_out_url,
    }
    return found


def page(request: Request[Any, Any, Any], template: str, *, status: int = 200, **values: Any) -> Response[bytes]:
    """The whole page of a template, which extends `base.html`. It shows the message of the redirect before it, once."""
    flash = take_flash(request)
    response = _render(request, template, status, values | {"flash": flash})
    if flash is not None:
        response.set_cookie(host_cookie(FLASH, "", 0))
    return response


def fragment(request: Request[Any, Any, Any], template: str, *, status: int = 200, **values: Any) -> Response[bytes]:
    """A part of a page, for htmx; or a whole page that leaves the message of a redirect to the next one."""
    return _render(request, template, status, values | {"flash": None})


def redirect(path: str, message: str = "", *, kind: str = "done") -> Response[bytes]:
    """303 to a page, which shows the message. `kind`: done, or warning."""
    response = Response(b"", status_code=303, headers={"Location": as_header(path)}, media_type=HTML)
    if message:
        response.set_cookie(host_cookie(FLASH, pack([kind, for_page(message)[:MAX_FLASH]]), FLASH_SECONDS))
    return response


def is_htmx(request: Request[Any, Any, Any]) -> bool:
    """Whether htmx asks for a part of a page; not for a boosted link or form, which gets a whole page."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"


def take_flash(request: Request[Any, Any, Any]) -> tuple[str, str] | None:
    """Kind and text of the message for this page, if there is one. It comes from a cookie, so it is text and nothing else."""
    match unpack(read_cookie(request.scope, FLASH)):
        case [str(kind), str(message)]:
            return ("warning" if kind == "warning" else "done"), message
        case _:
            return None


def _render(request: Request[Any, Any, Any], template: str, status: int, values: dict[str, Any]) -> Response[bytes]:
    session, settings = session_of(request), request.app.state.context.settings
    me, path = session.user if session is not None else None, request.scope["path"]
    context = {
        "me": me,
        "csrf": session.csrf if session is not None else "",
        "settings": settings,
        "show": Formats.of(request.headers.get("accept-language", ""), settings.stint_timezone),
        "path": path,
        "query": dict(parse_qsl(request.scope["query_string"].decode())),
        "navigation": [(entry, _is_current(entry, path)) for entry in NAVIGATION if me is not None and entry.is_for(me)],
    }
    text = environment().get_template(template).render(context | values).encode()
    if len(text) < LEAST_COMPRESSED or not (accepts_gzip(request) and is_safe_to_compress(request)):
        return Response(text, status_code=status, media_type=HTML)
    compressed = gzip.compress(text, GZIP_LEVEL, mtime=0)
    return Response(compressed, status_code=status, media_type=HTML, headers={"Content-Encoding": "gzip"})


def is_safe_to_compress(request: Request[Any, Any, Any]) -> bool:
    """Whether a page of Stint or the person asks, not another site. A site that chooses what a page repeats, such as the words
    of a search, and sees the sizes of many compressed answers could guess what else is in the page (BREACH)."""
    return request.headers.get("sec-fetch-site") in ("same-origin", "none")


def _is_current(entry: Entry, path: str) -> bool:
    beginnings = (entry.path, *entry.also)
    return path in beginnings or (
        entry.path != "/console" and any(path.startswith(f"{beginning}/") for beginning in beginnings)
    )

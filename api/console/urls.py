"""URLs that clients send: any text, which may be none."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from api.http.security import is_console


def parts_of(text: str) -> SplitResult:
    """The parts of the URL; empty ones of a text that is none."""
    try:
        return urlsplit(text)
    except ValueError:
        return urlsplit("")


def local_path(text: str, default: str = "/console") -> str:
    """The path of the console that a link of a request names, else the default: never another site."""
    parts = parts_of(text)
    is_local = text.startswith("/console") and not parts.scheme and not parts.netloc and "\\" not in text and text.isprintable()
    return text if is_local and is_console(parts.path) and ".." not in unquote(parts.path) else default


def url_of(scope: Mapping[str, Any]) -> str:
    """Path and query of the request, as they were sent."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope["query_string"]
    return (raw + b"?" + query if query else raw).decode("latin-1")


def as_header(url: str) -> str:
    """The URL with nothing but ASCII, as the header Location needs it. What is quoted already stays as it is."""
    return quote(url, safe="/#%[]=:;$&()+,!?*@'~")

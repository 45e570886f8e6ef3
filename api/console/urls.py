"""URLs that clients send: any text, which may be none."""

from urllib.parse import SplitResult, urlsplit

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
    is_local = not parts.scheme and not parts.netloc and "\\" not in text and text.isprintable()
    return text if is_local and is_console(parts.path) and ".." not in parts.path else default

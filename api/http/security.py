"""Headers that every response has: the contract's CORS, and what tells browsers and caches to be careful."""

from litestar.utils.path import normalize_path

from api.http.cors import HEADERS, Application, Message, Receive, Scope, Send

# A response of the API is no page: if a browser opens one, it runs and loads nothing.
API_POLICY = b"default-src 'none'; frame-ancestors 'none'"
# Swagger UI, whose files are under /docs-assets. It styles with attributes, and draws its icons from data: URLs.
PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The console: nothing inline, nothing from elsewhere.
CONSOLE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
ALWAYS = [
    *HEADERS,
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
]
# Pages of the console: no other site reads them. A form's request has an Origin, which no-referrer would make `null`.
CONSOLE = [(name, value) for name, value in ALWAYS if not name.startswith(b"access-control-") and name != b"referrer-policy"]
CONSOLE.append((b"referrer-policy", b"same-origin"))
HSTS = (b"strict-transport-security", b"max-age=31536000")  # a year
NO_STORE = (b"cache-control", b"no-store")


def common_headers(public_url: str) -> list[tuple[bytes, bytes]]:
    """The headers of every response of the API. HSTS only where clients come by https, as PUBLIC_URL says."""
    return _with_hsts(ALWAYS, public_url)


def _with_hsts(headers: list[tuple[bytes, bytes]], public_url: str) -> list[tuple[bytes, bytes]]:
    return [*headers, HSTS] if public_url.lower().startswith("https://") else headers


def refusal_headers(public_url: str) -> list[tuple[bytes, bytes]]:
    """The headers of a response that is sent before there is a request: all of them."""
    return [*common_headers(public_url), (b"content-security-policy", API_POLICY), NO_STORE]


def with_common_headers(app: Application, public_url: str) -> Application:
    """Adds the headers to every response. Litestar's own CORS depends on Origin, cookie and path, so it is not used. A response
    that does not say how it may be cached must not be stored: it may be one user's."""
    of_api, of_console = common_headers(public_url), _with_hsts(CONSOLE, public_url)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        common, policy = of_api, API_POLICY
        path = normalize_path(scope["path"])
        if path.startswith("/docs"):
            policy = PAGE_POLICY
        elif is_console(path):
            common, policy = of_console, CONSOLE_POLICY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = message["headers"]
                more = [(b"content-security-policy", policy)]
                if not any(name.lower() == b"cache-control" for name, _ in sent):
                    more.append(NO_STORE)
                message["headers"] = [*sent, *common, *more]
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped


def is_console(path: str) -> bool:
    """Whether the path is one of the console's. Routes ignore slashes that are doubled, or at the end, so this does too."""
    path = normalize_path(path)
    return path == "/console" or path.startswith("/console/")

"""The contract's CORS headers; OPTIONS is answered 204 without a token. api/http/security.py adds them to every response."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]  # an ASGI application; each framework has its own types for it

HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-headers", b"Content-Type,Authorization"),
    (b"access-control-allow-methods", b"OPTIONS,GET,POST,PUT,PATCH,DELETE"),
    # what a script may read beyond the few headers that browsers always show
    (b"access-control-expose-headers", b"Location,Retry-After,X-Request-Id,Allow,WWW-Authenticate,Content-Disposition,Warning"),
]


def with_preflight(app: Application) -> Application:
    """Answers OPTIONS on any path."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await app(scope, receive, send)

    return wrapped

"""CORS exactly as the contract has it, on every answer: success, 4xx, 5xx, unknown path. OPTIONS answers 204 without auth."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]  # ASGI; each framework has types of its own for the same thing

HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-headers", b"Content-Type,Authorization"),
    (b"access-control-allow-methods", b"OPTIONS,GET,POST,PUT,PATCH,DELETE"),
]


def with_cors(app: Application) -> Application:
    """Wraps the whole application: the framework's own CORS answers differently by Origin, cookie and path."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await app(scope, receive, send_with_headers)

    return answer


def with_preflight(app: Application) -> Application:
    """Answers OPTIONS on any path."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await app(scope, receive, send)

    return answer

"""The API's application in the test's own process, so that a test can cancel a request at any point."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from api.app import create_app
from api.http.server import CONNECTION, ClientConnection
from schemas.settings import Settings

Headers = dict[str, str]


@dataclass
class Exchange:
    """One request, and its answer."""

    method: str
    path: str
    body: bytes = b""
    headers: Headers = field(default_factory=dict)
    status: int = 0
    content: bytes = b""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)


class InProcess:
    """A running application."""

    def __init__(self, app: Any, connection: ClientConnection) -> None:
        self._app, self._connection = app, connection

    def request(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """Runs a request. Its client disconnects when `exchange.disconnected` is set."""
        path, _, query = exchange.path.partition("?")
        headers = {name.lower(): value for name, value in exchange.headers.items()}
        if exchange.body:
            headers.setdefault("content-length", str(len(exchange.body)))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
            "method": exchange.method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "extensions": {CONNECTION: self._connection},
        }  # fmt: skip
        is_sent = False

        async def receive() -> dict[str, Any]:
            nonlocal is_sent
            if not is_sent:
                is_sent = True
                return {"type": "http.request", "body": exchange.body, "more_body": False}
            await exchange.disconnected.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            await asyncio.sleep(0)  # a full socket makes it wait
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            else:
                exchange.content += message.get("body", b"")

        request: Coroutine[Any, Any, None] = self._app(scope, receive, send)
        return request

    async def metrics(self) -> dict[str, float]:
        """The values of /metrics by their names and labels."""
        exchange = Exchange("GET", "/metrics")
        await self.request(exchange)
        lines = [line for line in exchange.content.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def json_exchange(method: str, path: str, *, token: str, body: Any = None) -> Exchange:
    """A request with a bearer token, and with a JSON body unless it is None."""
    headers = {"Authorization": f"Bearer {token}"}
    if body is None:
        return Exchange(method, path, headers=headers)
    return Exchange(method, path, json.dumps(body).encode(), headers | {"Content-Type": "application/json"})


@asynccontextmanager
async def in_process(settings: Settings) -> AsyncIterator[InProcess]:
    """The application, between its start and its end."""
    app: Any = create_app(settings)
    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    lifespan = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put))
    here, there = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here)
    try:
        await to_app.put({"type": "lifespan.startup"})
        assert (await from_app.get())["type"] == "lifespan.startup.complete"
        yield InProcess(app, ClientConnection(transport))
        await to_app.put({"type": "lifespan.shutdown"})
        assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
        await lifespan
    finally:
        transport.close()
        there.close()

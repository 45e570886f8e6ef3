"""What every request passes through: a request id, a log line, metrics, and strict JSON parsing."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.types import Empty
from prometheus_client import Counter, Histogram

from api.http.connection_limits import MAX_HEAD_BYTES, TOO_LARGE
from api.http.cors import Application, Message, Receive, Scope, Send
from api.http.limits.json_text import DEFAULT_BOUNDS, JSON_BOUNDS, parse_json
from api.http.problems import INTERNAL, BadRequest, log_unexpected, problem
from api.http.security import is_console
from api.http.server import CONNECTION
from schemas.logs import log_context
from schemas.settings import LOOPBACK, Settings

logger = logging.getLogger("stint.request")

MAX_BODY_BYTES = 256 * 1024
MAX_QUERY_BYTES, MAX_PARAMETERS = 8 * 1024, 100  # Litestar keeps the last 1,024 queries in memory, parsed
MAX_CONTENT_TYPE = 200
# IPv6 networks whose last 32 bits are an IPv4 address: of sockets for both versions, of SIIT and of NAT64
WITH_IPV4 = [IPv6Network(network) for network in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")]
INVALID_URL = "The path or the query contains a NUL or is not UTF-8."
SEND_JSON = "Send the body as JSON, with Content-Type: application/json."
SEND_PLAIN = "Send the body as it is, without Content-Encoding: compressed bodies are not read."

# status, detail and request id of an error, as a page
ErrorPage = Callable[[int, str, str], bytes]
# when the current request arrived, by time.perf_counter
request_started: ContextVar[float] = ContextVar("request_started")

REQUEST_SECONDS = Histogram("stint_request_seconds", "Time to answer", ["method", "route"])
REQUESTS = Counter("stint_requests_total", "Requests answered", ["method", "route", "status"])
# without labels, so that it is 0 before the first: Prometheus does not see how much a counter has grown before its first value
FAILED = Counter("stint_requests_failed_total", "Requests answered with 5xx")
_OF_BODIES = (b"content-length", b"transfer-encoding")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def with_request_log(app: Application, error_page: ErrorPage) -> Application:
    """Gives each request an id (`X-Request-Id`, also in problems and logs), a log line and metrics. Refuses requests that no
    route can handle: headers that are too large, a NUL or invalid UTF-8 in the path or the query. These refusals, and the last
    answer to an error, are pages at paths of the console."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        request_id = os.urandom(16).hex()
        scope.setdefault("state", {})["request_id"] = request_id
        log_context.set({"request": request_id})
        started, status, is_recorded, is_started = time.perf_counter(), 500, False, False
        request_started.set(started)
        if _is_forwarded_by_unknown(scope):
            _warn_of_unknown_proxy()

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_started
            if message["type"] == "http.response.start":
                status, is_started = message["status"], True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if _is_stream(message):
                    record()
            await send(message)

        def record() -> None:
            nonlocal is_recorded
            if not is_recorded:
                is_recorded = True
                _record(scope, status, time.perf_counter() - started)

        async def refuse(status: int, detail: str) -> None:
            if is_console(scope["path"]):
                await _send(send_with_id, status, b"text/html; charset=utf-8", error_page(status, detail, request_id))
            else:
                body = msgspec.json.encode(problem(status, detail, request_id=request_id))
                await _send(send_with_id, status, b"application/problem+json", body)

        try:
            if (refusal := _refusal(scope)) is not None:
                await refuse(*refusal)
            else:
                await app(scope, receive, send_with_id)
        except Exception as error:  # of what makes the answers to errors
            if is_started:
                raise
            log_unexpected(error)
            await refuse(500, INTERNAL)
        finally:
            record()

    return wrapped


def _is_stream(message: Message) -> bool:
    """Whether the response is an event stream. It is recorded when it starts, because its duration depends on the client."""
    return any(
        name == b"content-type" and value.partition(b";")[0] == b"text/event-stream" for name, value in message["headers"]
    )


def _record(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = str(scope.get("path_template") or "unknown")
    histogram, counter = _metrics_of(method, route, status)
    histogram.observe(seconds)
    counter.inc()
    if status >= 500:
        FAILED.inc()
    level = logging.WARNING if status >= 500 else logging.INFO
    logger.log(
        level, "%s %s %d", method, route, status, extra={"path": scope["path"], "milliseconds": round(seconds * 1000, 1)}
    )


@cache
def _metrics_of(method: str, route: str, status: int) -> tuple[Histogram, Counter]:
    """The metrics with these labels. There are as many as methods, routes and statuses, whatever clients send."""
    return REQUEST_SECONDS.labels(method, route), REQUESTS.labels(method, route, str(status))


def _is_forwarded_by_unknown(scope: Scope) -> bool:
    """Whether an X-Forwarded-For is ignored, because its sender is not in TRUSTED_PROXIES: else the server would have replaced
    the client's address."""
    if not any(name == b"x-forwarded-for" and value.strip() for name, value in scope["headers"]):
        return False
    connection = scope.get("extensions", {}).get(CONNECTION)
    peer = connection.transport.get_extra_info("peername") if connection is not None else None
    return peer is not None and tuple(scope.get("client") or ()) == tuple(peer[:2])


@cache
def _warn_of_unknown_proxy() -> None:
    """Once per process: the header may also come from a client that invents it."""
    logger.warning(
        "X-Forwarded-For is ignored, because its sender is not in TRUSTED_PROXIES. If it is your proxy, add its address: else "
        "all clients behind it count as one client in rate limits."
    )


def client_key(request: Request[Any, Any, Any]) -> str:
    """The rate-limit key of an unauthenticated client: the network that it is in."""
    return client_network(request.client.host if request.client else "")


def client_network(host: str) -> str:
    """The network that counts as one client: an IPv4 address, or an IPv6 /64, which one household or firm has.

    An IPv4 address may be written in IPv6 (`::ffff:192.0.2.1`, `64:ff9b::192.0.2.1`). Any address may have a zone, brackets or
    a port, as proxies write it. All other texts count as one client, so that nobody gets new limits by inventing names.
    """
    address = _parse_address(host)
    if address is None:
        return "unknown"
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)


def _parse_address(host: str) -> IPv4Address | IPv6Address | None:
    text = host.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if any(address in network for network in WITH_IPV4):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


FORWARDING = (
    "forwarded", "via", "x-forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl", "x-original-forwarded-for", "x-real-ip",
    "x-client-ip", "true-client-ip", "cf-connecting-ip", "cf-connecting-ipv6", "fastly-client-ip", "x-cluster-client-ip",
    "x-envoy-external-address",
)  # fmt: skip


def is_local(request: Request[Any, Any, Any]) -> bool:
    """Whether the client is on this machine, and no header says that it is a proxy. A proxy that adds none looks the same."""
    address = _parse_address(request.client.host if request.client else "")
    return address is not None and address.is_loopback and not any(name in request.headers for name in FORWARDING)


def is_behind_a_proxy(settings: Settings) -> bool:
    """Whether clients reach this API through a proxy, by its settings.

    If so, a request from this machine may be anybody's, even without the headers of a proxy.
    """
    try:
        host = urlsplit(settings.public_url).hostname
    except ValueError:
        return True
    return bool(settings.trusted_proxies) or host not in LOOPBACK


def _refusal(scope: Scope) -> tuple[int, str] | None:
    """Status and detail if no route can handle the request, else None. OPTIONS is answered for any path."""
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEAD_BYTES:
        return 431, TOO_LARGE
    if len(scope["query_string"]) > MAX_QUERY_BYTES or scope["query_string"].count(b"&") >= MAX_PARAMETERS:
        return 400, f"The query is longer than {MAX_QUERY_BYTES // 1024} KiB, or has more than {MAX_PARAMETERS} parameters."
    if scope["method"] != "OPTIONS" and _has_invalid_path(scope):
        return 400, INVALID_URL
    return None


def _has_invalid_path(scope: Scope) -> bool:
    path, query = scope.get("raw_path") or b"", scope["query_string"]
    if b"%" not in path and b"%" not in query and path.isascii() and query.isascii():
        return b"\0" in path or b"\0" in query
    raw = unquote_to_bytes(path) + b"?" + unquote_to_bytes(query.replace(b"+", b" "))
    try:
        return "\0" in raw.decode()
    except UnicodeDecodeError:
        return True


async def _send(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is parsed strictly.

    Litestar's own request would accept text/plain, NULs, and the last of two equal keys. It would answer deep nesting and
    invalid UTF-8 with 500.
    """

    async def body(self) -> bytes:
        if not announces_body(self.scope["headers"]):
            return b""
        seconds = self.app.state.context.settings.stint_body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await super().body()
        except TimeoutError:  # else a client that sends a byte a minute would keep a request open indefinitely
            raise BadRequest(408, slow_body(seconds)) from None
        except InternalServerException:  # the client disconnected: not a server error, so not one in logs and metrics either
            raise BadRequest(400, "The body ended before it was complete.") from None

    async def json(self) -> Any:
        if self._has_no_body(await self.body()):
            return Empty  # as Litestar has it for a body of 0 bytes
        content_type = "" if len(self.headers.get("content-type", "")) > MAX_CONTENT_TYPE else self.content_type[0]
        if content_type != "application/json":
            raise BadRequest(415, SEND_JSON)
        if self.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise BadRequest(415, SEND_PLAIN)
        return parse_json(await self.body(), self.route_handler.opt.get(JSON_BOUNDS, DEFAULT_BOUNDS))

    def _has_no_body(self, body: bytes) -> bool:
        """Whether the client sent nothing on a route whose body is optional. Some clients send blanks, or an empty object
        without a Content-Type, as on routes without a body."""
        field = self.route_handler.parsed_fn_signature.parameters.get("data")
        if field is None or not field.is_optional:
            return False
        return not body.strip() or (b"".join(body.split()) == b"{}" and "content-type" not in self.headers)


def announces_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a body follows these headers, which are those of the ASGI scope. HTTP has no body without one of the two."""
    return any(name in _OF_BODIES and value != b"0" for name, value in headers)


def slow_body(seconds: float) -> str:
    """The detail of a 408."""
    return f"The body was not complete within {seconds:g} seconds; send it faster."

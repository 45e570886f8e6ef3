"""What every request passes through: an id, a log line, a measurement, and a reader of JSON that takes nothing doubtful."""

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import uuid4

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.typing import FieldDefinition
from prometheus_client import Counter, Histogram

from api.connections import MAX_HEAD_BYTES, TOO_LARGE
from api.cors import Application, Message, Receive, Scope, Send
from api.problems import BadRequest, problem
from schemas.errors import Invalid
from schemas.logs import about

logger = logging.getLogger("stint.request")

MAX_BODY_BYTES = 256 * 1024
MAX_DEPTH = 32

# when the request that is being answered came in, by time.perf_counter
begun: ContextVar[float] = ContextVar("begun")

SECONDS = Histogram("stint_request_seconds", "Time to answer", ["method", "route"])
ANSWERS = Counter("stint_requests_total", "Requests answered", ["method", "route", "status"])
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def observed(app: Application) -> Application:
    """Gives each request an id (`X-Request-Id`, also in problems and logs), a log line and its measurements; refuses what
    no route could use: headers that are too large, a NUL or bad UTF-8 in the path or the query."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        about.set({"request": request_id})
        came, status, is_noted = time.perf_counter(), 500, False
        begun.set(came)

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if _is_stream(message):
                    note()
            await send(message)

        def note() -> None:
            nonlocal is_noted
            if not is_noted:
                is_noted = True
                _note(scope, status, time.perf_counter() - came)

        try:
            if (refusal := _refusal(scope)) is not None:
                await _refuse(send_observed, request_id, *refusal)
            else:
                await app(scope, receive, send_observed)
        finally:
            note()

    return answer


def _is_stream(message: Message) -> bool:
    """An answer that goes on: it has been given once it has begun, and how long its reader stays says nothing of us."""
    return (b"content-type", b"text/event-stream") in [(name, value.partition(b";")[0]) for name, value in message["headers"]]


def _note(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = str(scope.get("path_template") or "unknown")
    SECONDS.labels(method, route).observe(seconds)
    ANSWERS.labels(method, route, str(status)).inc()
    level = logging.WARNING if status >= 500 else logging.INFO
    logger.log(
        level, "%s %s %d", method, route, status, extra={"path": scope["path"], "milliseconds": round(seconds * 1000, 1)}
    )


def client_of(request: Request[Any, Any, Any]) -> str:
    """Whom a limit on strangers counts: the network address, of IPv6 the part that one household or firm has to itself."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host[:64]
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)


def _refusal(scope: Scope) -> tuple[int, str] | None:
    """Why no route could use the request, with the status. OPTIONS is answered whatever the path is."""
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEAD_BYTES:
        return 431, TOO_LARGE
    if scope["method"] != "OPTIONS" and _is_unusable(scope):
        return 400, "The path or the query holds a NUL or is not UTF-8."
    return None


def _is_unusable(scope: Scope) -> bool:
    raw = unquote_to_bytes(scope.get("raw_path") or b"") + b"?" + unquote_to_bytes(scope["query_string"].replace(b"+", b" "))
    try:
        return "\0" in raw.decode()
    except UnicodeDecodeError:
        return True


async def _refuse(send: Send, request_id: str, status: int, detail: str) -> None:
    body = msgspec.json.encode(problem(status, detail, request_id=request_id))
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse_doubtful_query(request: Request[Any, Any, Any]) -> None:
    """The framework takes the word `null` in a query for a parameter that was left out, unless that is a text: `userId=null`
    would list everybody's; and of a parameter that comes twice it takes one and forgets the other. Raises Invalid."""
    values = request.query_params.dict()
    for name, given in values.items():
        if any(value.lower() == "null" for value in given) and name not in _parameters(request, _is_text):
            raise Invalid(name, "null is no value here; leave the parameter out.")
        if len(given) > 1 and name not in _parameters(request, _is_list):
            raise Invalid(name, "This came more than once; send one value.")


def _parameters(request: Request[Any, Any, Any], kind: Callable[[FieldDefinition], bool]) -> set[str]:
    """The names of the route's parameters of a kind."""
    fields = request.route_handler.parsed_fn_signature.parameters.values()
    return {getattr(field.kwarg_definition, "name", None) or field.name for field in fields if kind(field)}


def _is_text(field: FieldDefinition) -> bool:
    return any(part.annotation is str for part in (field, *field.inner_types))


def _is_list(field: FieldDefinition) -> bool:
    """May it come more than once?"""
    return any(part.is_non_string_collection for part in (field, *field.inner_types))


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is read strictly: the framework would take text/plain, the last of two equal keys, NULs, and
    answer 500 to deep nesting or bad UTF-8."""

    async def body(self) -> bytes:
        seconds = self.app.state.settings.stint_body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await super().body()
        except TimeoutError:  # else a byte a minute would hold a request open for ever
            raise BadRequest(408, f"The body was not there within {seconds:g} seconds; send it faster.") from None
        except InternalServerException:  # the client left in the middle of it: no error of ours, in logs and metrics neither
            raise BadRequest(400, "The body ended before it was complete.") from None

    async def json(self) -> Any:
        content_type, _ = self.content_type
        if content_type != "application/json":
            raise BadRequest(415, "Send the body as JSON, with Content-Type: application/json.")
        return read_json(await self.body())


def read_json(body: bytes) -> Any:
    """The value of a JSON text. Raises BadRequest for anything that two readers could understand differently."""
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=_without_duplicates, parse_float=_finite, parse_constant=_no_constant
        )
    except RecursionError:
        raise BadRequest(400, f"The JSON is nested deeper than {MAX_DEPTH} levels.") from None
    except UnicodeDecodeError:
        raise BadRequest(400, "The body is not UTF-8.") from None
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadRequest(400, f"The body is not valid JSON{where}.") from None
    _check(value, MAX_DEPTH)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest(400, "The JSON has the same key twice in one object.")
    return found


def _no_constant(name: str) -> None:
    raise BadRequest(400, f"{name} is not JSON.")


def _finite(text: str) -> float:
    # Python reads 1e999 as infinity, which no JSON can say again
    if math.isinf(number := float(text)):
        raise BadRequest(400, "The JSON holds a number that is too large.")
    return number


UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _check(value: Any, depth: int) -> None:
    if depth == 0 and isinstance(value, dict | list):
        raise BadRequest(400, f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            raise BadRequest(400, "The JSON holds a NUL or half a surrogate pair.")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, 0)
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)

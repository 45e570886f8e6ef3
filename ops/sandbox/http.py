"""HTTP/1.1 at the level of bytes, because a stand-in must be able to send half an answer."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_LARGEST_BODY_BYTES = 4 * 1024 * 1024


class BadRequest(Exception):
    """The client did not send a valid HTTP request."""


@dataclass(frozen=True)
class Request:
    """One complete request. The names of its headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.time)

    def json(self) -> Any:
        """The body as JSON, or None for invalid JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def form(self) -> dict[str, str]:
        return _flat(self.body.decode(errors="replace"))


@dataclass(frozen=True)
class Response:
    """An answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, body: Any, **headers: str) -> "Response":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(body).encode(), {"Content-Type": "application/json; charset=utf-8", **named})

    @classmethod
    def html(cls, text: str) -> "Response":
        return cls(200, text.encode(), {"Content-Type": "text/html; charset=utf-8"})

    def encode(self) -> bytes:
        """The answer as the bytes to send."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection, or None after the client has closed it. Raises BadRequest."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequest("the head is incomplete") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("the head is too long") from error
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, _version = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines if line)}
        body = await _read_body(reader, headers)
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise BadRequest(str(error)) from error
    parts = urlsplit(target)
    return Request(method, unquote(parts.path), _flat(parts.query), headers, body)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(_bounded(int(headers.get("content-length", "0"))))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(_bounded(size + len(body)) - len(body))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
        pass
    return body


def _bounded(size: int) -> int:
    if not 0 <= size <= _LARGEST_BODY_BYTES:
        raise ValueError("the body is too long")
    return size


def _flat(text: str) -> dict[str, str]:
    """A query or a form. The values of a repeated name are joined with commas, as Xero does."""
    return {name: ",".join(values) for name, values in parse_qs(text, keep_blank_values=True).items()}

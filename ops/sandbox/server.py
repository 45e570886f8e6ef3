"""The server of a stand-in: it logs each call, applies its fault, and has routes that control it.

Every stand-in has these routes, which have no faults and are not logged:

    GET    /sandbox/calls      every call: {n, at, endAt, method, path, query, account, status, key, fault}; times are
                               seconds since 1970, `status` is the one that was (or would have been) answered
    DELETE /sandbox/calls      deletes the log
    PUT    /sandbox/faults     {"rules": [Rule, …]}, see faults.py; replaces all rules
    GET    /health             204
"""

import asyncio
import contextlib
import itertools
import signal
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from ops.sandbox.faults import Fault, Faults
from ops.sandbox.http import BadRequest, Request, Response, read_request

_MOST_CALLS = 100_000  # in the log


@dataclass
class Call:
    """One request in the log."""

    n: int
    at: float
    method: str
    path: str
    query: dict[str, str]
    account: str | None
    key: str | None
    endAt: float | None = None
    status: int | None = None
    fault: str | None = None


class StandIn(ABC):
    """The part that differs between stand-ins."""

    latency_seconds = 0.0

    def __init__(self) -> None:
        self.faults = Faults()
        self.calls: deque[Call] = deque(maxlen=_MOST_CALLS)
        self._numbers = itertools.count(1)

    @abstractmethod
    def control(self, request: Request) -> Response | None:
        """Answers a request that is not part of the service: one that controls the stand-in, or a page. None for others."""

    @abstractmethod
    def enter(self, request: Request) -> Response | None:
        """Refuses a call (no access, over a limit), or returns None: then `leave` follows at its end."""

    @abstractmethod
    def leave(self, request: Request) -> None: ...

    @abstractmethod
    def answer(self, request: Request) -> Response:
        """Performs the request. Its effect stays, even if the answer does not arrive."""

    @abstractmethod
    def account(self, request: Request) -> str | None:
        """The account that calls, for the log."""

    def common_control(self, request: Request) -> Response | None:
        match request.method, request.path:
            case "GET", "/health":
                return Response(204)
            case "GET", "/sandbox/calls":
                return Response.json(200, [asdict(call) for call in self.calls])
            case "DELETE", "/sandbox/calls":
                self.calls.clear()
                return Response(204)
            case "PUT", "/sandbox/faults":
                return self._put_faults(request.json())
        return self.control(request)

    def _put_faults(self, body: Any) -> Response:
        try:
            self.faults.replace(body["rules"])
        except (ValidationError, TypeError, KeyError) as error:
            return Response.json(422, {"message": str(error)})
        return Response(204)

    def log(self, request: Request) -> Call:
        call = Call(
            next(self._numbers), request.at, request.method, request.path, dict(request.query), self.account(request),
            request.headers.get("idempotency-key"),
        )  # fmt: skip
        self.calls.append(call)
        return call


async def serve(stand_in: StandIn, *, host: str, port: int, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serves until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await _Connection(stand_in, reader, writer).run()

    server = await asyncio.start_server(handle, host, port)
    ready(server.sockets[0].getsockname()[1])
    await ended.wait()
    server.close()


class _Connection:
    """One connection of a client."""

    def __init__(self, stand_in: StandIn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stand_in, self.reader, self.writer = stand_in, reader, writer

    async def run(self) -> None:
        """Answers requests until the connection ends."""
        try:
            while request := await read_request(self.reader):
                if answer := self.stand_in.common_control(request):
                    await self._write(answer.encode())
                elif not await self._call(request):
                    self.writer.transport.abort()
                    return
        except BadRequest as error:
            await self._write(Response.json(400, {"message": str(error)}).encode())
        finally:
            self.writer.close()

    async def _call(self, request: Request) -> bool:
        """Handles one call of the service. Returns whether the connection stays open."""
        call = self.stand_in.log(request)
        refusal = self.stand_in.enter(request)
        if refusal:
            call.status, call.endAt = refusal.status, time.time()
            await self._write(refusal.encode())
            return True
        try:
            await asyncio.sleep(self.stand_in.latency_seconds)
            fault = self.stand_in.faults.for_request(request)
            call.fault = fault.kind if fault else None
            return await self._apply(fault, request, call) if fault else await self._answer(request, call)
        finally:
            self.stand_in.leave(request)
            call.endAt = time.time()

    async def _answer(self, request: Request, call: Call) -> bool:
        await self._write(self._do(request, call).encode())
        return True

    async def _apply(self, fault: Fault, request: Request, call: Call) -> bool:
        match fault.kind:
            case "status":
                call.status = fault.status
                if fault.body is not None:
                    await self._write(Response(fault.status, fault.body.encode(), fault.headers).encode())
                    return True
                body = {"message": f"{HTTPStatus(fault.status).phrase}: an injected fault"}
                await self._write(Response.json(fault.status, body, **fault.headers).encode())
                return True
            case "drop_before":
                return False
            case "late":
                return await self._late(fault, request, call)
        whole = self._do(request, call).encode()
        match fault.kind:
            case "drop_after":
                return False
            case "half":
                await self._write(whole[: len(whole) // 2])
                # the bytes must be sent before the connection is aborted
                await asyncio.sleep(0.05)
                return False
            case "stall":
                if await self._client_left(fault.seconds):
                    return False
                await self._write(whole)
            case "trickle":
                size = len(whole) // 10 + 1
                for start in range(0, len(whole), size):
                    await asyncio.sleep(fault.seconds / 10)
                    await self._write(whole[start : start + size])
        return True

    async def _late(self, fault: Fault, request: Request, call: Call) -> bool:
        """Performs the request late, even if the client has left: a proxy may delay a request like this."""
        started = time.monotonic()
        left = await self._client_left(fault.seconds)
        if left:
            await asyncio.sleep(max(0.0, fault.seconds - (time.monotonic() - started)))
        answer = self._do(request, call)
        if not left:
            await self._write(answer.encode())
        return not left

    def _do(self, request: Request, call: Call) -> Response:
        answer = self.stand_in.answer(request)
        call.status = answer.status
        return answer

    async def _client_left(self, seconds: float) -> bool:
        """Waits for `seconds`. Returns True as soon as the client has closed the connection, else False."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.reader.at_eof() and not self.writer.is_closing():  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.02)
                return True
        return False

    async def _write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

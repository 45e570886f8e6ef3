"""A stand-in as a server: it logs each call, lets it meet its fault, and takes orders on the side.

Routes that every stand-in has, all free of faults and out of the log:

    GET    /sandbox/calls      every call: {n, at, endAt, method, path, query, account, status, key, fault}; times are
                               seconds since 1970, `status` is what was (or would have been) answered
    DELETE /sandbox/calls      forgets them
    PUT    /sandbox/faults     {"rules": [Rule, …]}, see faults.py; replaces what was in force
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
from ops.sandbox.http import Answer, BadRequest, Request, read_request

_MOST_CALLS = 100_000  # that are remembered


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
    """What differs between stand-ins."""

    latency_seconds = 0.0

    def __init__(self) -> None:
        self.faults = Faults()
        self.calls: deque[Call] = deque(maxlen=_MOST_CALLS)
        self._numbers = itertools.count(1)

    @abstractmethod
    def order(self, request: Request) -> Answer | None:
        """Answers what is no part of the service itself: orders of a test, pages for a person; None for all else."""

    @abstractmethod
    def enter(self, request: Request) -> Answer | None:
        """A refusal at the door, or None: then the call is inside until `leave`."""

    @abstractmethod
    def leave(self, request: Request) -> None: ...

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Does what the request asks for. What it did stays done, whatever becomes of the answer."""

    @abstractmethod
    def account(self, request: Request) -> str | None:
        """Whose call it is, for the log."""

    def common_order(self, request: Request) -> Answer | None:
        match request.method, request.path:
            case "GET", "/health":
                return Answer(204)
            case "GET", "/sandbox/calls":
                return Answer.json(200, [asdict(call) for call in self.calls])
            case "DELETE", "/sandbox/calls":
                self.calls.clear()
                return Answer(204)
            case "PUT", "/sandbox/faults":
                return self._put_faults(request.json())
        return self.order(request)

    def _put_faults(self, body: Any) -> Answer:
        try:
            self.faults.replace(body["rules"])
        except (ValidationError, TypeError, KeyError) as error:
            return Answer.json(422, {"message": str(error)})
        return Answer(204)

    def begin(self, request: Request) -> Call:
        call = Call(
            next(self._numbers), request.at, request.method, request.path, dict(request.query), self.account(request),
            request.headers.get("idempotency-key"),
        )  # fmt: skip
        self.calls.append(call)
        return call


async def serve(stand_in: StandIn, *, host: str, port: int, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serves until SIGTERM or SIGINT."""
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await _Conversation(stand_in, reader, writer).hold()

    server = await asyncio.start_server(converse, host, port)
    ready(server.sockets[0].getsockname()[1])
    await over.wait()
    server.close()


class _Conversation:
    """One connection, from its first request to its end."""

    def __init__(self, stand_in: StandIn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stand_in, self.reader, self.writer = stand_in, reader, writer

    async def hold(self) -> None:
        try:
            while request := await read_request(self.reader):
                if ordered := self.stand_in.common_order(request):
                    await self._write(ordered.encode())
                elif not await self._call(request):
                    self.writer.transport.abort()
                    return
        except BadRequest as error:
            await self._write(Answer.json(400, {"message": str(error)}).encode())
        finally:
            self.writer.close()

    async def _call(self, request: Request) -> bool:
        """One call of the service; whether the connection goes on."""
        call = self.stand_in.begin(request)
        refusal = self.stand_in.enter(request)
        if refusal:
            call.status, call.endAt = refusal.status, time.time()
            await self._write(refusal.encode())
            return True
        try:
            await asyncio.sleep(self.stand_in.latency_seconds)
            fault = self.stand_in.faults.met_by(request)
            call.fault = fault.kind if fault else None
            return await self._meet(fault, request, call) if fault else await self._answer(request, call)
        finally:
            self.stand_in.leave(request)
            call.endAt = time.time()

    async def _answer(self, request: Request, call: Call) -> bool:
        await self._write(self._do(request, call).encode())
        return True

    async def _meet(self, fault: Fault, request: Request, call: Call) -> bool:
        match fault.kind:
            case "status":
                call.status = fault.status
                body = {"message": f"{HTTPStatus(fault.status).phrase}: so ordered"}
                await self._write(Answer.json(fault.status, body, **fault.headers).encode())
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
                # the bytes have to leave before the connection is torn
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
        """The client may have gone, as when a proxy holds the request: it is done all the same."""
        started = time.monotonic()
        left = await self._client_left(fault.seconds)
        if left:
            await asyncio.sleep(max(0.0, fault.seconds - (time.monotonic() - started)))
        answer = self._do(request, call)
        if not left:
            await self._write(answer.encode())
        return not left

    def _do(self, request: Request, call: Call) -> Answer:
        answer = self.stand_in.answer(request)
        call.status = answer.status
        return answer

    async def _client_left(self, seconds: float) -> bool:
        """Waits; True as soon as the client has closed the connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.reader.at_eof() and not self.writer.is_closing():  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.02)
                return True
        return False

    async def _write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

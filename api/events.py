"""Live events, as Server-Sent Events: a stream that says what changed, as long as its reader may know and does read."""

import asyncio
import logging
import time
from typing import Any

import psycopg
from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.response.base import ASGIResponse

from api.auth import Authenticator
from api.dependencies import TheAuthenticator, TheDatabase, TheListeners, TheSettings, TheUser
from api.listeners import Listener, Listeners
from api.problems import BadRequest
from api.requests import StrictRequest
from api.server import LINE, Line
from api.tokens import bearer, ends_at
from schemas.database import Database
from schemas.settings import Settings
from schemas.users import User

logger = logging.getLogger("stint.events")

HEARTBEAT = b":\n\n"
GOODBYE_SECONDS = 1.0
BUFFER_BYTES = 32 * 1024  # the kernel's, per stream: by itself it would keep megabytes for each reader that has stopped reading


@get(
    "/api/events",
    summary="Live events",
    responses={
        200: ResponseSpec(
            str, media_type="text/event-stream", description="Events, until either side hangs up", generate_examples=False
        )
    },
)
async def listen(
    request: StrictRequest,
    database: TheDatabase,
    authenticator: TheAuthenticator,
    listeners: TheListeners,
    settings: TheSettings,
    user: TheUser,
) -> ASGIResponse:
    """Says what changes while it does, as Server-Sent Events: `task`, `timeBill`, `activeTimer` or `focus`, with the `id` of
    the row (of an active timer or a focus: of the user). A customer's users hear of their own customer's tasks and approved
    bills. `reset` comes first, and whenever something may have been missed: read everything anew then."""
    access = Access(database, authenticator, bearer(request.headers), user)
    extensions: Any = request.scope["extensions"]
    return EventStream(listeners, access, settings, extensions[LINE])


class Access:
    """Somebody's right to listen. It lasts as long as the token, and only while a request with it would be answered."""

    def __init__(self, database: Database, authenticator: Authenticator, token: str, user: User) -> None:
        self._database, self._authenticator, self._token = database, authenticator, token
        self.user = user
        self.ends_at = ends_at(token)

    async def check(self) -> None:
        """Raises BadRequest (401) for somebody who may do nothing any more, or other things than before."""
        token = await self._authenticator.verified(self._token)  # first: it may need a connection itself
        async with self._database.connection() as conn:
            role = await self._authenticator.role(conn, token)
        if role is not self.user.role:
            raise BadRequest(401, "What you may do has changed; connect again.")


class EventStream(ASGIResponse):
    """An answer that goes on until its reader leaves, may not listen any more, does not read, or the server stops."""

    _should_set_content_length = False

    def __init__(self, listeners: Listeners, access: Access, settings: Settings, line: Line) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", "connection": "close"}
        super().__init__(media_type="text/event-stream", headers=headers)
        self._listeners, self._access, self._line = listeners, access, line
        self._heartbeat_seconds = settings.stint_heartbeat_seconds
        self._slow_seconds = settings.stint_slow_seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        begun = time.monotonic()
        with self._listeners.joined(self._access.user) as listener:
            # once more: what changed of the user before they listened, the listeners are not told
            await self._access.check()
            self._line.when_stopping(lambda: listener.end("stopping"))
            self._line.keep_at_most(BUFFER_BYTES)
            watching = asyncio.create_task(_watch(receive, listener))
            try:
                await self.start_response(send)
                await self._speak(listener, send)
                await self._hang_up(listener, send)
                await watching
            finally:
                watching.cancel()
        logger.info("a listener left: %s", listener.ended, extra={"seconds": round(time.monotonic() - begun)})

    async def _speak(self, listener: Listener, send: Any) -> None:
        while True:
            left = self._access.ends_at - time.time()
            if left <= 0:
                listener.end("expired")
            elif listener.is_doubtful:
                await self._check(listener)
            if listener.ended is not None:
                return
            listener.wake.clear()
            if events := listener.take():
                await self._send(listener, send, events)
                continue
            try:
                async with asyncio.timeout(min(self._heartbeat_seconds, left)):
                    await listener.wake.wait()
            except TimeoutError:
                await self._send(listener, send, HEARTBEAT)

    async def _check(self, listener: Listener) -> None:
        listener.is_doubtful = False
        try:
            await self._access.check()
        except BadRequest:
            listener.end("revoked")
        except psycopg.Error:  # away, or locked for long; whoever connects again is looked at again
            listener.end("unsure")

    async def _send(self, listener: Listener, send: Any, events: bytes) -> None:
        """What a client does not read piles up here and in the kernel until sending has to wait, for so long and no longer."""
        try:
            async with asyncio.timeout(self._slow_seconds):
                await send({"type": "http.response.body", "body": events, "more_body": True})
        except TimeoutError:
            listener.end("slow")

    async def _hang_up(self, listener: Listener, send: Any) -> None:
        """In good order if the client reads the end of it; else at once, since closing waits for what is still unread."""
        transport = self._line.transport
        try:
            async with asyncio.timeout(0 if listener.ended == "slow" else GOODBYE_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                while transport.get_write_buffer_size():  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.02)
        except TimeoutError:
            transport.abort()


async def _watch(receive: Any, listener: Listener) -> None:
    """Ends the listener when its client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end("left")

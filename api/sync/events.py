"""Live events, as Server-Sent Events: a stream of changes, open while the client has access and reads it."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Annotated, Any, Protocol

import psycopg
from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.response.base import ASGIResponse

from api.auth.auth import Authenticator
from api.auth.leases import Session
from api.auth.tokens import bearer_token
from api.dependencies import ApiRequest
from api.http.problems import BadRequest
from api.http.server import CONNECTION, ClientConnection
from api.sync.event_batches import EVERYTHING, Interest
from api.sync.event_listeners import Subscriber, Subscribers
from schemas.identity.users import User
from schemas.postgres.pool import Database
from schemas.settings import Settings
from schemas.sync.live_events import Kind

logger = logging.getLogger("stint.events")

HEARTBEAT = b":\n\n"
CLOSE_SECONDS = 1.0
# The kernel's send buffer of a stream. By default it grows to megabytes for each client that does not read.
SEND_BUFFER_BYTES = 32 * 1024


@get(
    "/api/events",
    summary="Live events",
    responses={
        200: ResponseSpec(
            str,
            media_type="text/event-stream",
            description="Events, until one side closes the connection",
            generate_examples=False,
        )
    },
)
async def listen(
    request: ApiRequest,
    kind: Annotated[
        list[Kind] | None, QueryParameter(description="Only these events; repeat it for several: `kind=activeTimer&kind=focus`")
    ] = None,
    own: Annotated[
        bool, QueryParameter(description="Of active timers, focus and time bills only your own; tasks belong to nobody")
    ] = False,
) -> ASGIResponse:
    """Sends each change when it is committed, as Server-Sent Events.

    The events are `task`, `timeBill`, `activeTimer` and `focus`, with the `id` of the row; of an active timer or a focus, with
    the `id` of the user. A customer's users get the tasks and approved bills of their own customer.

    `reset` is the first event. It comes again whenever changes may have been missed: then read everything again."""
    access = TokenAccess(request.database, request.authenticator, bearer_token(request.scope["headers"]), request.auth)
    return event_stream(request, access, Interest(None if kind is None else frozenset(kind), own))


class Access(Protocol):
    """A user's access to live events. `ends_at`: by time.monotonic()."""

    user: User
    ends_at: float

    async def check(self) -> None:
        """Raises BadRequest (401) when the user has no access any more, or another role than before."""


class TokenAccess:
    """Access by a token: valid until it expires, and while the user keeps their role."""

    def __init__(self, database: Database, authenticator: Authenticator, token: str, session: Session) -> None:
        self._database, self._authenticator, self._token = database, authenticator, token
        self.user, self.ends_at = session.user, session.ends_at

    async def check(self) -> None:
        """Raises BadRequest (401) when the user has no access any more, or another role than before."""
        role = await self._authenticator.current_role(self._database, self._token)
        if role is not self.user.role:
            raise BadRequest(401, "Your role has changed; connect again.")


def event_stream(request: ApiRequest, access: Access, interest: Interest = EVERYTHING) -> ASGIResponse:
    """The stream of the changes that this user may see and wants."""
    extensions: Any = request.scope["extensions"]
    return EventStream(request.subscribers, access, interest, request.settings, extensions[CONNECTION])


class EventStream(ASGIResponse):
    """A response that ends when the client disconnects, loses its access or does not read, or when the server stops."""

    _should_set_content_length = False

    def __init__(
        self, subscribers: Subscribers, access: Access, interest: Interest, settings: Settings, connection: ClientConnection
    ) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", "connection": "close"}
        super().__init__(media_type="text/event-stream", headers=headers)
        self._subscribers, self._access, self._interest, self._connection = subscribers, access, interest, connection
        self._heartbeat_seconds = settings.stint_heartbeat_seconds
        self._slow_seconds = settings.stint_slow_seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = time.monotonic()
        with self._subscribers.subscribe(self._access.user, self._interest) as subscriber:
            # this subscriber does not get a change of the user's rights that was committed before `subscribe`, and a lease may
            # be of before it
            await self._check_access(subscriber)
            self._connection.on_server_stop(lambda: subscriber.end("stopping"))
            self._connection.limit_send_buffer(SEND_BUFFER_BYTES)
            disconnect = asyncio.create_task(_wait_for_disconnect(receive, subscriber))
            try:
                await self.start_response(send)
                await self._send_events(subscriber, send)
                await self._close(subscriber, send)
                await disconnect
            finally:
                disconnect.cancel()
        logger.info("live events: stream ended why=%s", subscriber.ended, extra={"seconds": round(time.monotonic() - started)})

    async def _send_events(self, subscriber: Subscriber, send: Any) -> None:
        while True:
            seconds_left = self._access.ends_at - time.monotonic()
            if seconds_left <= 0:
                subscriber.end("expired")
            elif subscriber.must_recheck_access:
                await self._recheck_access(subscriber)
            if subscriber.ended is not None:
                return
            subscriber.wake.clear()
            if events := subscriber.take_pending():
                await self._send(subscriber, send, events)
                continue
            try:
                async with asyncio.timeout(min(self._heartbeat_seconds, seconds_left)):
                    await subscriber.wake.wait()
            except TimeoutError:
                await self._send(subscriber, send, HEARTBEAT)

    async def _recheck_access(self, subscriber: Subscriber) -> None:
        subscriber.must_recheck_access = False
        with suppress(BadRequest, psycopg.Error):
            await self._check_access(subscriber)

    async def _check_access(self, subscriber: Subscriber) -> None:
        """Ends the stream if its user has no access any more, or if that cannot be verified. Raises why."""
        try:
            await self._access.check()
        except BadRequest:
            subscriber.end("revoked")
            raise
        except psycopg.Error:  # unreachable or busy, or a statement failed; a client that reconnects is checked again
            subscriber.end("unverified")
            raise

    async def _send(self, subscriber: Subscriber, send: Any, events: bytes) -> None:
        """Sends the events. If the client does not read, all buffers become full: after STINT_SLOW_SECONDS the stream ends."""
        try:
            async with asyncio.timeout(self._slow_seconds):
                await send({"type": "http.response.body", "body": events, "more_body": True})
        except TimeoutError:
            subscriber.end("slow")

    async def _close(self, subscriber: Subscriber, send: Any) -> None:
        """Ends the response. If the client does not read its end within a second, it aborts the connection: a normal close
        would wait for the unread bytes."""
        transport = self._connection.transport
        try:
            async with asyncio.timeout(0 if subscriber.ended == "slow" else CLOSE_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                while transport.get_write_buffer_size():  # noqa: ASYNC110 - asyncio has no event for an empty buffer
                    await asyncio.sleep(0.02)
        except TimeoutError:
            transport.abort()


async def _wait_for_disconnect(receive: Any, subscriber: Subscriber) -> None:
    """Ends the stream when its client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
    subscriber.end("left")

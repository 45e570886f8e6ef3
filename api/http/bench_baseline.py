"""`python -m api.http.bench_baseline --fd N`: a minimal ASGI application with the API's uvicorn settings, for `./stint
bench`.

It answers every request with the same JSON: no routing, no token, no database. A request for live events is a stream, to which
it writes the same number of events four times a second. The difference between its speed and the API's is the cost of Stint
itself.
"""

import argparse
import asyncio
from typing import Any

from api.http.server import serve
from schemas.starting import listening_socket

BODY = b'{"id":"00000000-0000-4000-8000-000000000000","email":"nobody@example.com","name":"Nobody","role":"admin"}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}


EVENT = b'event: activeTimer\ndata: {"id":"00000000-0000-4000-8000-000000000000"}\n\n'
EVENTS_PER_WRITE = 7
WRITE_SECONDS = 0.25


class Clock:
    """Wakes all streams at the same time."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self._running = asyncio.create_task(self._run())

    async def wait(self) -> None:
        await self._next.wait()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            now, self._next = self._next, asyncio.Event()
            now.set()


clocks: list[Clock] = []  # one at most, made in the event loop


async def stream(send: Any) -> None:
    """Writes events until the connection is closed."""
    if not clocks:
        clocks.append(Clock())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    while True:
        await clocks[0].wait()
        await send({"type": "http.response.body", "body": EVENT * EVENTS_PER_WRITE, "more_body": True})


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers HTTP requests. The exception for the lifespan scope tells uvicorn that there is no lifespan."""
    assert scope["type"] == "http"
    if scope["path"] == "/api/events":
        return await stream(send)
    await send(START)
    await send({"type": "http.response.body", "body": BODY})


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="api.http.bench_baseline", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="a listening socket, which several processes may share")
    serve(app, host="", port=0, inherited=listening_socket(parser.parse_args().fd))


if __name__ == "__main__":
    main()

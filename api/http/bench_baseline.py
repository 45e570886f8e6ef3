"""`python -m api.http.bench_baseline --fd N`: a minimal ASGI application with the API's uvicorn settings, for `./stint
bench`.

It answers every request with the same JSON: no routing, no token, no database. The difference between its speed and the API's
is the cost of Stint itself.
"""

import argparse
from typing import Any

from api.http.server import serve
from schemas.starting import listening_socket

BODY = b'{"id":"00000000-0000-4000-8000-000000000000","email":"nobody@example.com","name":"Nobody","role":"admin"}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers HTTP requests. The exception for the lifespan scope tells uvicorn that there is no lifespan."""
    assert scope["type"] == "http"
    await send(START)
    await send({"type": "http.response.body", "body": BODY})


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="api.http.bench_baseline", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="a listening socket, which several processes may share")
    serve(app, host="", port=0, inherited=listening_socket(parser.parse_args().fd))


if __name__ == "__main__":
    main()

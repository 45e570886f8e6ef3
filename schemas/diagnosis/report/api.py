"""Whether the API answers and is ready, as another process finds it."""

import asyncio
import json
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from schemas.servers.error_words import in_words

CONNECT_SECONDS = 3.0
MAX_BODY = 100_000
PORTS = {"http": 80, "https": 443}


async def probe(url: str | None) -> str:
    """Whether the API is ready, or what it says is wrong: it may be busy, or have lost a server that this process reaches.
    Returns the state for `InstallationStatus.servers`."""
    state = await _connect(url)
    if url is None or state != "ok":
        return state
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            body = await asyncio.to_thread(_refusal, f"{url.rstrip('/')}/health/ready")
        problems = json.loads(body).get("problems") if body is not None else None
    except (OSError, HTTPException, ValueError, AttributeError) as error:  # for example a proxy's page instead of JSON
        return f"is not ready: {in_words(error)}"
    return state_of([str(problem) for problem in problems]) if isinstance(problems, list) else "ok"


def state_of(problems: Sequence[str]) -> str:
    """The state in words of the problems that `/health/ready` names."""
    return f"is not ready: {' '.join(problems)}".rstrip(".") if problems else "ok"


def too_few(serving: int, expected: int) -> str:
    """The state in words if fewer processes serve than there should be. The others on the socket answer all requests, so that
    nobody notices a process that ends again and again."""
    return f"has too few processes: {serving} of {expected}"


async def _connect(url: str | None) -> str:
    """Whether a server accepts connections at the URL."""
    if not url:
        return "not set"
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or PORTS.get(parts.scheme, 80))
            writer.close()
    except (OSError, ValueError) as error:  # a TimeoutError is one
        return f"does not answer: {in_words(error)} at {parts.netloc.rpartition('@')[2]}"
    return "ok"


def _refusal(url: str) -> bytes | None:
    """The body of an answer with 503; None for other answers. Not by httpx2: importing that takes longer than all else here."""
    parts = urlsplit(url)
    make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.read(MAX_BODY) if answer.status == 503 else None
    finally:
        connection.close()

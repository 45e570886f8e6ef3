"""The window to a provider's public keys (a JWKS, RFC 7517)."""

import asyncio
import logging
from typing import Any

from schemas.errors import Unavailable

logger = logging.getLogger(__name__)

SECONDS = 1.5  # for all of it: somebody who signs in may be waiting
MOST_BYTES = 256 * 1024


async def fetch(url: str) -> list[dict[str, Any]]:
    """The keys that stand there now. Raises Unavailable when none can be had in time."""
    import httpx  # a quarter of a second of each process's start, and only those ask whose people are elsewhere

    try:
        async with asyncio.timeout(SECONDS), httpx.AsyncClient(timeout=SECONDS) as client, client.stream("GET", url) as answer:
            answer.raise_for_status()
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise ValueError("it is too large for a key set")
            found = httpx.Response(200, content=body).json()["keys"]
            return [key for key in found if isinstance(key, dict)]
    except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError) as error:
        logger.warning("the keys at %s can't be read: %s", url, type(error).__name__)
        raise Unavailable("The keys that tokens are checked with can't be read right now; try again in a moment.") from error

"""Fetches the public keys of an identity provider (a JWKS, RFC 7517)."""

import asyncio
import logging
from typing import Any

from schemas.errors import Unavailable

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 1.5  # for the whole fetch: a request that signs in may be waiting for it
MAX_BYTES = 256 * 1024


async def fetch(url: str) -> list[dict[str, Any]]:
    """The keys that the URL serves now. Raises Unavailable when they cannot be fetched in time."""
    import httpx2  # costs a quarter of a second at the start of a process, and only IDENTITY=cognito needs it

    timeout = asyncio.timeout(TIMEOUT_SECONDS)
    try:
        async with timeout, httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as client, client.stream("GET", url) as response:
            response.raise_for_status()
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError("it is too large for a key set")
            keys = httpx2.Response(200, content=body).json()["keys"]
            return [key for key in keys if isinstance(key, dict)]
    except (httpx2.HTTPError, TimeoutError, ValueError, KeyError, TypeError) as error:
        logger.warning("fetching public keys failed url=%s error=%s", url, type(error).__name__)
        raise Unavailable("The keys that verify tokens cannot be fetched right now; try again in a moment.") from error

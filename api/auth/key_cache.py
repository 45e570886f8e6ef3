"""A cache of the public keys that verify tokens, by kid."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt

REFRESH_SECONDS = 60.0
RETRY_SECONDS = 1.0


class KeyCache:
    """The provider's keys. They are fetched again for an unknown kid, and after a minute, so that a key that the provider
    withdrew is removed. A known key is returned without waiting, and stays in the cache when a fetch fails.

    Anybody can send an unknown kid. So all callers that need a fetch share one, and the next starts at least
    `min_refetch_seconds` after the start of the last; sooner if that failed.
    """

    def __init__(self, fetch: Callable[[], Awaitable[list[dict[str, Any]]]], *, min_refetch_seconds: float) -> None:
        self._fetch, self._min_refetch_seconds = fetch, min_refetch_seconds
        self._keys: dict[str, jwt.PyJWK] = {}
        self._last_start = float("-inf")  # of the last fetch
        self._last_completed_start = float("-inf")  # of the last fetch that has ended
        self._failure: Exception | None = None
        self._running: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key, or None if the provider has no such key. Raises the error of the fetch if that is why the key is missing."""
        arrived = time.monotonic()
        if (key := self._keys.get(kid)) is not None:
            if arrived - self._last_start > REFRESH_SECONDS:
                self.refresh()
            return key
        # a fetch that started before this call may have missed the key; one that started later has not
        while (
            (key := self._keys.get(kid)) is None
            and self._last_completed_start < arrived
            and (self._running or self._may_refetch(arrived))
        ):
            await asyncio.shield(self.refresh())
            if self._failure is not None:
                break
        if key is None and self._failure is not None:
            raise self._failure.with_traceback(None)  # each raise would make the traceback longer
        return key

    def _may_refetch(self, arrived: float) -> bool:
        pause = self._min_refetch_seconds
        if self._failure is not None:
            pause = min(RETRY_SECONDS, pause)
        return arrived - self._last_start > pause

    def refresh(self) -> asyncio.Task[None]:
        """The fetch that is running, started now if there is none."""
        if self._running is None:
            self._last_start = time.monotonic()
            self._running = asyncio.create_task(self._refresh())
            self._running.add_done_callback(self._done)
        return self._running

    def _done(self, _: asyncio.Task[None]) -> None:
        self._running = None

    async def _refresh(self) -> None:
        started = self._last_start
        try:
            fetched = await self._fetch()
            keys = {}
            for key in fetched:
                parsed = _parse(key)
                if isinstance(key.get("kid"), str) and parsed is not None:
                    keys[key["kid"]] = parsed
            self._keys = keys
            self._failure = None
        except Exception as error:
            self._failure = error
        self._last_completed_start = started


def _parse(key: dict[str, Any]) -> jwt.PyJWK | None:
    try:
        return jwt.PyJWK(key)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):  # a key that we cannot use must not affect the others
        return None

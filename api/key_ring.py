"""The public keys that tokens are verified with, by their kid."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt

FRESH_SECONDS = 60.0
AFTER_FAILURE_SECONDS = 1.0


class KeyRing:
    """The provider's keys as last read; read anew for a kid that is not among them, and now and then, so that one that the
    provider gave up is forgotten. Keys that are there are never waited for, and stay when reading fails.

    A kid costs nothing to make up. All who wait for one share one reading, and another one begins only `rest_seconds` after the
    last one did; after one that failed, sooner.
    """

    def __init__(self, fetch: Callable[[], Awaitable[list[dict[str, Any]]]], *, rest_seconds: float) -> None:
        self._fetch, self._rest_seconds = fetch, rest_seconds
        self._keys: dict[str, jwt.PyJWK] = {}
        self._began = self._read_of = float("-inf")  # when the last reading began, and the last one that has ended
        self._failure: Exception | None = None
        self._reading: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key, or None when there is none of that name. Raises what reading raised when that is why it is not there."""
        arrived = time.monotonic()
        if (key := self._keys.get(kid)) is not None:
            if arrived - self._began > FRESH_SECONDS:
                self.read()
            return key
        # a reading that had begun before may have missed the key; the one after it has not
        while (key := self._keys.get(kid)) is None and self._read_of < arrived and (self._reading or self._may_read(arrived)):
            await asyncio.shield(self.read())
            if self._failure is not None:
                break
        if key is None and self._failure is not None:
            raise self._failure.with_traceback(None)  # which would grow with each raise
        return key

    def _may_read(self, arrived: float) -> bool:
        rest = min(AFTER_FAILURE_SECONDS, self._rest_seconds) if self._failure is not None else self._rest_seconds
        return arrived - self._began > rest

    def read(self) -> asyncio.Task[None]:
        """The reading that is under way, begun if there is none."""
        if self._reading is None:
            self._began = time.monotonic()
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._done)
        return self._reading

    def _done(self, _: asyncio.Task[None]) -> None:
        self._reading = None

    async def _read(self) -> None:
        began = self._began
        try:
            found = await self._fetch()
            self._keys = {key["kid"]: jwk for key in found if isinstance(key.get("kid"), str) and (jwk := _usable(key))}
            self._failure = None
        except Exception as error:
            self._failure = error
        self._read_of = began


def _usable(key: dict[str, Any]) -> jwt.PyJWK | None:
    try:
        return jwt.PyJWK(key)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):  # another's kind of key does no harm to those beside it
        return None

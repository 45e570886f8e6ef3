"""Idempotency-Keys: a repeated request with the same key is answered from memory, as long as the key is remembered."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ops.sandbox.http import Request, Response

_LONGEST = 128


@dataclass(frozen=True)
class _Remembered:
    """A request with a key, and its answer."""

    request: tuple[str, str, bytes]
    answer: Response
    until: float


class IdempotencyKeys:
    """The remembered keys of all organisations."""

    seconds = 360.0  # Xero's six minutes

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, str], _Remembered] = {}

    def once(self, request: Request, account: str, do: Callable[[], Response]) -> Response:
        """The answer of `do`, or its first answer for a repeated request. GET needs no key."""
        key = request.headers.get("idempotency-key")
        if key is None or request.method == "GET":
            return do()
        if not 1 <= len(key) <= _LONGEST:
            return Response.json(400, {"message": f"The Idempotency-Key must be 1 to {_LONGEST} characters long"})
        what, now = (request.method, request.path, request.body), time.time()
        before = self._remembered.get((account, key))
        if before is None or before.until < now:
            answer = do()
            self._remembered[account, key] = _Remembered(what, answer, now + self.seconds)
            return answer
        if before.request != what:
            return Response.json(400, {"message": "The Idempotency-Key was used with another request"})
        return before.answer

"""Idempotency-Keys: the same request under the same key is done once, as long as it is remembered."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ops.sandbox.http import Answer, Request

_LONGEST = 128


@dataclass(frozen=True)
class _Remembered:
    """A request that had a key, and its answer."""

    request: tuple[str, str, bytes]
    answer: Answer
    until: float


class Keys:
    """Those of all organisations."""

    seconds = 360.0  # Xero's six minutes

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, str], _Remembered] = {}

    def once(self, request: Request, account: str, do: Callable[[], Answer]) -> Answer:
        """What `do` answers, or answered when it was asked before. Reading needs no key."""
        key = request.headers.get("idempotency-key")
        if key is None or request.method == "GET":
            return do()
        if not 1 <= len(key) <= _LONGEST:
            return Answer.json(400, {"message": f"The Idempotency-Key must be 1 to {_LONGEST} characters long"})
        what, now = (request.method, request.path, request.body), time.time()
        before = self._remembered.get((account, key))
        if before is None or before.until < now:
            answer = do()
            self._remembered[account, key] = _Remembered(what, answer, now + self.seconds)
            return answer
        if before.request != what:
            return Answer.json(400, {"message": "The Idempotency-Key was used with another request"})
        return before.answer

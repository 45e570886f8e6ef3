"""Xero's rate limits for an organisation: concurrent calls, calls in a minute, calls in a day."""

import time
from collections import deque

_MINUTE_SECONDS, _DAY_SECONDS = 60, 24 * 3600


class Limits:
    """The limits of one organisation. None means no limit."""

    concurrent: int | None = 5
    minute: int | None = 60
    day: int | None = 5000

    def __init__(self) -> None:
        self.inside = 0
        self._taken: deque[float] = deque()  # the times of the accepted calls of the last day

    def enter(self) -> tuple[str, int] | None:
        """Accepts a call and returns None, or returns the limit that it exceeds and the seconds until it would be accepted."""
        now = time.time()
        while self._taken and self._taken[0] <= now - _DAY_SECONDS:
            self._taken.popleft()
        if self.concurrent is not None and self.inside >= self.concurrent:
            return "concurrent", 1
        for problem, limit, seconds in (("minute", self.minute, _MINUTE_SECONDS), ("day", self.day, _DAY_SECONDS)):
            if limit is not None and self._within(seconds, now) >= limit:
                frees_up = self._taken[-limit] + seconds if limit else now + seconds
                return problem, int(frees_up - now) + 1
        self.inside += 1
        self._taken.append(now)
        return None

    def leave(self) -> None:
        self.inside -= 1

    def remaining(self) -> dict[str, str]:
        """The headers with the numbers of calls that are left."""
        now = time.time()
        headers = {}
        if self.minute is not None:
            headers["X-MinLimit-Remaining"] = str(max(0, self.minute - self._within(_MINUTE_SECONDS, now)))
        if self.day is not None:
            headers["X-DayLimit-Remaining"] = str(max(0, self.day - len(self._taken)))
        return headers

    def _within(self, seconds: float, now: float) -> int:
        count = 0
        for at in reversed(self._taken):
            if at <= now - seconds:
                break
            count += 1
        return count

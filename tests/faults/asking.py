"""How a careful client asks: the same thing again and again, until it is told what became of it."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.given import Given
from tests.installation import Installation

PATIENCE_SECONDS = 120.0  # no outage of the weather's is as long
PAUSE_SECONDS = 0.2


@dataclass
class Traffic:
    """What the clients of one run have seen, all together."""

    answers: Counter[int] = field(default_factory=Counter)
    lost: int = 0  # requests without an answer, or with a 503: done or not, nobody knows
    slowest_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)  # answers that no fault excuses
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, answer: httpx.Response) -> None:
        request = f"{answer.request.method} {answer.request.url.path}"
        with self._lock:
            self.answers[answer.status_code] += 1
            self.slowest_seconds = max(self.slowest_seconds, answer.elapsed.total_seconds())
            if answer.status_code >= 500 and (answer.status_code != 503 or "Retry-After" not in answer.headers):
                self.wrong.append(f"{request}: {answer.status_code} {answer.text[:200]}")

    def note_lost(self) -> None:
        with self._lock:
            self.lost += 1


class PatientClient(httpx.Client):
    """Repeats each request until there is an answer that says what became of it. `lost` is how many attempts at the last one
    were without: each of them may have had its effect, or have it still."""

    def __init__(self, traffic: Traffic, **more: Any) -> None:
        super().__init__(timeout=30, **more)
        self._traffic, self.lost = traffic, 0

    def request(self, *args: Any, **kwargs: Any) -> httpx.Response:
        self.lost, ends = 0, time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = super().request(*args, **kwargs)
            except httpx.TransportError as error:
                said: object = error
            else:
                self._traffic.note(answer)
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                said = f"{answer.status_code} {answer.text[:200]}"
            self.lost += 1
            self._traffic.note_lost()
            if time.monotonic() > ends:
                raise AssertionError(f"no answer for {PATIENCE_SECONDS:g} s to {args} (last: {said!r})")
            time.sleep(PAUSE_SECONDS)


class PatientGiven(Given):
    """People whose clients are patient."""

    def __init__(self, stint: Installation, traffic: Traffic) -> None:
        super().__init__(stint)
        self._traffic = traffic

    def client(self, headers: dict[str, str]) -> httpx.Client:
        made = PatientClient(self._traffic, base_url=self.stint.url, headers=headers)
        self._clients.append(made)
        return made

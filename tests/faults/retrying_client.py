"""A client that repeats each request until a response says whether it was carried out."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.support.given import Given
from tests.support.installation import Installation

RETRY_SECONDS = 120.0  # longer than each outage that the fault injector makes
PAUSE_SECONDS = 0.2


@dataclass
class Traffic:
    """Counts of the responses that all clients of one run received."""

    answers: Counter[int] = field(default_factory=Counter)
    lost: int = 0  # requests without an answer, or with a 503: done or not, nobody knows
    slowest_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)  # answers that no fault excuses
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, answer: httpx2.Response) -> None:
        request = f"{answer.request.method} {answer.request.url.path}"
        with self._lock:
            self.answers[answer.status_code] += 1
            self.slowest_seconds = max(self.slowest_seconds, answer.elapsed.total_seconds())
            if answer.status_code >= 500 and (answer.status_code != 503 or "Retry-After" not in answer.headers):
                self.wrong.append(f"{request}: {answer.status_code} {answer.text[:200]}")

    def note_lost(self) -> None:
        with self._lock:
            self.lost += 1


class PatientClient(httpx2.Client):
    """Repeats each request until a response says whether it was carried out. `lost` counts the attempts of the last request
    that got no response: each of them may have been carried out, or may still be."""

    def __init__(self, traffic: Traffic, *, timeout: float | httpx2.Timeout = 30, **more: Any) -> None:
        super().__init__(timeout=timeout, **more)
        self._traffic, self.lost = traffic, 0

    def request(self, *args: Any, **kwargs: Any) -> httpx2.Response:
        self.lost, ends = 0, time.monotonic() + RETRY_SECONDS
        while True:
            try:
                answer = super().request(*args, **kwargs)
            except httpx2.TransportError as error:
                said: object = error
            else:
                self._traffic.note(answer)
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                said = f"{answer.status_code} {answer.text[:200]}"
            self.lost += 1
            self._traffic.note_lost()
            if time.monotonic() > ends:
                raise AssertionError(f"no answer for {RETRY_SECONDS:g} s to {args} (last: {said!r})")
            self.choose_another()
            time.sleep(PAUSE_SECONDS)

    def choose_another(self) -> None:
        """After an attempt without a response: the server for the next one, where there are several."""


class PatientGiven(Given):
    """People whose clients are patient."""

    def __init__(self, stint: Installation, traffic: Traffic) -> None:
        super().__init__(stint)
        self._traffic = traffic

    def client(self, headers: dict[str, str]) -> httpx2.Client:
        made = PatientClient(self._traffic, base_url=self.stint.url, headers=headers)
        self._clients.append(made)
        return made

"""A client of live events, as one would write it: a thread that reads the stream and keeps what came."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.api.answers import Json
from tests.given import Person
from tests.installation import eventually

Event = tuple[str, str]  # its kind, and the id; of a reset there is none


class Stream:
    """What one listener has heard so far."""

    def __init__(self, base_url: str, token: str) -> None:
        self.events: list[Event] = []
        self.heartbeats = 0
        self.answer: httpx.Response | None = None
        self.is_over = False
        self.ended_well = False  # with the end of the answer, not in the middle of it
        self._client = httpx.Client(base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        kind = ""
        try:
            with self._client.stream("GET", "/api/events") as answer:
                self.answer = answer
                for line in answer.iter_lines():
                    if line.startswith(":"):
                        self.heartbeats += 1
                    elif line.startswith("event: "):
                        kind = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        data: Json = httpx.Response(200, text=line.removeprefix("data: ")).json()
                        assert set(data) <= {"id"}
                        self.events.append((kind, data.get("id", "")))
                    else:
                        assert line == ""
            self.ended_well = True
        except httpx.HTTPError:
            pass
        finally:
            self.is_over = True

    def heard(self, kind: str, row_id: str, *, seconds: float = 20) -> None:
        """Returns when that was heard."""
        eventually(lambda: (kind, row_id) in self.events, seconds=seconds, why=f"{kind} {row_id} in {self.events[-20:]}")

    def resets(self) -> int:
        return self.events.count(("reset", ""))

    def over(self, *, seconds: float = 20) -> None:
        eventually(lambda: self.is_over, seconds=seconds, why="the stream has ended")

    def close(self) -> None:
        self._client.close()


@contextmanager
def listening(person: Person, base_url: str | None = None) -> Iterator[Stream]:
    """A stream that has begun: whatever changes from now on is heard."""
    stream = Stream(base_url or str(person.http.base_url), person.token)
    try:
        eventually(lambda: stream.events, why="the stream has begun")
        assert stream.events[0] == ("reset", "")
        yield stream
    finally:
        stream.close()

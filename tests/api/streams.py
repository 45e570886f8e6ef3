"""A client of live events: a thread that reads a stream off a socket and keeps what came."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

from tests.given import Given, Json, Person
from tests.installation import eventually

Event = tuple[str, str]  # its kind, and the id; a reset has none
RESET = ("reset", "")


def request(token: str) -> bytes:
    return f"GET /api/events HTTP/1.1\r\nHost: stint\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def asked(url: str, token: str, *, receive_bytes: int | None = None) -> socket.socket:
    """A connection over which a stream was asked for and nothing is read; the kernel takes in so many bytes all the same."""
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    address = urlsplit(url)
    sock.connect((address.hostname, address.port))
    sock.sendall(request(token))
    return sock


class Stream:
    """What one listener has heard so far. Over when the answer has ended (`ended_well`) or the connection broke off."""

    def __init__(self, sock: socket.socket) -> None:
        self.status, self.headers = 0, httpx.Headers()
        self.events: list[Event] = []
        self.heartbeats = 0
        self.is_over = self.ended_well = False
        self._sock, self._rest, self._has_begun = sock, b"", False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while chunk := self._sock.recv(65536):
                self._rest += chunk
                self._take()
        except OSError:
            pass
        finally:
            self.is_over = True

    def _take(self) -> None:
        if not self._has_begun:
            head, blank, rest = self._rest.partition(b"\r\n\r\n")
            if not blank:
                return
            self._has_begun, self._rest = True, rest
            status, *fields = head.decode().split("\r\n")
            self.headers = httpx.Headers([(name, value) for name, _, value in (field.partition(": ") for field in fields)])
            self.status = int(status.split()[1])
        if self.status == 200:
            # each of these chunks is made of whole events, and none has a carriage return in it
            while found := re.match(rb"([0-9a-f]+)\r\n([^\r]*)\r\n", self._rest):
                assert len(found[2]) == int(found[1], 16)
                self._rest = self._rest[found.end() :]
                self.ended_well = found[2] == b""
                self._hear(found[2].decode())

    def _hear(self, text: str) -> None:
        for event in filter(None, text.split("\n\n")):
            if event == ":":
                self.heartbeats += 1
            else:
                found = re.fullmatch(r"event: (\w+)\ndata: (.+)", event)
                assert found, event
                data = json.loads(found[2])
                assert list(data) == ([] if found[1] == "reset" else ["id"])
                self.events.append((found[1], data.get("id", "")))

    def heard(self, kind: str, row_id: str, *, times: int = 1) -> None:
        """Returns when that was heard so often."""
        eventually(lambda: self.events.count((kind, row_id)) >= times, why=f"{kind} {row_id} in {self.events[-20:]}")

    @property
    def resets(self) -> int:
        return self.events.count(RESET)

    def is_over_soon(self) -> bool:
        """Waits for the end, and says whether it was a good one."""
        eventually(lambda: self.is_over, why="the stream has ended")
        return self.ended_well

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        eventually(lambda: self.is_over)
        self._sock.close()


@contextmanager
def listening(person: Person, url: str | None = None) -> Iterator[Stream]:
    """A stream that has begun: whatever is committed from now on is heard."""
    stream = Stream(asked(url or str(person.http.base_url), person.token))
    try:
        eventually(lambda: stream.events, why=f"the stream has begun: {stream.status}")
        assert stream.events[0] == RESET
        yield stream
    finally:
        stream.close()


def all_heard(given: Given, by: Person, task: Json, *streams: Stream) -> set[Event]:
    """Returns when these have heard all that was committed until now: two new tasks of the same customer, one after the other,
    so that whatever was read together with the first is heard before the second."""
    markers = set()
    for _ in range(2):
        marker = ("task", given.task(by, {"id": task["customerId"]})["id"])
        for stream in streams:
            stream.heard(*marker)
        markers.add(marker)
    return markers


def metric(url: str, line: str) -> float:
    """The value of a metric, 0 as long as it is not there."""
    found = [row for row in httpx.get(f"{url}/metrics").text.splitlines() if row.startswith(f"{line} ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0

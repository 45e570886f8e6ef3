"""A client of live events: a thread that reads a stream from a socket and stores its events."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2

from tests.support.given import Given, Json, Person
from tests.support.installation import eventually

Event = tuple[str, str]  # kind and id; the id of a reset is empty
RESET = ("reset", "")


def request(token: str, query: str = "") -> bytes:
    return f"GET /api/events{query} HTTP/1.1\r\nHost: stint\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def open_stream(url: str, token: str, *, receive_bytes: int | None = None, query: str = "") -> socket.socket:
    """A socket on which a stream was requested. Nothing reads it; the kernel still receives up to `receive_bytes`."""
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    address = urlsplit(url)
    sock.connect((address.hostname, address.port))
    sock.sendall(request(token, query))
    return sock


class Stream:
    """The events that one client has received. `has_ended`: the response was complete (`ended_properly`), or the connection
    broke."""

    def __init__(self, sock: socket.socket) -> None:
        self.status, self.headers = 0, httpx2.Headers()
        self.events: list[Event] = []
        self.heartbeats = 0
        self.has_ended = self.ended_properly = False
        self._sock, self._rest, self._has_head = sock, b"", False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while chunk := self._sock.recv(65536):
                self._rest += chunk
                self._parse()
        except OSError:
            pass
        finally:
            self.has_ended = True

    def _parse(self) -> None:
        if not self._has_head:
            head, blank, rest = self._rest.partition(b"\r\n\r\n")
            if not blank:
                return
            self._has_head, self._rest = True, rest
            status, *fields = head.decode().split("\r\n")
            self.headers = httpx2.Headers([(name, value) for name, _, value in (field.partition(": ") for field in fields)])
            self.status = int(status.split()[1])
        if self.status == 200:
            # Stint sends whole events in each HTTP chunk, and no event contains a carriage return
            while found := re.match(rb"([0-9a-f]+)\r\n([^\r]*)\r\n", self._rest):
                assert len(found[2]) == int(found[1], 16)
                self._rest = self._rest[found.end() :]
                self.ended_properly = found[2] == b""
                self._store_events(found[2].decode())

    def _store_events(self, text: str) -> None:
        for event in filter(None, text.split("\n\n")):
            if event == ":":
                self.heartbeats += 1
            else:
                found = re.fullmatch(r"event: (\w+)\ndata: (.+)", event)
                assert found, event
                data = json.loads(found[2])
                assert list(data) == ([] if found[1] == "reset" else ["id"])
                self.events.append((found[1], data.get("id", "")))

    def wait_for(self, kind: str, row_id: str, *, times: int = 1) -> None:
        """Waits until this event was received that many times."""
        eventually(lambda: self.events.count((kind, row_id)) >= times, why=f"{kind} {row_id} in {self.events[-20:]}")

    @property
    def resets(self) -> int:
        return self.events.count(RESET)

    def ends_properly(self) -> bool:
        """Waits for the end of the stream, and returns whether the response was complete."""
        eventually(lambda: self.has_ended, why="the stream has ended")
        return self.ended_properly

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        eventually(lambda: self.has_ended)
        self._sock.close()


@contextmanager
def subscribed(person: Person, url: str | None = None, *, query: str = "") -> Iterator[Stream]:
    """An open stream: it receives every change that is committed from now on."""
    stream = Stream(open_stream(url or str(person.http.base_url), person.token, query=query))
    try:
        eventually(lambda: stream.events, why=f"the stream has started: {stream.status}")
        assert stream.events[0] == RESET
        yield stream
    finally:
        stream.close()


def wait_for_all_changes(given: Given, by: Person, task: Json, *streams: Stream) -> set[Event]:
    """Waits until these streams have received all changes committed so far, and returns two events of its own: it creates two
    tasks one after the other, so that all changes that were read together with the first have been received before the
    second."""
    markers = set()
    for _ in range(2):
        marker = ("task", given.task(by, {"id": task["customerId"]})["id"])
        for stream in streams:
            stream.wait_for(*marker)
        markers.add(marker)
    return markers


def metric(url: str, line: str) -> float:
    """The value of a metric; 0 while it is not listed."""
    found = [row for row in httpx2.get(f"{url}/metrics").text.splitlines() if row.startswith(f"{line} ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0

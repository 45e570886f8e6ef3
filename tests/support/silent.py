"""A server that accepts connections and never answers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Silent:
    """Such a server on 127.0.0.1. `accepted`: the connections so far."""

    def __init__(self) -> None:
        self.accepted: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.accepted.append(self._listening.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for accepted in self.accepted:
            accepted.close()


@contextmanager
def silent_server() -> Iterator[Silent]:
    made = Silent()
    try:
        yield made
    finally:
        made.close()

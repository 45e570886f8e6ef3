"""Which of several servers could not be used lately, so that others are tried before them."""

import time
from collections.abc import Hashable, Iterable
from typing import TypeVar

SECONDS = 30.0  # for how long a server that failed is tried after the others

Server = TypeVar("Server", bound=Hashable)


class RecentFailures:
    """What one process knows of the servers of one setting. Any thread may call its methods."""

    def __init__(self) -> None:
        self._failed_at: dict[Hashable, float] = {}

    def failed(self, server: Hashable) -> None:
        self._failed_at[server] = time.monotonic()

    def worked(self, server: Hashable) -> None:
        self._failed_at.pop(server, None)

    def last(self, servers: Iterable[Server]) -> list[Server]:
        """The servers in their order, but those that failed within SECONDS come last: the one whose failure is oldest first."""
        now = time.monotonic()

        def failure(server: Server) -> float:
            at = self._failed_at.get(server)
            return at if at is not None and now - at < SECONDS else float("-inf")

        return sorted(servers, key=failure)

"""A private Postgres and RabbitMQ for tests and `./stint bench`. They end with the process that starts them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ops.up.packages.debian import Say
from ops.up.postgres import Postgres
from ops.up.rabbitmq import RabbitMQ


class Servers:
    """Both servers, below the directory `home`, which nothing else may use.

    `start()` returns with the final URLs before the servers are ready; `wait()` returns when both are. Each server can be
    stopped, killed and started again at the same URL: `servers.rabbitmq.stop()`, `.empty()`, `.start()`.
    Call it from the main thread: a server ends with the thread that started it."""

    def __init__(self, home: Path, *, durable: bool = True, vhosts: Sequence[str] = (), say: Say = lambda _: None) -> None:
        self.home = home.absolute()
        self.postgres = Postgres(self.home, durable=durable)
        self.rabbitmq = RabbitMQ(self.home, vhosts=vhosts)
        self._say = say

    @property
    def database_url(self) -> str:
        return self.postgres.database_url

    @property
    def amqp_url(self) -> str:
        return self.rabbitmq.amqp_url

    def amqp_url_of(self, vhost: str) -> str:
        """The URL of one of the `vhosts`."""
        return self.rabbitmq.amqp_url_of(vhost)

    def start(self) -> "Servers":
        """Launches both. Raises CommandError when one of them is not available on this machine."""
        asyncio.run(self.rabbitmq.prepare(self._say))
        self.rabbitmq.launch()  # first: it takes the longest
        try:
            asyncio.run(self.postgres.prepare(self._say))
            self.postgres.launch()
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self, timeout_seconds: float = 60) -> "Servers":
        """Returns when both are ready. Stops both and raises CommandError when one is not."""
        try:
            self.postgres.wait(timeout_seconds)
            self.rabbitmq.wait(timeout_seconds)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops both at the same time, and returns when they have ended."""
        for server in (self.rabbitmq, self.postgres):
            server.ask_to_stop()
        self.postgres.stop()
        self.rabbitmq.stop()

    def __enter__(self) -> "Servers":
        return self.start().wait()

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None) -> None:
        self.stop()

"""Waiting for servers that `./stint up` does not start itself."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from ops.errors import CommandError
from schemas.setting_values import amqp_urls

Say = Callable[[str], None]


async def wait_for_postgres(database_url: str, say: Say) -> None:
    """Returns when the Postgres of DATABASE_URL accepts a connection. Says once that it waits, and why. Raises CommandError if
    Stint cannot work with it."""
    import psycopg

    from schemas.postgres.server.failures import explain
    from schemas.postgres.server.pooler import PooledTransactions, refuse_pooler

    async def attempt() -> None:
        try:
            await (await psycopg.AsyncConnection.connect(database_url, connect_timeout=5)).close()
        except psycopg.OperationalError as error:
            raise OSError(f"Postgres {explain(error, database_url).state}") from error
        except psycopg.Error as error:
            raise CommandError(f"DATABASE_URL is not the URL of a Postgres: {str(error).strip()}") from error

    await _wait_for("the Postgres of DATABASE_URL", attempt, say)
    try:
        await refuse_pooler(database_url)
    except PooledTransactions as error:
        raise CommandError(str(error)) from error


async def wait_for_rabbitmq(amqp_url: str, say: Say) -> None:
    """Returns when a server listens at AMQP_URL, at one of its URLs if it has several. Says once that it waits."""
    addresses = _addresses(amqp_url)

    async def attempt() -> None:
        tried = await asyncio.gather(*(_connect(*address) for address in addresses), return_exceptions=True)
        if all(tried):
            raise next(error for error in tried if error)

    await _wait_for(f"the RabbitMQ of AMQP_URL at {' or '.join(f'{host}:{port}' for host, port in addresses)}", attempt, say)


async def _connect(host: str, port: int) -> None:
    async with asyncio.timeout(5):
        _, writer = await asyncio.open_connection(host, port)
    writer.close()


async def http_status(url: str, path: str) -> int | None:
    """The status of a GET, or None without an answer within 3 s."""
    parts = urlsplit(url)
    with contextlib.suppress(OSError, ValueError, IndexError):
        async with asyncio.timeout(3):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                return int((await reader.readline()).split()[1])
            finally:
                writer.close()
    return None


async def _wait_for(name: str, attempt: Callable[[], Awaitable[None]], say: Say) -> None:
    reported = False
    while True:
        try:
            return await attempt()
        except OSError as error:  # includes TimeoutError
            if not reported:
                say(f"waiting for {name}: {error or 'no answer'}")
            reported = True
            await asyncio.sleep(0.5)


def _addresses(amqp_url: str) -> list[tuple[str, int]]:
    """Host and port of each URL."""
    try:
        urls = [urlsplit(url) for url in amqp_urls(amqp_url)]
        return [(url.hostname or "localhost", url.port or (5671 if url.scheme == "amqps" else 5672)) for url in urls]
    except ValueError as error:
        raise CommandError(
            f"AMQP_URL is not the URL of a RabbitMQ: {error}. Write amqp://user:password@host:5672/vhost."
        ) from error

"""A connection to RabbitMQ is closed however its use ends."""

import asyncio
import contextlib
import os
import warnings

import pytest

from schemas.rabbitmq import amqp
from schemas.rabbitmq.amqp import Amqp
from schemas.rabbitmq.problems import ConnectionLost

QUEUE = "of-test-amqp"


def sockets() -> int:
    """The sockets that this process has open."""
    targets = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return sum(target.startswith("socket:") for target in targets)


@pytest.mark.parametrize("ends_by", ["its end", "an exception", "a cancellation"])
def test_a_connection_is_closed_when_its_block_ends(ends_by: str, amqp_url: str) -> None:
    async def used() -> int:
        before = sockets()
        with pytest.raises((LookupError, TimeoutError)) if ends_by != "its end" else contextlib.nullcontext():
            async with asyncio.timeout(None) as canceller:
                await use(canceller)
        return sockets() - before

    async def use(canceller: asyncio.Timeout) -> None:
        async with await Amqp.open(amqp_url):
            if ends_by == "an exception":
                raise LookupError
            if ends_by == "a cancellation":
                canceller.reschedule(0)
                await asyncio.Event().wait()

    assert asyncio.run(used()) == 0


@pytest.mark.parametrize("by", ["too long a wait", "a cancellation"])
def test_a_connection_that_does_not_open_is_closed(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqp, "OPEN_SECONDS", 0.2)

    async def connect() -> bytes:
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            started.set()
            received.set_result(await reader.read())  # until the client closes
            writer.close()

        started = asyncio.Event()
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            opening = asyncio.create_task(Amqp.open(f"amqp://guest:guest@127.0.0.1:{port}/"))
            await started.wait()
            if by == "a cancellation":
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
            else:
                with pytest.raises(ConnectionLost, match="no answer within"):
                    await opening
            async with asyncio.timeout(2):  # pika itself gives up after five
                return await received

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(connect()).startswith(b"AMQP")


def test_what_waits_on_a_connection_that_is_given_up_is_told(amqp_url: str) -> None:
    async def publish() -> tuple[list[bool], BaseException | None]:
        stored: list[bool] = []
        async with await Amqp.open(amqp_url) as connection:
            await connection.declare(QUEUE, {"x-expires": 60_000})
            connection.publish(QUEUE, b"1", "1", stored.append)
            connection.abandon("no confirm")
            connection.publish(QUEUE, b"2", "2", stored.append)
            with pytest.raises(ConnectionLost, match="lost"):
                await connection.declare(QUEUE, {"x-expires": 60_000})
        return stored, connection.lost.exception()

    stored, lost = asyncio.run(publish())
    assert stored == [False, False] and isinstance(lost, ConnectionLost)


def test_each_message_is_confirmed_once_and_as_what_it_is(amqp_url: str) -> None:
    async def publish() -> dict[str, list[bool]]:
        stored: dict[str, list[bool]] = {}
        async with asyncio.timeout(20), await Amqp.open(amqp_url) as connection:
            await connection.declare(QUEUE, {"x-expires": 60_000})
            for number in range(300):
                queue = QUEUE if number % 3 else "no-such-queue"
                name = f"{queue} {number}"
                connection.publish(queue, b"1", name, stored.setdefault(name, []).append)
            while not all(stored.values()):  # noqa: ASYNC110 - the callbacks set no event
                await asyncio.sleep(0.01)
        return stored

    assert all(results == [name.startswith(QUEUE)] for name, results in asyncio.run(publish()).items())

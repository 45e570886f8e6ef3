"""A consumer closes its connection to RabbitMQ, however it ends: a worker starts another one while a queue is missing."""

from collections.abc import Iterator

import pika
import pika.exceptions
import pytest
from dramatiq.errors import ConnectionClosed

from actors.runtime.broker import OutboxBroker, OutboxConsumer

QUEUE = "of-this-test"


@pytest.fixture
def channel(amqp_url: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE)
        yield channel
        channel.queue_delete(QUEUE)


def consumer(amqp_url: str) -> OutboxConsumer:
    return OutboxConsumer(OutboxBroker(amqp_url), QUEUE, 1, 100)


def end(consumer: OutboxConsumer) -> None:
    """As Dramatiq's thread does it."""
    try:
        consumer.close()
    except ConnectionClosed:
        pass


def test_a_consumer_that_ends_closes_its_connection(
    amqp_url: str, channel: pika.adapters.blocking_connection.BlockingChannel
) -> None:
    ending = consumer(amqp_url)
    assert next(ending) is None and ending.connection.is_open
    end(ending)
    assert ending.connection.is_closed


@pytest.mark.parametrize("when", ["before its first message", "while it consumes"])
def test_a_consumer_whose_queue_is_gone_closes_its_connection(
    when: str, amqp_url: str, channel: pika.adapters.blocking_connection.BlockingChannel
) -> None:
    ending = consumer(amqp_url)
    if when == "while it consumes":
        assert next(ending) is None
    channel.queue_delete(QUEUE)
    if when == "while it consumes":
        ending.connection.process_data_events(1)  # RabbitMQ cancels the consumer
        ending.channel.close()
    else:
        with pytest.raises(ConnectionClosed):
            next(ending)
    assert ending.connection.is_open
    end(ending)
    assert ending.connection.is_closed


def test_a_consumer_that_cannot_start_closes_its_connection(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def refuse(channel: pika.adapters.blocking_connection.BlockingChannel, **_: object) -> None:
        opened.append(channel.connection)
        raise pika.exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED")

    monkeypatch.setattr(pika.adapters.blocking_connection.BlockingChannel, "basic_qos", refuse)
    with pytest.raises(ConnectionClosed):
        consumer(amqp_url)
    assert [connection.is_closed for connection in opened] == [True]

"""Unrecognized messages are recorded raw, and never stop a worker."""

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from schemas.messages import QUEUES
from tests.outbox.unrecognized import UNRECOGNIZED, dramatiq, marked
from tests.support.given import Given
from tests.support.installation import Installation, eventually


@pytest.fixture
def channel(stint: Installation) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(stint.amqp_url)) as connection:
        yield connection.channel()


@pytest.mark.parametrize("body", UNRECOGNIZED.values(), ids=UNRECOGNIZED.keys())
def test_an_unrecognized_message_is_recorded_raw_and_the_worker_continues(
    body: bytes, channel: BlockingChannel, stint: Installation, given: Given
) -> None:
    sent = marked(body)
    channel.basic_publish("", "timers", sent)
    kept = "SELECT count(*) FROM unrecognized_messages WHERE body = %s"
    eventually(lambda: stint.value(kept, sent) == 1, why="recorded once, byte for byte")
    someone = given.person()
    given.stopped(someone, given.task(someone))
    assert stint.is_running("work")


def test_the_content_of_an_unrecognized_message_is_in_no_log(channel: BlockingChannel, stint: Installation) -> None:
    for body in (b'{"password": "planted-%s"' % uuid4().hex.encode(), b"\xffplanted-%s" % uuid4().hex.encode(), b"[" * 100_000):
        channel.basic_publish("", "timers", body)
        eventually(lambda body=body: stint.value("SELECT count(*) FROM unrecognized_messages WHERE body = %s", body) > 0)
    assert "planted-" not in stint.log("work") + stint.log("relay")
    assert "[" * 1000 not in stint.log("work")


HEADERS: dict[str, dict[str, Any]] = {
    "a NUL": {"x": "a\0b"},
    "x-death that is text": {"x-death": "gone"},
    "x-death of texts": {"x-death": ["gone"]},
    "x-death with an unknown reason": {"x-death": [{"reason": "planted-reason"}]},
    "bytes": {"x": b"\xff\x00"},
    "nested": {"x": {"y": [1, None, {"z": "\0"}]}},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_headers_of_any_kind_stop_no_process(headers: dict[str, Any], channel: BlockingChannel, stint: Installation) -> None:
    body = b"hello " + uuid4().bytes
    relay = stint.processes["relay"].pid
    channel.basic_publish("", "timers.XQ", body, pika.BasicProperties(headers=headers))  # type: ignore[no-untyped-call]
    eventually(lambda: stint.value("SELECT count(*) FROM unrecognized_messages WHERE body = %s", body) == 1)
    assert stint.is_running("relay") and stint.processes["relay"].pid == relay
    assert "planted-reason" not in stint.log("relay")


def test_a_deleted_dead_letter_queue_is_declared_and_consumed_again(own: Installation) -> None:
    own.start("relay")
    eventually(lambda: "relaying" in own.log("relay"))
    with pika.BlockingConnection(pika.URLParameters(own.amqp_url)) as connection:

        def consumed() -> bool:
            with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
                declared = connection.channel().queue_declare("timers.XQ", passive=True)
                return bool(declared.method.consumer_count)
            return False

        eventually(consumed)
        connection.channel().queue_delete("timers.XQ")
        eventually(consumed)
        connection.channel().basic_publish("", "timers.XQ", b"hello")
    eventually(lambda: own.value("SELECT count(*) FROM unrecognized_messages") == 1)


@pytest.mark.parametrize("queue", QUEUES)
def test_nothing_expires_in_a_dead_letter_queue(queue: str, stint: Installation) -> None:
    def is_there() -> bool:
        with pika.BlockingConnection(pika.URLParameters(stint.amqp_url)) as connection:
            with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
                return connection.channel().queue_declare(f"{queue}.XQ", passive=True) is not None
        return False

    eventually(is_there, why="the relay has declared it")
    same = []
    for arguments in ({"x-queue-type": "classic"}, {"x-queue-type": "quorum"}):
        with pika.BlockingConnection(pika.URLParameters(stint.amqp_url)) as connection:
            # RabbitMQ refuses a declaration with other arguments than the queue has; a time to live is an argument
            with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
                connection.channel().queue_declare(f"{queue}.XQ", durable=True, arguments=arguments)
                same.append(arguments)
    assert len(same) == 1


def test_a_reference_that_rabbitmq_dead_lettered_is_a_failed_attempt_of_its_message(own: Installation) -> None:
    own.start("relay")
    eventually(lambda: "relaying" in own.log("relay"))
    message_id = own.value(
        "INSERT INTO messages (id, actor, queue, body, max_attempts)"
        " VALUES (gen_random_uuid(), 'stop_timer', 'timers', '{}', 5) RETURNING id"
    )
    with pika.BlockingConnection(pika.URLParameters(own.amqp_url)) as connection:
        channel = connection.channel()

        def refused() -> bool:
            method, _, _ = channel.basic_get("timers")
            if method is None:
                return False
            channel.basic_nack(method.delivery_tag, requeue=False)
            return True

        eventually(refused)
    attempts = "SELECT count(*) FROM message_attempts WHERE message_id = %s AND error_class = 'DeadLettered'"
    eventually(lambda: own.value(attempts, message_id) == 1)
    assert own.value("SELECT count(*) FROM unrecognized_messages") == 0


def test_a_message_of_an_unknown_actor_is_dead_with_the_reason(stint: Installation) -> None:
    message_id = stint.value(
        "INSERT INTO messages (id, actor, queue, body, max_attempts)"
        " VALUES (gen_random_uuid(), 'launch_rocket', 'timers', '{}', 1) RETURNING id"
    )
    eventually(lambda: stint.value("SELECT state FROM messages WHERE id = %s", message_id) == "dead")
    error = stint.value("SELECT error FROM messages WHERE id = %s", message_id)
    assert "there is no actor launch_rocket in this version" in str(error)


def test_a_duplicate_delivery_is_acknowledged_and_changes_nothing(
    channel: BlockingChannel, stint: Installation, given: Given
) -> None:
    someone = given.person()
    stopped = given.stopped(someone, given.task(someone))
    message_id, delivery_number = stint.rows(
        "SELECT id, delivery_number FROM messages WHERE body ->> 'entry_id' = %s", stopped["entryId"]
    )[0]
    before = stint.value("SELECT count(*) FROM unrecognized_messages")
    for number in (delivery_number, delivery_number + 1, 1, 0, -1):
        channel.basic_publish("", "timers", dramatiq(kwargs={"id": str(message_id), "delivery_number": number}))
    given.stopped(someone, given.task(someone))  # handled after the duplicates
    bill = someone.get(f"/api/time-bills/{stopped['timeBill']['id']}")
    assert bill["version"] == stopped["timeBill"]["version"]
    assert stint.value("SELECT count(*) FROM unrecognized_messages") == before

"""The private names of Dramatiq that actors/runtime/ relies on are still there and still work in the same way.

If one of these fails after an upgrade of Dramatiq: read the new dramatiq/brokers/rabbitmq.py, change actors/runtime/broker.py
and actors/runtime/worker.py to fit, and only then raise the upper bound in pyproject.toml.
"""

import inspect
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import dramatiq
import pika
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.brokers import rabbitmq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.worker import ConsumerThread, _WorkQueueItem

from actors.runtime.broker import OutboxBroker, OutboxConsumer, encode_reference, is_well_formed

ID = UUID("6f2a0c5e-6f0f-4d3b-9c55-0d5b6f1f2a11")
URL = "amqp://nowhere.invalid/"
SIGNATURES = {
    ("_RabbitmqConsumer", "__init__"): "(self, broker, queue_name, prefetch, timeout)",
    ("_RabbitmqConsumer", "__next__"): "(self)",
    ("_RabbitmqConsumer", "close"): "(self)",
    ("_RabbitmqConsumer", "ack"): "(self, message)",
    ("_RabbitmqConsumer", "nack"): "(self, message)",
    ("RabbitmqBroker", "declare_queue"): "(self, queue_name, *, ensure)",
    ("RabbitmqBroker", "_ensure_queue"): "(self, canonical_queue_name)",
    ("RabbitmqBroker", "_declare_queue"): "(self, queue_name)",
    ("RabbitmqBroker", "_declare_dq_queue"): "(self, queue_name)",
    ("RabbitmqBroker", "_declare_xq_queue"): "(self, queue_name)",
}
CHANGED = f"Dramatiq {dramatiq.__version__} has changed {{}}, which actors/runtime/{{}}.py relies on; see the top of this file"


def signature(function: Any) -> str:
    """The parameters without types and defaults."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty, default=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return str(inspect.Signature(parameters))


@pytest.mark.parametrize(("owner", "method"), SIGNATURES, ids=lambda name: name)
def test_a_method_that_is_overridden_or_called_has_the_same_parameters(owner: str, method: str) -> None:
    function = getattr(getattr(rabbitmq, owner, None), method, None)
    assert function is not None, CHANGED.format(f"{owner}.{method} (it is gone)", "broker")
    found = signature(function)
    assert found == SIGNATURES[owner, method], CHANGED.format(f"{owner}.{method} (it is now {found})", "broker")


class Channel:
    """Records what is declared, and delivers `deliveries`."""

    def __init__(self, *deliveries: Any) -> None:
        self.declared: list[dict[str, Any]] = []
        self.deliveries = deliveries

    def queue_declare(self, **arguments: Any) -> None:
        self.declared.append(arguments)

    def basic_qos(self, **_: Any) -> None: ...

    def consume(self, *_: Any, **__: Any) -> Any:
        return iter(self.deliveries)


def test_a_worker_declares_its_queues_passively_and_no_delay_queue() -> None:
    broker = OutboxBroker(URL)
    broker.state.channel = channel = Channel()
    broker.declare_queue("timers", ensure=True)
    expected = [{"queue": "timers", "passive": True}, {"queue": "timers.XQ", "passive": True}]
    assert channel.declared == expected, CHANGED.format("RabbitmqBroker._ensure_queue or RabbitmqBroker.channel", "broker")


def test_a_consumer_has_the_attributes_that_are_used_and_gives_messages_their_raw_body(monkeypatch: pytest.MonkeyPatch) -> None:
    body = encode_reference(message_id=ID, delivery_number=1, actor="stop_timer", queue="timers")
    method = type("Method", (), {"redelivered": True, "delivery_tag": 7})
    properties = type("Properties", (), {"headers": {"x": "y"}})

    class Connection:
        def __init__(self, *, parameters: list[pika.URLParameters]) -> None:
            self._impl = SimpleNamespace(params=parameters[0])

        def channel(self) -> Channel:
            return Channel((method, properties, body))

    monkeypatch.setattr("dramatiq.brokers.rabbitmq.pika.BlockingConnection", Connection)
    broker = OutboxBroker(URL)
    dramatiq.actor(actor_name="stop_timer", queue_name="timers", broker=broker)(lambda id, delivery_number: None)
    assert broker.consumer_class is OutboxConsumer and "consumer_class" in vars(RabbitmqBroker)
    consumer = OutboxConsumer(broker, "timers", 1, 100)
    for name in ("broker", "queue_name", "logger", "iterator", "connection"):
        assert hasattr(consumer, name), CHANGED.format(f"_RabbitmqConsumer.{name} (it is gone)", "broker")
    message = next(consumer)
    assert message is not None, CHANGED.format("_RabbitmqConsumer.__next__ (a good message was refused)", "broker")
    assert (message.raw, message.headers, message.redelivered) == (body, {"x": "y"}, True), CHANGED.format(
        "_RabbitmqMessage", "worker"
    )


def test_a_message_gives_what_it_wraps() -> None:
    inner = dramatiq.Message.decode(encode_reference(message_id=ID, delivery_number=1, actor="stop_timer", queue="timers"))
    proxy = MessageProxy(inner)
    assert getattr(proxy, "_message", None) is inner, CHANGED.format("MessageProxy._message", "broker")
    broker = OutboxBroker(URL)
    dramatiq.actor(actor_name="stop_timer", queue_name="timers", broker=broker)(lambda id, delivery_number: None)
    assert is_well_formed(proxy, "timers", broker.actors), CHANGED.format("the fields of Message", "broker")


def test_a_worker_shows_its_threads() -> None:
    worker = dramatiq.Worker(OutboxBroker(URL), queues={"timers"}, worker_threads=1, worker_timeout=500)
    for name in ("workers", "consumers", "work_queue"):
        assert hasattr(worker, name), CHANGED.format(f"Worker.{name} (it is gone)", "worker")
    assert signature(ConsumerThread.post_process_message) == "(self, message)", CHANGED.format("ConsumerThread", "worker")
    item: Any = _WorkQueueItem(0, MessageProxy(dramatiq.Message("timers", "stop_timer", (), {}, {})))
    worker.work_queue.put(item)
    assert worker.work_queue.get_nowait().message is item.message, CHANGED.format("what is in Worker.work_queue", "worker")

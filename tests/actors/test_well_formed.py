"""Which messages Dramatiq may process: those that the relay published, and no other ones."""

import json
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker

from actors.runtime.broker import decode_reference, encode_reference, is_well_formed
from tests.outbox.unrecognized import UNRECOGNIZED

BROKER = StubBroker(middleware=[])  # only to declare the names of actors


def actor(name: str, queue: str) -> dramatiq.Actor[..., Any]:
    return dramatiq.actor(actor_name=name, queue_name=queue, broker=BROKER)(lambda: None)


ACTORS = {"stop_timer": actor("stop_timer", "timers"), "recompute_bills": actor("recompute_bills", "bills")}


def is_accepted(body: bytes, queue: str = "timers") -> bool:
    try:
        message: Any = dramatiq.Message.decode(body)
        return is_well_formed(MessageProxy(message), queue, ACTORS)
    except Exception:  # the consumer rejects it, too
        return False


def test_what_the_relay_publishes_is_accepted_on_its_queue_only() -> None:
    body = encode_reference(message_id=(message_id := uuid4()), delivery_number=7, actor="stop_timer", queue="timers")
    assert decode_reference(body) == (message_id, 7)
    assert (is_accepted(body), is_accepted(body, "bills")) == (True, False)


@pytest.mark.parametrize("name", ["stop_timer", '100 % {sure} %(id)s "quoted" \\ é'])
def test_a_reference_is_a_message_of_dramatiq_whatever_its_names_are(name: str) -> None:
    for number in (7, 2**31 - 1):
        body = encode_reference(message_id=(message_id := uuid4()), delivery_number=number, actor=name, queue=name)
        message: dramatiq.Message[Any] = dramatiq.Message.decode(body)
        assert (message.actor_name, message.queue_name, message.args, message.options) == (name, name, (), {})
        assert message.kwargs == {"id": str(message_id), "delivery_number": number}
        assert message.message_id == f"{message_id}:{number}"


# this one is well-formed: that no message has this id is found in Postgres
FOUND_LATER = {"an unknown id"}


@pytest.mark.parametrize("kind", sorted(UNRECOGNIZED.keys() - FOUND_LATER))
def test_no_other_message_is_accepted(kind: str) -> None:
    assert not is_accepted(UNRECOGNIZED[kind])


@pytest.mark.parametrize("number", ["1", 2**31, 1.5, True, None])
def test_a_delivery_number_is_an_integer_of_postgres(number: Any) -> None:
    assert decode_reference(json.dumps({"kwargs": {"id": str(uuid4()), "delivery_number": number}}).encode()) is None

"""Unrecognized messages of every kind that a plain AMQP client can publish to Stint's queues."""

import json
from typing import Any
from uuid import uuid4


def dramatiq(queue: str = "timers", actor: str = "stop_timer", **changes: Any) -> bytes:
    """A well-formed Dramatiq message, except for `changes`."""
    message = {
        "queue_name": queue,
        "actor_name": actor,
        "args": [],
        "kwargs": {"id": str(uuid4()), "delivery_number": 1},
        "options": {},
        "message_id": str(uuid4()),
        "message_timestamp": 0,
    }
    return json.dumps(message | changes).encode()


UNRECOGNIZED = {
    "no JSON": b"hello",
    "no text": b"\xff\xfe\x00",
    "empty": b"",
    "JSON, but no object": b"[1, 2]",
    "nested deeply": b"[" * 100_000,
    "an unknown id": dramatiq(),
    "an unknown actor": dramatiq(actor="launch_rocket"),
    "another queue's actor": dramatiq(actor="recompute_bills"),
    "another queue's name": dramatiq(queue="bills"),
    "no options": dramatiq(options=None),
    "an eta": dramatiq(options={"eta": 99_999_999_999_999}),
    "pipelines": dramatiq(options={"pipe_target": {"queue_name": "x"}}),
    "arguments": dramatiq(args=[1]),
    "other arguments": dramatiq(kwargs={"id": str(uuid4())}),
    "an id that is none": dramatiq(kwargs={"id": "x", "delivery_number": 1}),
    "an id of another type": dramatiq(kwargs={"id": 5, "delivery_number": 1}),
    "a delivery_number that is none": dramatiq(kwargs={"id": str(uuid4()), "delivery_number": "1"}),
    "a huge delivery_number": dramatiq(kwargs={"id": str(uuid4()), "delivery_number": 2**70}),
    "kwargs that are none": dramatiq(kwargs=None),
    "an id of a message that is none": dramatiq(message_id=None),
    "fields too many": dramatiq(colour="red"),
}


def marked(body: bytes) -> bytes:
    """The body, made unique without changing whether it is valid: a UUID after it, in JSON's four kinds of white space."""
    is_json = body.endswith((b"}", b"]"))
    value = uuid4().int
    return body + (bytes(b" \t\n\r"[value >> shift & 3] for shift in range(0, 128, 2)) if is_json else uuid4().bytes)

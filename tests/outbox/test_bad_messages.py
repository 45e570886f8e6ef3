"""Every kind of bad message, published by a plain AMQP client: each is listed with the dead letters, with its content, and good
messages are handled while bad ones arrive."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.outbox import probe
from tests.outbox.probe import Probe
from tests.outbox.probes import Probes
from tests.outbox.unrecognized import UNRECOGNIZED, dramatiq, marked
from tests.support.installation import Installation, eventually, new_database
from tests.support.sizes import FULL

pytestmark = pytest.mark.slow
GOOD = 10_000 if FULL else 300
Json = dict[str, Any]


@pytest.fixture(scope="module")
def shared(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probes]:
    """A relay and a worker with probes, which all tests here share."""
    directory: Path = tmp_path_factory.mktemp("bad")
    stint = Installation(new_database(database_url), amqp_url_apart, directory, STINT_TEST_MODULE="tests.outbox.probe")
    try:
        with stint.sql() as conn:
            conn.execute(probe.TABLES.encode())
            stint.start("relay", "work")
            eventually(lambda: "working on" in stint.log("work"), seconds=60)
            yield Probes(stint, conn)
    finally:
        stint.stop()


@contextmanager
def amqp_client(probes: Probes) -> Iterator[BlockingChannel]:
    """A plain AMQP client."""
    with pika.BlockingConnection(pika.URLParameters(probes.stint.amqp_url)) as connection:
        yield connection.channel()


@contextmanager
def good_ones_flow(probes: Probes) -> Iterator[None]:
    """Enqueues good messages during the block, and fails unless all of them become done."""
    ids: list[UUID] = []
    over = threading.Event()

    def flow() -> None:
        while not over.wait(0.05) or len(ids) < 10:
            ids.extend(probes.enqueue(Probe(key=f"good-{len(ids)}-{uuid4()}")))

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    undone = "SELECT count(*) FROM messages WHERE id = ANY(%s) AND state <> 'done'"
    eventually(lambda: probes.value(undone, ids) == 0, seconds=60, why="every good one is done")


def shown(probes: Probes, letter_id: object) -> Json:
    """What `./stint dead show` prints."""
    result = probes.stint.command("dead", "show", str(letter_id), "--json")
    assert result.returncode == 0, result.stderr
    found: Json = json.loads(result.stdout)
    return found


def test_unrecognized_messages_of_every_kind_are_recorded_byte_for_byte(shared: Probes) -> None:
    sent = {kind: marked(body) for kind, body in UNRECOGNIZED.items()}
    kept = "SELECT count(*) FROM unrecognized_messages WHERE body = ANY(%s)"
    with good_ones_flow(shared), amqp_client(shared) as channel:
        for body in sent.values():
            properties = pika.BasicProperties(headers={"from": "elsewhere"})  # type: ignore[no-untyped-call]
            channel.basic_publish("", "timers", body, properties)
        eventually(lambda: shared.value(kept, list(sent.values())) == len(sent), seconds=60, why="each is recorded once")
    # the headers may show who publishes such messages
    assert (
        shared.value(
            "SELECT count(*) FROM unrecognized_messages WHERE body = ANY(%s) AND headers !~ 'elsewhere'", list(sent.values())
        )
        == 0
    )
    assert shared.stint.is_running("work") and shared.stint.is_running("relay")
    for kind in ("no text", "an unknown id", "an unknown actor", "another queue's name"):
        row = shared.value("SELECT id FROM unrecognized_messages WHERE body = %s", sent[kind])
        assert base64.b64decode(shown(shared, row)["raw"]) == sent[kind], kind


@dataclass(frozen=True)
class Bad:
    """A row that another program wrote, with a reference published by a plain client, and the error that it should end with."""

    error: str  # the shown error starts with this
    attempts: list[str]  # the error class of each
    order: str = ""
    actor: str = "probe"
    queue: str = "bills"
    body: Json = field(default_factory=lambda: {"key": f"bad-{uuid4()}"})


RETRIED = 5
OWN: dict[str, Bad] = {
    "exhausted retries": Bad("ValueError: as instructed", ["ValueError"] * RETRIED, order="fail"),
    "a handler's permanent error": Bad(
        "schemas.errors.NonRetryable: as instructed", ["schemas.errors.NonRetryable"], order="permanent"
    ),
    "an unknown actor": Bad(
        "DeadLettered: there is no actor launch_rocket in this version (dead-lettered by RabbitMQ: rejected)",
        ["DeadLettered"] * RETRIED,
        actor="launch_rocket",
        body={"to": "the moon"},
    ),
    "an older shape": Bad(
        'schemas.errors.InvalidBody: the body no longer fits probe: key is needed: a text, such as "Call the customer". '
        "There is no field name here. The only field is key.",
        ["schemas.errors.InvalidBody"],
        body={"name": "what it was called before"},
    ),
    "poison": Bad("WorkerDied: the worker died while its handler ran", ["WorkerDied"] * RETRIED, order="die"),
    "a queue that is not its actor's": Bad(
        "DeadLettered: probe belongs on the queue bills, not on timers (dead-lettered by RabbitMQ: rejected)",
        ["DeadLettered"] * RETRIED,
        queue="timers",
    ),
}


def insert_row(probes: Probes, bad: Bad) -> UUID:
    """Inserts the row, as a relay leaves it, and returns its id."""
    if bad.order:
        probes.instruct(bad.body["key"], bad.order, times=100)
    row: UUID = probes.value(
        """
        INSERT INTO messages (id, actor, queue, body, max_attempts, state, delivery_number, sent_at)
        VALUES (gen_random_uuid(), %s, %s, %s, %s, 'sent', 1, clock_timestamp()) RETURNING id
        """,
        bad.actor, bad.queue, json.dumps(bad.body), RETRIED,
    )  # fmt: skip
    return row


@pytest.mark.parametrize("kind", OWN)
def test_every_kind_of_bad_row_becomes_a_dead_letter_with_its_body_and_error(shared: Probes, kind: str) -> None:
    bad = OWN[kind]
    row = insert_row(shared, bad)
    reference = dramatiq(bad.queue, bad.actor, kwargs={"id": str(row), "delivery_number": 1})

    def is_dead() -> bool:
        shared.restart_worker()
        return shared.state(row) == "dead"

    with good_ones_flow(shared), amqp_client(shared) as channel:
        channel.basic_publish("", bad.queue, reference)
        eventually(is_dead, seconds=60, why=kind)
    detail = shown(shared, row)
    assert (detail["kind"], detail["actor"], detail["queue"], detail["state"]) == ("message", bad.actor, bad.queue, "dead")
    assert detail["body"] == bad.body
    assert detail["error"].startswith(bad.error), detail["error"]
    assert [failure["errorClass"] for failure in detail["failures"]] == bad.attempts
    assert all(failure["error"] and bad.error.partition(": ")[2] in failure["error"] for failure in detail["failures"])
    listed = shared.stint.command("dead", "list", "--group", detail["fingerprint"], "--json")
    assert str(row) in [item["id"] for item in json.loads(listed.stdout)]
    assert shared.value("SELECT count(*) FROM unrecognized_messages WHERE body = %s", reference) == 0
    assert shared.stint.is_running("work") and shared.stint.is_running("relay")


@pytest.mark.parametrize("says", ["timers", "bills"])
def test_a_reference_on_the_wrong_queue_is_a_failed_attempt_and_is_retried_on_the_right_one(shared: Probes, says: str) -> None:
    bad = Bad("dead-lettered by RabbitMQ: rejected", ["DeadLettered"])
    row = insert_row(shared, bad)
    with good_ones_flow(shared), amqp_client(shared) as channel:
        channel.basic_publish("", "timers", dramatiq(says, "probe", kwargs={"id": str(row), "delivery_number": 1}))
        shared.wait_for(row, "done")
    detail = shown(shared, row)
    assert [(failure["errorClass"], failure["error"]) for failure in detail["failures"]] == [("DeadLettered", bad.error)]
    assert shared.effects(bad.body["key"]) == 1


def test_a_message_at_its_delivery_limit_is_a_failed_attempt_and_is_retried(shared: Probes) -> None:
    """RabbitMQ 4 limits the deliveries of each message in a quorum queue to 20, unless the queue was declared otherwise. It
    counts those that were rejected, or whose channel was closed; since 4.3 none that basic.nack has put back."""
    bad = Bad("dead-lettered by RabbitMQ: delivery_limit", ["DeadLettered"])
    row, queue = insert_row(shared, bad), f"limited-{uuid4()}"
    limit = {"x-queue-type": "quorum", "x-delivery-limit": 20}
    way = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "bills.XQ"}
    with amqp_client(shared) as channel:
        channel.queue_declare(queue, durable=True, arguments=limit | way)
        channel.basic_publish("", queue, dramatiq("bills", "probe", kwargs={"id": str(row), "delivery_number": 1}))
        delivered = 0

        def is_done() -> bool:
            nonlocal delivered
            while (method := channel.basic_get(queue)[0]) is not None:
                delivered += 1
                channel.basic_reject(method.delivery_tag, requeue=True)
            return shared.state(row) == "done"

        eventually(is_done)
        channel.queue_delete(queue)
    assert delivered == 21
    detail = shown(shared, row)
    assert [(failure["errorClass"], failure["error"]) for failure in detail["failures"]] == [("DeadLettered", bad.error)]
    assert shared.effects(bad.body["key"]) == 1


# The reasons for which RabbitMQ itself dead-letters a message, and the queue's arguments for each.
LIMITS: dict[str, Json] = {
    "expired": {"x-message-ttl": 1},
    "maxlen": {"x-max-length": 1},
    "rejected": {},  # by another consumer of that queue
    "delivery_limit": {"x-queue-type": "quorum", "x-delivery-limit": 1},
}


@pytest.mark.parametrize("reason", LIMITS)
def test_what_rabbitmq_itself_dead_letters_is_recorded_byte_for_byte(shared: Probes, reason: str) -> None:
    body, queue = b"\x00" + uuid4().bytes, f"limited-{uuid4()}"
    way = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "bills.XQ"}
    with good_ones_flow(shared), amqp_client(shared) as channel:
        channel.queue_declare(queue, durable=True, arguments=LIMITS[reason] | way)
        channel.basic_publish("", queue, body)
        if reason == "maxlen":
            channel.basic_publish("", queue, b"another, which takes its place")
        kept = "SELECT count(*) FROM unrecognized_messages WHERE body = %s AND reason = %s"

        def found() -> bool:
            if reason in ("rejected", "delivery_limit") and (method := channel.basic_get(queue)[0]) is not None:
                channel.basic_reject(method.delivery_tag, requeue=reason == "delivery_limit")
            return bool(shared.value(kept, body, f"dead-lettered by RabbitMQ: {reason}") == 1)

        eventually(found)
        channel.queue_delete(queue)
    row = shared.value("SELECT id FROM unrecognized_messages WHERE body = %s", body)
    assert base64.b64decode(shown(shared, row)["raw"]) == body


def test_good_messages_are_handled_while_bad_ones_arrive(shared: Probes) -> None:
    """All good messages are done while bad ones still arrive, and all bad ones are recorded. By how much the bad ones slow the
    good ones is only printed, because it depends on the machine."""
    alone = [seconds(shared, lambda: None)]
    bad = Stream(shared)
    beside = [seconds(shared, bad.start)]
    assert not bad.over.is_set(), "bad messages arrived until the last good one was done"
    bad.stop()
    alone.append(seconds(shared, lambda: None))
    kept = "SELECT count(*) FROM unrecognized_messages WHERE body = ANY(%s)"
    eventually(lambda: shared.value(kept, bad.sent) == len(bad.sent), seconds=120, why="all bad ones are recorded")
    rate, rate_alone = GOOD / beside[0], 2 * GOOD / sum(alone)
    print(
        f"{GOOD} good ones: {rate_alone:.0f}/s alone; {rate:.0f}/s with {len(bad.sent)} bad ones "
        f"({len(bad.sent) / beside[0]:.0f}/s); ratio {rate / rate_alone:.2f}"
    )


def seconds(probes: Probes, start: Callable[[], None]) -> float:
    """How long it takes to handle GOOD messages that are enqueued at once."""
    ids = probes.enqueue(*[Probe(key=f"{uuid4()}") for _ in range(GOOD)])
    start()
    started = time.monotonic()
    undone = "SELECT count(*) FROM messages WHERE id = ANY(%s) AND state <> 'done'"
    eventually(lambda: probes.value(undone, ids) == 0, seconds=300, why="every good one is done")
    return time.monotonic() - started


class Stream:
    """Publishes bad messages of every kind to the queue of the good ones, until it is stopped."""

    PER_SECOND = 20

    def __init__(self, probes: Probes) -> None:
        self.sent: list[bytes] = []
        self.over = threading.Event()
        self._probes = probes
        self._thread = threading.Thread(target=self._publish)

    def start(self) -> None:
        self._thread.start()
        eventually(lambda: self.sent)

    def stop(self) -> None:
        self.over.set()
        self._thread.join()

    def _publish(self) -> None:
        short = [body for body in UNRECOGNIZED.values() if len(body) < 1000]
        with amqp_client(self._probes) as channel:
            while not self.over.wait(1 / self.PER_SECOND):
                body = marked(short[len(self.sent) % len(short)])
                channel.basic_publish("", "bills", body)
                self.sent.append(body)

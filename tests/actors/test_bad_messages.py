"""Every kind of bad message, published by a plain AMQP client: each is found beside the dead letters with what it brought, and
good ones flow on beside any number of them."""

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

from tests.actors import probe
from tests.actors.probe import Probe
from tests.actors.probing import Ledger
from tests.actors.strangers import STRANGERS, dramatiq, marked
from tests.installation import Installation, eventually, new_database
from tests.sizes import FULL

pytestmark = pytest.mark.slow
GOOD = 10_000 if FULL else 300
Json = dict[str, Any]


@pytest.fixture(scope="module")
def shared(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """Relay and worker that all tests here share, with probes among the actors."""
    directory: Path = tmp_path_factory.mktemp("bad")
    stint = Installation(new_database(database_url), amqp_url_apart, directory, STINT_TEST_MODULE="tests.actors.probe")
    try:
        with stint.sql() as conn:
            conn.execute(probe.TABLES.encode())
            stint.start("relay", "work")
            eventually(lambda: "working on" in stint.log("work"), seconds=60)
            yield Ledger(stint, conn)
    finally:
        stint.stop()


@contextmanager
def stranger(ledger: Ledger) -> Iterator[BlockingChannel]:
    """A plain AMQP client."""
    with pika.BlockingConnection(pika.URLParameters(ledger.stint.amqp_url)) as connection:
        yield connection.channel()


@contextmanager
def good_ones_flow(ledger: Ledger) -> Iterator[None]:
    """Puts good messages all the while, and fails unless every one of them is done."""
    ids: list[UUID] = []
    over = threading.Event()

    def flow() -> None:
        while not over.wait(0.05) or len(ids) < 10:
            ids.extend(ledger.put(Probe(key=f"good-{len(ids)}-{uuid4()}")))

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    undone = "SELECT count(*) FROM messages WHERE id = ANY(%s) AND state <> 'done'"
    eventually(lambda: ledger.one(undone, ids) == 0, seconds=60, why="every good one is done")


def shown(ledger: Ledger, letter_id: object) -> Json:
    """What `./stint dead show` says of a letter."""
    result = ledger.stint.command("dead", "show", str(letter_id), "--json")
    assert result.returncode == 0, result.stderr
    found: Json = json.loads(result.stdout)
    return found


def test_whatever_a_stranger_publishes_is_found_byte_for_byte(shared: Ledger) -> None:
    sent = {kind: marked(body) for kind, body in STRANGERS.items()}
    kept = "SELECT count(*) FROM foreign_letters WHERE body = ANY(%s)"
    with good_ones_flow(shared), stranger(shared) as channel:
        for body in sent.values():
            channel.basic_publish("", "timers", body, pika.BasicProperties(headers={"from": "elsewhere"}))
        eventually(lambda: shared.one(kept, list(sent.values())) == len(sent), seconds=60, why="each is kept, once")
    # so that whoever has to find out who publishes sees what they said of themselves
    assert (
        shared.one("SELECT count(*) FROM foreign_letters WHERE body = ANY(%s) AND headers !~ 'elsewhere'", list(sent.values()))
        == 0
    )
    assert shared.stint.is_running("work") and shared.stint.is_running("relay")
    for kind in ("no text", "an unknown id", "an unknown actor", "another queue's name"):
        row = shared.one("SELECT id FROM foreign_letters WHERE body = %s", sent[kind])
        assert base64.b64decode(shown(shared, row)["raw"]) == sent[kind], kind


@dataclass(frozen=True)
class Bad:
    """A row of our own that an outside program wrote, its reference published by a plain client; and what becomes of it."""

    error: str  # as shown, or its beginning
    attempts: list[str]  # the class of each one's error
    order: str = ""
    actor: str = "probe"
    queue: str = "bills"
    body: Json = field(default_factory=lambda: {"key": f"bad-{uuid4()}"})


RETRIED = 5
OWN: dict[str, Bad] = {
    "exhausted retries": Bad("ValueError: as ordered", ["ValueError"] * RETRIED, order="fail"),
    "a handler's permanent error": Bad("schemas.errors.Permanent: as ordered", ["schemas.errors.Permanent"], order="permanent"),
    "an unknown actor": Bad(
        "DeadLettered: there is no actor launch_rocket in this version (dead-lettered by RabbitMQ: rejected)",
        ["DeadLettered"] * RETRIED,
        actor="launch_rocket",
        body={"to": "the moon"},
    ),
    "an older shape": Bad(
        "schemas.errors.Misfit: the body no longer fits probe: key: Field required; name: Extra inputs are not permitted",
        ["schemas.errors.Misfit"],
        body={"name": "what it was called before"},
    ),
    "poison": Bad("WorkerDied: the worker that had begun this message ended", ["WorkerDied"] * RETRIED, order="die"),
    "a queue that is not its actor's": Bad(
        "DeadLettered: probe belongs on the queue bills, not on timers (dead-lettered by RabbitMQ: rejected)",
        ["DeadLettered"] * RETRIED,
        queue="timers",
    ),
}


def written(ledger: Ledger, bad: Bad) -> UUID:
    """The row, as if a relay had sent it."""
    if bad.order:
        ledger.order(bad.body["key"], bad.order, times=100)
    row: UUID = ledger.one(
        """
        INSERT INTO messages (id, actor, queue, body, allowance, state, publication, sent_at)
        VALUES (gen_random_uuid(), %s, %s, %s, %s, 'sent', 1, clock_timestamp()) RETURNING id
        """,
        bad.actor, bad.queue, json.dumps(bad.body), RETRIED,
    )  # fmt: skip
    return row


@pytest.mark.parametrize("kind", OWN)
def test_every_kind_of_bad_message_of_our_own_is_found_with_its_body_and_why(shared: Ledger, kind: str) -> None:
    bad = OWN[kind]
    row = written(shared, bad)
    reference = dramatiq(bad.queue, bad.actor, kwargs={"id": str(row), "publication": 1})

    def is_dead() -> bool:
        shared.keep_worker_alive()
        return shared.state(row) == "dead"

    with good_ones_flow(shared), stranger(shared) as channel:
        channel.basic_publish("", bad.queue, reference)
        eventually(is_dead, seconds=60, why=kind)
    letter = shown(shared, row)
    assert (letter["kind"], letter["actor"], letter["queue"], letter["state"]) == ("message", bad.actor, bad.queue, "dead")
    assert letter["body"] == bad.body
    assert letter["error"].startswith(bad.error), letter["error"]
    assert [failure["errorClass"] for failure in letter["failures"]] == bad.attempts
    assert all(failure["error"] and bad.error.partition(": ")[2] in failure["error"] for failure in letter["failures"])
    listed = shared.stint.command("dead", "list", "--group", letter["fingerprint"], "--json")
    assert str(row) in [item["id"] for item in json.loads(listed.stdout)]
    assert shared.one("SELECT count(*) FROM foreign_letters WHERE body = %s", reference) == 0
    assert shared.stint.is_running("work") and shared.stint.is_running("relay")


@pytest.mark.parametrize("says", ["timers", "bills"])
def test_a_reference_that_strayed_onto_another_queue_is_noted_and_finds_its_way(shared: Ledger, says: str) -> None:
    bad = Bad("dead-lettered by RabbitMQ: rejected", ["DeadLettered"])
    row = written(shared, bad)
    with good_ones_flow(shared), stranger(shared) as channel:
        channel.basic_publish("", "timers", dramatiq(says, "probe", kwargs={"id": str(row), "publication": 1}))
        shared.becomes(row, "done")
    letter = shown(shared, row)
    assert [(failure["errorClass"], failure["error"]) for failure in letter["failures"]] == [("DeadLettered", bad.error)]
    assert shared.effects(bad.body["key"]) == 1


# What a queue's limits, or a policy for it, make RabbitMQ do with a message by itself.
LIMITS: dict[str, Json] = {
    "expired": {"x-message-ttl": 1},
    "maxlen": {"x-max-length": 1},
    "rejected": {},  # by another consumer of that queue
    "delivery_limit": {"x-queue-type": "quorum", "x-delivery-limit": 1},
}


@pytest.mark.parametrize("reason", LIMITS)
def test_what_rabbitmq_dead_letters_for_reasons_of_its_own_is_found_with_its_bytes(shared: Ledger, reason: str) -> None:
    body, queue = b"\x00" + uuid4().bytes, f"limited-{uuid4()}"
    way = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "bills.XQ"}
    with good_ones_flow(shared), stranger(shared) as channel:
        channel.queue_declare(queue, durable=True, arguments=LIMITS[reason] | way)
        channel.basic_publish("", queue, body)
        if reason == "maxlen":
            channel.basic_publish("", queue, b"another, which takes its place")
        kept = "SELECT count(*) FROM foreign_letters WHERE body = %s AND reason = %s"

        def found() -> bool:
            if reason in ("rejected", "delivery_limit") and (method := channel.basic_get(queue)[0]) is not None:
                channel.basic_nack(method.delivery_tag, requeue=reason == "delivery_limit")
            return shared.one(kept, body, f"dead-lettered by RabbitMQ: {reason}") == 1

        eventually(found)
        channel.queue_delete(queue)
    row = shared.one("SELECT id FROM foreign_letters WHERE body = %s", body)
    assert base64.b64decode(shown(shared, row)["raw"]) == body


def test_good_messages_flow_on_while_bad_ones_come_beside_them(shared: Ledger) -> None:
    """What bad ones cost the good ones, as a ratio within this run: printed, since it is the machine that sets it. That all
    good ones are done while the bad ones still come, and all bad ones are kept, is what must be so."""
    alone = [seconds(shared, lambda: None)]
    bad = Stream(shared)
    beside = [seconds(shared, bad.begin)]
    assert not bad.over.is_set(), "they came until the last good one was done"
    bad.end()
    alone.append(seconds(shared, lambda: None))
    kept = "SELECT count(*) FROM foreign_letters WHERE body = ANY(%s)"
    eventually(lambda: shared.one(kept, bad.sent) == len(bad.sent), seconds=120, why="every bad one is kept")
    rate, rate_alone = GOOD / beside[0], 2 * GOOD / sum(alone)
    print(
        f"{GOOD} good ones: {rate_alone:.0f}/s alone; {rate:.0f}/s beside {len(bad.sent)} bad ones "
        f"({len(bad.sent) / beside[0]:.0f}/s); ratio {rate / rate_alone:.2f}"
    )


def seconds(ledger: Ledger, begin: Callable[[], None]) -> float:
    """How long it takes until so many good messages are done that were put at once."""
    ids = ledger.put(*[Probe(key=f"{uuid4()}") for _ in range(GOOD)])
    begin()
    begun = time.monotonic()
    undone = "SELECT count(*) FROM messages WHERE id = ANY(%s) AND state <> 'done'"
    eventually(lambda: ledger.one(undone, ids) == 0, seconds=300, why="every good one is done")
    return time.monotonic() - begun


class Stream:
    """A stranger who publishes bad messages of every kind to the queue of the good ones, for as long as it lasts."""

    PER_SECOND = 20

    def __init__(self, ledger: Ledger) -> None:
        self.sent: list[bytes] = []
        self.over = threading.Event()
        self._ledger = ledger
        self._thread = threading.Thread(target=self._publish)

    def begin(self) -> None:
        self._thread.start()
        eventually(lambda: self.sent)

    def end(self) -> None:
        self.over.set()
        self._thread.join()

    def _publish(self) -> None:
        short = [body for body in STRANGERS.values() if len(body) < 1000]
        with stranger(self._ledger) as channel:
            while not self.over.wait(1 / self.PER_SECOND):
                body = marked(short[len(self.sent) % len(short)]) + b" " * len(self.sent)
                channel.basic_publish("", "bills", body)
                self.sent.append(body)

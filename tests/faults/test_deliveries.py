"""Deliveries in another order, several times, and of earlier delivery numbers, as RabbitMQ may make them."""

import random
from collections.abc import Iterator

import pika
import pytest
from dramatiq.common import xq_name

from actors.runtime.broker import decode_reference, encode_reference
from schemas.messages import SendMail
from tests.faults.test_servers_down import insist_on_stops, until_over
from tests.outbox import probe
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.support.smtp import MailServer, mail_server

pytestmark = pytest.mark.slow
STOPS = MAILS = 30
COPIES = 3


@pytest.fixture
def post() -> Iterator[MailServer]:
    with mail_server(seconds=0.05) as caught:
        yield caught


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_copies_out_of_order_and_older_publications_do_nothing_twice(own: Installation, post: MailServer) -> None:
    own.environment["SMTP_URL"] = post.url
    own.start("api", "relay").wait_until_ready()
    given = Given(own)
    admin = given.admin()
    task = given.task(admin)
    stops = insist_on_stops(admin, task, STOPS)
    addresses = [f"person{number}@example.com" for number in range(MAILS)]
    with own.sql() as conn:
        probe.enqueue(conn, *(SendMail(to=address, subject="Hello", paragraphs=("Once.",)) for address in addresses))
    eventually(lambda: own.value("SELECT count(*) = 0 FROM messages WHERE state = 'ready'"), why="all is with RabbitMQ")
    seed = random.randrange(10**6)
    print("seed", seed)

    with pika.BlockingConnection(pika.URLParameters(own.amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()  # RabbitMQ may lose what it has not confirmed
        meddled = sum(meddle(channel, queue, random.Random(seed)) for queue in ("timers", "mail"))
    assert meddled == STOPS + MAILS
    own.start("work:timers", "work:mail", "work:mail,timers")  # two of each, so that copies meet

    until_over(own, seconds=60)
    queues = ("timers", "mail", xq_name("timers"), xq_name("mail"))
    eventually(lambda: all(left(own, queue) == 0 for queue in queues), seconds=60, why="every copy was acknowledged")
    entries = own.rows("SELECT id::text, duration FROM time_entries")
    assert sorted(entries) == sorted((stop["entryId"], stop["duration"]) for stop in stops)
    assert post.recipients() == sorted(addresses)
    assert own.value("SELECT count(*) FROM message_attempts") == 0
    own.verify()
    given.close()


def meddle(channel: pika.adapters.blocking_connection.BlockingChannel, queue: str, chance: random.Random) -> int:
    """Takes everything off the queue and puts it back: each several times, with publications that were never or no longer
    the latest among them, in any order. Returns how many there were."""
    taken = []
    while (body := channel.basic_get(queue, auto_ack=True)[2]) is not None:
        taken.append(body)
    bodies = []
    for body in taken:
        known = decode_reference(body)
        assert known is not None
        message_id, delivery_number = known
        actor = "send_mail" if queue == "mail" else "stop_timer"
        bodies += [body] * COPIES
        bodies += [
            encode_reference(message_id=message_id, delivery_number=other, actor=actor, queue=queue)
            for other in (delivery_number - 1, delivery_number + 1, delivery_number + 7)
        ]
    chance.shuffle(bodies)
    for body in bodies:
        channel.basic_publish("", queue, body)
    return len(taken)


def left(stint: Installation, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(stint.amqp_url)) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)

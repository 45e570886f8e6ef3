"""Alerts, over real SMTP: one mail for each new group of dead letters and each new kind of unrecognized messages."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from schemas.outbox import failed_attempts, outbox
from schemas.outbox.dead_letters import unrecognized_messages
from schemas.outbox.failed_attempts import Failure
from schemas.postgres.connection import Connection
from tests.outbox.probe import Probe
from tests.outbox.probes import Probes
from tests.outbox.unrecognized import dramatiq
from tests.support.installation import Installation, eventually
from tests.support.smtp import MailServer, mail_server

OPS = "ops@example.com"


@pytest.fixture
def mailbox(own: Installation) -> Iterator[MailServer]:
    with mail_server() as server:
        own.environment |= {"SMTP_URL": server.url, "OPS_EMAIL": OPS}
        yield server


@pytest.fixture
def channel(mailbox: MailServer, own_probes: Probes) -> Iterator[BlockingChannel]:
    eventually(lambda: "working on" in own_probes.stint.log("work"), seconds=40)
    with pika.BlockingConnection(pika.URLParameters(own_probes.stint.amqp_url)) as connection:
        yield connection.channel()


def publish(probes: Probes, channel: BlockingChannel, queue: str, *bodies: bytes) -> None:
    """Publishes the bodies, and returns when all of them are recorded."""
    for body in bodies:
        channel.basic_publish("", queue, body)
    kept = "SELECT count(*) FROM unrecognized_messages WHERE body = ANY(%s)"
    eventually(lambda: probes.value(kept, list(bodies)) == len(bodies), seconds=40)


def subjects(mailbox: MailServer) -> list[str]:
    return sorted(str(mail.message["Subject"]) for mail in mailbox.mails)


def test_each_new_kind_of_dead_letter_is_one_mail_and_no_more(
    mailbox: MailServer, own_probes: Probes, channel: BlockingChannel
) -> None:
    publish(own_probes, channel, "bills", *[b"planted-%d-%s" % (number, uuid4().bytes) for number in range(5)])
    text = mailbox.next_to(OPS)
    assert subjects(mailbox) == ["Stint: unrecognized messages on bills"]
    assert "dead-lettered by RabbitMQ: rejected" in text
    named = text.partition("./stint dead show ")[2].split(",")[0]
    assert own_probes.stint.command("dead", "show", named).returncode == 0
    assert "planted" not in text, "no content of an unrecognized message is in the mail"

    # another reason and another queue cause new alerts; more messages of a known kind do not
    publish(own_probes, channel, "bills", dramatiq("bills", "probe"), b"the same once more")
    publish(own_probes, channel, "timers", b"elsewhere", b"elsewhere, too")
    # a dead letter causes one as well
    for key in ("a", "b"):
        own_probes.instruct(key, "permanent")
    for message_id in own_probes.enqueue(Probe(key="a"), Probe(key="b")):
        own_probes.wait_for(message_id, "dead")
    unrecognized = "Stint: unrecognized messages on"
    expected = ["Stint: probe fails permanently", *(f"{unrecognized} {queue}" for queue in ("bills", "bills", "timers"))]
    eventually(lambda: len(mailbox.mails) >= 4, seconds=40, why=str(subjects(mailbox)))
    untold = "SELECT (SELECT count(*) FROM unrecognized_groups WHERE alerted_at IS NULL) + "
    untold += "(SELECT count(*) FROM failure_groups WHERE alerted_at IS NULL)"
    eventually(lambda: own_probes.value(untold) == 0)
    eventually(lambda: own_probes.value("SELECT count(*) FROM messages WHERE actor = 'send_mail' AND state <> 'done'") == 0)
    assert subjects(mailbox) == expected
    assert any("no message of ours has this id, actor and queue" in text for text in mailbox.to(OPS))


def test_a_kind_that_was_not_seen_for_a_day_gets_a_new_alert(
    mailbox: MailServer, own_probes: Probes, channel: BlockingChannel
) -> None:
    publish(own_probes, channel, "bills", b"first")
    mailbox.next_to(OPS)
    own_probes.conn.execute("UPDATE unrecognized_groups SET last_at = last_at - interval '25 hours'")
    publish(own_probes, channel, "bills", b"a day later")
    mailbox.next_to(OPS, after=1)


def test_messages_that_fail_with_the_same_error_at_once_do_not_wait_for_each_other(own: Installation) -> None:
    failure = Failure(error_class="ValueError", error="no", traceback="", worker="here:1", final=True)

    async def fail_and_record(conn: Connection) -> None:
        message_id = await outbox.enqueue(conn, Probe(key="k"))
        await conn.execute(
            "UPDATE messages SET state = 'sent', delivery_number = 1, sent_at = now() WHERE id = %s", (message_id,)
        )
        record = await outbox.lock(conn, message_id)
        assert record is not None
        assert await failed_attempts.record_failed_attempt(conn, record, failure, base_seconds=1) == "dead"
        await unrecognized_messages.record_unrecognized(conn, queue="bills", reason="unknown", body=b"x")

    async def fail_at_the_same_time() -> None:
        async with (
            await Connection.connect(own.database_url, autocommit=True) as one,
            await Connection.connect(own.database_url, autocommit=True) as other,
        ):
            await fail_and_record(one)
            await other.execute("SET lock_timeout = '1s'")
            async with one.transaction(), other.transaction():
                await fail_and_record(one)
                await fail_and_record(other)  # before the first has committed

    asyncio.run(fail_at_the_same_time())
    assert own.value("SELECT count(*) FROM messages WHERE state = 'dead'") == 3
    assert (own.value("SELECT count(*) FROM failure_groups"), own.value("SELECT count(*) FROM unrecognized_groups")) == (1, 1)

"""The people on call, over real SMTP: one mail for each new group of dead letters and each new kind of foreign ones."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from psycopg import AsyncConnection

from schemas import failures
from schemas import ledger as the_ledger
from schemas.failures import Failure
from tests.actors.probe import Probe
from tests.actors.probing import Ledger
from tests.actors.strangers import dramatiq
from tests.installation import Installation, eventually
from tests.smtp import MailServer, mail_server

OPS = "ops@example.com"


@pytest.fixture
def mailbox(own: Installation) -> Iterator[MailServer]:
    with mail_server() as server:
        own.environment |= {"SMTP_URL": server.url, "OPS_EMAIL": OPS}
        yield server


@pytest.fixture
def channel(mailbox: MailServer, ledger: Ledger) -> Iterator[BlockingChannel]:
    eventually(lambda: "working on" in ledger.stint.log("work"), seconds=40)
    with pika.BlockingConnection(pika.URLParameters(ledger.stint.amqp_url)) as connection:
        yield connection.channel()


def publish(ledger: Ledger, channel: BlockingChannel, queue: str, *bodies: bytes) -> None:
    """Returns when all of them are kept."""
    for body in bodies:
        channel.basic_publish("", queue, body)
    kept = "SELECT count(*) FROM foreign_letters WHERE body = ANY(%s)"
    eventually(lambda: ledger.one(kept, list(bodies)) == len(bodies), seconds=40)


def subjects(mailbox: MailServer) -> list[str]:
    return sorted(str(mail.message["Subject"]) for mail in mailbox.mails)


def test_each_new_kind_of_letter_is_one_mail_and_no_more(mailbox: MailServer, ledger: Ledger, channel: BlockingChannel) -> None:
    publish(ledger, channel, "bills", *[b"planted-%d-%s" % (number, uuid4().bytes) for number in range(5)])
    text = mailbox.next_to(OPS)
    assert subjects(mailbox) == ["Stint: foreign letters on bills"]
    assert "dead-lettered by RabbitMQ: rejected" in text
    named = text.partition("./stint dead show ")[2].split(",")[0]
    assert ledger.stint.command("dead", "show", named).returncode == 0
    assert "planted" not in text, "nothing of a stranger's goes further"

    # another reason, and another queue, are news; more of what is known is none
    publish(ledger, channel, "bills", dramatiq("bills", "probe"), b"the same once more")
    publish(ledger, channel, "timers", b"elsewhere", b"elsewhere, too")
    # so is a letter of our own
    for key in ("a", "b"):
        ledger.order(key, "permanent")
    for message_id in ledger.put(Probe(key="a"), Probe(key="b")):
        ledger.becomes(message_id, "dead")
    expected = [
        "Stint: foreign letters on bills", "Stint: foreign letters on bills", "Stint: foreign letters on timers",
        "Stint: probe fails for good",
    ]  # fmt: skip
    eventually(lambda: len(mailbox.mails) >= 4, seconds=40, why=str(subjects(mailbox)))
    untold = "SELECT (SELECT count(*) FROM foreign_groups WHERE told_at IS NULL) + "
    untold += "(SELECT count(*) FROM failure_groups WHERE told_at IS NULL)"
    eventually(lambda: ledger.one(untold) == 0)
    eventually(lambda: ledger.one("SELECT count(*) FROM messages WHERE actor = 'send_mail' AND state <> 'done'") == 0)
    assert subjects(mailbox) == expected
    assert any("no message of ours has this id, actor and queue" in text for text in mailbox.to(OPS))


def test_a_kind_that_was_quiet_for_a_day_is_news_again(mailbox: MailServer, ledger: Ledger, channel: BlockingChannel) -> None:
    publish(ledger, channel, "bills", b"first")
    mailbox.next_to(OPS)
    ledger.conn.execute("UPDATE foreign_groups SET last_at = last_at - interval '25 hours'")
    publish(ledger, channel, "bills", b"a day later")
    mailbox.next_to(OPS, after=1)


def test_those_that_fail_of_the_same_at_once_do_not_wait_for_each_other(own: Installation) -> None:
    failure = Failure(error_class="ValueError", error="no", traceback="", worker="here:1", final=True)

    async def fail(conn: AsyncConnection[Any]) -> None:
        message_id = await the_ledger.put(conn, Probe(key="k"))
        await conn.execute("UPDATE messages SET state = 'sent', publication = 1, sent_at = now() WHERE id = %s", (message_id,))
        record = await the_ledger.lock(conn, message_id)
        assert record is not None
        assert await failures.fail(conn, record, failure, base_seconds=1) == "dead"
        await failures.keep_foreign(conn, queue="bills", reason="a stranger", body=b"x")

    async def three_of_them() -> None:
        async with (
            await AsyncConnection.connect(own.database_url, autocommit=True) as one,
            await AsyncConnection.connect(own.database_url, autocommit=True) as other,
        ):
            await fail(one)
            await other.execute("SET lock_timeout = '1s'")
            async with one.transaction(), other.transaction():
                await fail(one)
                await fail(other)  # while the first has not committed

    asyncio.run(three_of_them())
    assert own.value("SELECT count(*) FROM messages WHERE state = 'dead'") == 3
    assert (own.value("SELECT count(*) FROM failure_groups"), own.value("SELECT count(*) FROM foreign_groups")) == (1, 1)

"""A bill whose message becomes a dead letter in the relay is marked as failed, as by a worker: the relay imports no
handlers."""

from collections.abc import Callable

import pika
import pytest

from actors.runtime.broker import encode_reference
from tests.support.firm_with_xero import Firm
from tests.support.given import Given, Json
from tests.support.installation import Installation, eventually
from tests.support.xero_sandbox import XeroSandbox


def lease_expires(firm: Firm, bill: Json) -> None:
    """The worker crashed during the last attempt of the message."""
    firm.stint.rows(
        """
        UPDATE messages SET state = 'calling', attempts = max_attempts - 1, lease_token = gen_random_uuid(), lease_until = now()
        WHERE actor = 'sync_bill' AND body->>'bill_id' = %s RETURNING id
        """,
        bill["id"],
    )


def dead_lettered_by_rabbitmq(firm: Firm, bill: Json) -> None:
    """RabbitMQ has moved the delivery of the last attempt to the dead-letter queue."""
    [(message_id, delivery_number)] = firm.stint.rows(
        """
        UPDATE messages SET attempts = max_attempts - 1
        WHERE actor = 'sync_bill' AND body->>'bill_id' = %s AND state = 'sent' RETURNING id, delivery_number
        """,
        bill["id"],
    )
    body = encode_reference(message_id=message_id, delivery_number=delivery_number, actor="sync_bill", queue="xero")
    with pika.BlockingConnection(pika.URLParameters(firm.stint.amqp_url)) as connection:
        connection.channel().basic_publish("", "xero.XQ", body)


@pytest.mark.parametrize("ending", [lease_expires, dead_lettered_by_rabbitmq])
def test_a_bill_whose_message_dies_in_the_relay_has_failed(
    ending: Callable[[Firm, Json], None], own_with_xero: Installation, xero: XeroSandbox, given_own: Given
) -> None:
    own_with_xero.new_processes = True  # started like `./stint relay`: a fork of the tests would have more modules imported
    own_with_xero.start("api", "relay").wait_until_ready()
    firm = Firm.new(own_with_xero, xero, given_own)
    bill = firm.approved()
    sent = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND state = 'sent'"
    eventually(lambda: own_with_xero.value(sent) == 1, why="the relay has published it, and no worker is running")

    ending(firm, bill)

    assert "replay" in firm.wait_for_status(bill, "failed")["xero"]["error"]
    status = firm.admin.get("/api/xero/status")
    assert (status["failed"], status["queued"]) == (1, 0)
    own_with_xero.verify()

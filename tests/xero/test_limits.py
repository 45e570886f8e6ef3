"""All workers together keep Xero's rate limits, and waiting for them costs little."""

import time

import pytest

from tests.support.firm_with_xero import Firm
from tests.support.given import Given
from tests.support.installation import eventually
from tests.support.sizes import LIMITED_BILLS, LIMITED_ENTRIES
from tests.support.xero_sandbox import XeroSandbox, most_at_once, most_in_a_minute

pytestmark = pytest.mark.quiet

WORKERS = ("work:xero", "work:xero,mail", "work:xero,slack", "work:xero,mail,slack")
DELIVERIES = "SELECT sum(delivery_number), count(*), max(attempts) FROM messages WHERE actor = 'sync_bill'"


def running(given: Given, xero: XeroSandbox, **limits: str) -> Firm:
    """Four workers with these limits; Xero has none, so that only Stint's limits have an effect."""
    stint = given.stint
    stint.environment |= limits
    stint.start("api", "relay", "work:bills,timers", *WORKERS)
    eventually(lambda: stint.answers("/health/ready"), seconds=60)
    xero.disable_limits()
    return Firm.new(stint, xero, given)


@pytest.mark.slow
def test_four_workers_never_exceed_the_limit_of_a_short_minute(given_own: Given, xero: XeroSandbox) -> None:
    limits = {"XERO_CALLS_PER_MINUTE": "20", "STINT_XERO_MINUTE_SECONDS": "6", "XERO_CALLS_AT_ONCE": "3"}
    firm = running(given_own, xero, **limits)
    xero.configure(latencySeconds=0.1)
    bills = firm.given.many_bills(firm.by, firm.task, 60)

    firm.approve_all(bills)

    eventually(lambda: len(xero.entries()) == 60, seconds=90)
    firm.settled()
    calls = xero.calls("/projects.xro")
    assert 17 < most_in_a_minute(calls, seconds=6) <= 20
    assert 1 < most_at_once(calls) <= 3
    deliveries, messages, attempts = firm.stint.rows(DELIVERIES)[0]
    assert attempts == 0  # waiting counts no attempt
    assert deliveries < 6 * messages  # waiting messages are not delivered again and again without a free slot
    firm.check()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_four_workers_never_exceed_xeros_own_limits(given_own: Given, xero: XeroSandbox) -> None:
    firm = running(given_own, xero, XERO_CALLS_PER_MINUTE="60", STINT_XERO_CHECK_SECONDS="600")
    xero.configure(concurrent=5, minute=60, day=5000, latencySeconds=0.2)
    firm.approve_all(firm.given.many_bills(firm.by, firm.task, LIMITED_BILLS))
    eventually(lambda: len(xero.entries()) >= LIMITED_ENTRIES, seconds=60 + LIMITED_ENTRIES)
    calls = xero.calls("/projects.xro")
    assert [call for call in calls if call["status"] == 429] == []
    assert 55 < most_in_a_minute(calls) <= 60
    assert most_at_once(calls) <= 5
    deliveries, messages, _ = firm.stint.rows(DELIVERIES)[0]
    assert deliveries < 5 * messages


def test_four_workers_never_exceed_the_limit_of_a_day(given_own: Given, xero: XeroSandbox) -> None:
    firm = running(given_own, xero, XERO_CALLS_PER_DAY="8")
    firm.approve_all(firm.given.many_bills(firm.by, firm.task, 12))
    waiting = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND available_at > now() + interval '23 hours'"
    eventually(lambda: firm.stint.value(waiting) >= 4, seconds=60)
    eventually(lambda: len(xero.calls("/projects.xro")) == 8, seconds=60)
    assert firm.stint.value("SELECT max(attempts) FROM messages WHERE actor = 'sync_bill'") == 0


def test_one_429_pauses_all_calls(firm: Firm) -> None:
    firm.wait_for_status(firm.approved(), "synced")  # Xero's users are fetched now
    firm.xero.forget_calls()
    firm.xero.inject_fault("status", status=429, retryAfter=4, problem="minute", path="/Time", count=1)

    firm.approve_all(firm.given.many_bills(firm.by, firm.task, 30, first="2025-01-01"))

    refused = eventually(lambda: [call for call in firm.xero.calls("/Time") if call["status"] == 429])[0]
    firm.settled()
    # four other calls may have started before this one was refused, and may arrive late
    while_paused = [call for call in firm.xero.calls("/Time") if refused["endAt"] < call["at"] < refused["endAt"] + 4]
    assert len(while_paused) <= 4
    attempts = """
        SELECT max(m.attempts) FROM messages m JOIN time_bills b ON b.id::text = m.body->>'bill_id' WHERE b.customer_id = %s
    """
    assert firm.stint.value(attempts, firm.customer["id"]) == 0
    firm.check()


def test_a_request_gets_503_while_the_limit_is_reached(firm: Firm) -> None:
    firm.stint.rows("UPDATE xero_tenants SET paused_until = now() + interval '3 seconds' RETURNING 1")
    answer = firm.admin.http.get("/api/xero/projects")
    assert answer.status_code == 503 and 1 <= int(answer.headers["retry-after"]) <= 5
    time.sleep(3)
    firm.admin.get("/api/xero/projects")

"""Xero's limits hold over all workers together, and who waits for them costs little."""

import time

import pytest

from tests.firm_with_xero import Firm
from tests.given import Given
from tests.installation import eventually
from tests.sandbox import XeroSandbox, most_at_once, most_in_a_minute

WORKERS = ("work:xero", "work:xero,mail", "work:xero,slack", "work:xero,mail,slack")
PUBLICATIONS = "SELECT sum(publication), count(*), max(attempts) FROM messages WHERE actor = 'sync_bill'"


def running(given: Given, xero: XeroSandbox, **limits: str) -> Firm:
    """Four workers at these limits; Xero has none, so that it is Stint's that are seen."""
    stint = given.stint
    stint.environment |= limits
    stint.start("api", "relay", "work:bills,timers", *WORKERS)
    eventually(lambda: stint.answers("/health/ready"), seconds=60)
    xero.without_limits()
    return Firm.new(stint, xero, given)


def test_a_short_minute_is_never_overdrawn_by_four_workers(given_own: Given, xero: XeroSandbox) -> None:
    limits = {"XERO_CALLS_PER_MINUTE": "20", "STINT_XERO_MINUTE_SECONDS": "6", "XERO_CALLS_AT_ONCE": "3"}
    firm = running(given_own, xero, **limits)
    xero.sets(latencySeconds=0.1)
    bills = firm.given.many_bills(firm.by, firm.task, 60)

    firm.approve_all(bills)

    eventually(lambda: len(xero.entries()) == 60, seconds=90)
    firm.settled()
    calls = xero.calls("/projects.xro")
    assert 17 < most_in_a_minute(calls, seconds=6) <= 20
    assert 1 < most_at_once(calls) <= 3
    publications, messages, attempts = firm.stint.rows(PUBLICATIONS)[0]
    assert attempts == 0  # waiting costs none
    assert publications < 6 * messages  # nor is anybody woken again and again to find out that there is no room
    firm.check()


@pytest.mark.slow(seconds=80)
def test_xeros_own_limits_are_never_overdrawn_by_four_workers(given_own: Given, xero: XeroSandbox) -> None:
    firm = running(given_own, xero, XERO_CALLS_PER_MINUTE="60", STINT_XERO_CHECK_SECONDS="600")
    xero.sets(concurrent=5, minute=60, day=5000, latencySeconds=0.2)
    bills = firm.given.many_bills(firm.by, firm.task, 120)
    firm.approve_all(bills)
    eventually(lambda: len(xero.entries()) > 70, seconds=120)
    calls = xero.calls("/projects.xro")
    assert [call for call in calls if call["status"] == 429] == []
    assert 55 < most_in_a_minute(calls) <= 60
    assert most_at_once(calls) <= 5
    publications, messages, _ = firm.stint.rows(PUBLICATIONS)[0]
    assert publications < 5 * messages


def test_the_days_limit_holds_too(given_own: Given, xero: XeroSandbox) -> None:
    firm = running(given_own, xero, XERO_CALLS_PER_DAY="8")
    firm.approve_all(firm.given.many_bills(firm.by, firm.task, 12))
    waiting = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND available_at > now() + interval '23 hours'"
    eventually(lambda: firm.stint.value(waiting) >= 4, seconds=60)
    eventually(lambda: len(xero.calls("/projects.xro")) == 8, seconds=60)
    assert firm.stint.value("SELECT max(attempts) FROM messages WHERE actor = 'sync_bill'") == 0


def test_one_429_makes_all_pause(firm: Firm) -> None:
    firm.comes_to(firm.approved(), "synced")  # who may be named is known
    firm.xero.forget_calls()
    firm.xero.fails("status", status=429, retryAfter=4, problem="minute", path="/Time", count=1)

    firm.approve_all(firm.given.many_bills(firm.by, firm.task, 30, first="2025-01-01"))

    refused = eventually(lambda: [call for call in firm.xero.calls("/Time") if call["status"] == 429])[0]
    firm.settled()
    # those that were let go before it was refused may still arrive, however late: it was one of five
    while_paused = [call for call in firm.xero.calls("/Time") if refused["endAt"] < call["at"] < refused["endAt"] + 4]
    assert len(while_paused) <= 4
    attempts = """
        SELECT max(m.attempts) FROM messages m JOIN time_bills b ON b.id::text = m.body->>'bill_id' WHERE b.customer_id = %s
    """
    assert firm.stint.value(attempts, firm.customer["id"]) == 0
    firm.check()


def test_a_full_limit_is_said_to_who_asks_in_a_request(firm: Firm) -> None:
    firm.stint.rows("UPDATE xero_tenants SET paused_until = now() + interval '3 seconds' RETURNING 1")
    answer = firm.admin.http.get("/api/xero/projects")
    assert answer.status_code == 503 and 1 <= int(answer.headers["retry-after"]) <= 5
    time.sleep(3)
    firm.admin.get("/api/xero/projects")

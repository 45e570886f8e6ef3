"""Xero at its worst, and workers killed in the middle of it: exactly one entry for each approved bill."""

import random
import time
from collections.abc import Callable

import pytest

from tests.firm_with_xero import IN_MOTION, Firm
from tests.given import Given
from tests.installation import Installation
from tests.sandbox import XeroSandbox

WORKERS = ("work:xero", "work:xero,mail")
# a call of a worker that was killed holds its place until it must be over: with five of them there would be few left
FAST = {"XERO_CALLS_PER_MINUTE": "6000", "XERO_CALLS_AT_ONCE": "20", "STINT_RETRY_BASE_SECONDS": "0.1"}


def kill_until(stint: Installation, over: Callable[[], bool], *, seed: int, seconds: float) -> int:
    """Kills a worker every few seconds, and starts it anew, until it is over; returns how many."""
    chance, ends, kills = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        patience = time.monotonic() + chance.uniform(2, 5)
        while time.monotonic() < patience:
            if over():
                return kills
            time.sleep(0.1)
        name = chance.choice(WORKERS)
        stint.kill(name)
        stint.start(name)
        kills += 1
    raise AssertionError(f"not over after {seconds} s: {stint.rows('SELECT xero_status, count(*) FROM time_bills GROUP BY 1')}")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_500_bills_in_a_storm_with_workers_killed(given_own: Given, xero: XeroSandbox) -> None:
    given, stint, seed = given_own, given_own.stint, random.randrange(10**6)
    print("seed", seed)
    stint.environment |= FAST
    stint.start("api", "relay", "work:bills,timers", *WORKERS).wait_until_ready()
    firm = Firm.new(stint, xero, given)
    xero.without_limits()
    bills = [
        bill_id
        for number in range(5)
        for bill_id in given.many_bills(firm.by, firm.task, 100, seconds=600 * (number + 1), first=f"202{number}-01-01")
    ]
    xero.storms(seed=seed, seconds=1)

    firm.approve_all(bills)

    kills = kill_until(stint, lambda: stint.value(IN_MOTION) == 0, seed=seed, seconds=150)
    print(f"{kills} kills, {len(xero.calls())} calls, {len(dead(stint))} dead letters")
    replay_the_dead(firm)
    assert len(xero.entries()) == 500
    firm.check()

    reopened = bills[:100]
    xero.storms(seed=seed + 1, seconds=1)
    for bill_id in reopened:
        firm.change({"id": bill_id}, status="pending")
    kills = kill_until(stint, lambda: stint.value(IN_MOTION) == 0, seed=seed + 1, seconds=100)
    replay_the_dead(firm)
    edit_and_approve(firm, reopened[:50])
    for bill_id in reopened[50:]:
        firm.change({"id": bill_id}, status="rejected", rejectionNote="not agreed")
    firm.settled()
    assert len(xero.entries()) == 450
    firm.check()


def edit_and_approve(firm: Firm, bill_ids: list[str]) -> None:
    for bill_id in bill_ids:
        [entry] = firm.by.get("/api/time-entries", timeBillId=bill_id)["items"]
        firm.by.patch(f"/api/time-entries/{entry['id']}", {"duration": entry["duration"] + 1500, "allowOverlap": True})
        firm.change({"id": bill_id}, status="approved")


def dead(stint: Installation) -> list[str]:
    """The bills whose message is a dead letter; all of these say so, and no others."""
    letters = [row[0] for row in stint.rows("SELECT body->>'bill_id' FROM messages WHERE state = 'dead' ORDER BY 1")]
    assert letters == [row[0] for row in stint.rows("SELECT id::text FROM time_bills WHERE xero_status = 'failed' ORDER BY 1")]
    return letters


def replay_the_dead(firm: Firm) -> None:
    """What the person on call does when the storm is over."""
    firm.xero.recovers()
    dead(firm.stint)
    firm.replay()
    firm.settled()

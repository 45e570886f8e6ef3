"""Xero at its worst, and workers killed in the middle of it: exactly one entry for each approved bill."""

import random
import time

import pytest

from tests.firm_with_xero import IN_MOTION, Firm
from tests.given import Given
from tests.installation import Installation
from tests.sandbox import XeroSandbox
from tests.sizes import FULL, STORM_BILLS, STORM_KILLS

WORKERS = ("work:xero", "work:xero,mail")
# a call of a worker that was killed holds its place until it must be over: with five of them there would be few left
FAST = {"XERO_CALLS_PER_MINUTE": "6000", "XERO_CALLS_AT_ONCE": "20", "STINT_RETRY_BASE_SECONDS": "0.1"}


def kill_meanwhile(stint: Installation, bills: int, *, kills: int, seed: int, seconds: float) -> None:
    """Kills a worker, and starts it anew, whenever another part of the bills has come to its end; returns when all have."""
    chance, ends = random.Random(seed), time.monotonic() + seconds
    moving = stint.value(IN_MOTION)
    for left in [*range(kills, 0, -1), 0]:
        while moving > bills * left // (kills + 1):
            assert time.monotonic() < ends, stint.rows("SELECT xero_status, count(*) FROM time_bills GROUP BY 1")
            time.sleep(0.1)
            moving = stint.value(IN_MOTION)
        if left:
            name = chance.choice(WORKERS)
            stint.kill(name)
            stint.start(name)


@pytest.mark.slow(seconds=100)
@pytest.mark.timeout(1800 if FULL else 400)
def test_bills_in_a_storm_with_workers_killed(given_own: Given, xero: XeroSandbox) -> None:
    given, stint, seed = given_own, given_own.stint, random.randrange(10**6)
    print("seed", seed)
    stint.environment |= FAST
    stint.start("api", "relay", "work:bills,timers", *WORKERS).wait_until_ready()
    firm = Firm.new(stint, xero, given)
    xero.without_limits()
    bills = [
        bill_id
        for number in range(5)
        for bill_id in given.many_bills(
            firm.by, firm.task, STORM_BILLS // 5, seconds=600 * (number + 1), first=f"202{number}-01-01"
        )
    ]
    xero.storms(seed=seed, seconds=1)

    firm.approve_all(bills)

    kill_meanwhile(stint, STORM_BILLS, kills=STORM_KILLS, seed=seed, seconds=1500 if FULL else 150)
    print(f"{STORM_KILLS} kills, {len(xero.calls())} calls, {len(dead(stint))} dead letters")
    replay_the_dead(firm)
    assert len(xero.entries()) == STORM_BILLS
    firm.check()

    reopened = bills[: STORM_BILLS // 5]
    xero.storms(seed=seed + 1, seconds=1)
    for bill_id in reopened:
        firm.change({"id": bill_id}, status="pending")
    kill_meanwhile(stint, len(reopened), kills=STORM_KILLS // 4, seed=seed + 1, seconds=500 if FULL else 100)
    replay_the_dead(firm)
    half = len(reopened) // 2
    edit_and_approve(firm, reopened[:half])
    for bill_id in reopened[half:]:
        firm.change({"id": bill_id}, status="rejected", rejectionNote="not agreed")
    firm.settled()
    assert len(xero.entries()) == STORM_BILLS - (len(reopened) - half)
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

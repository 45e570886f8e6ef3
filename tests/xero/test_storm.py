"""Random faults of Xero while its lists are behind and workers are killed: each approved bill still has exactly one entry."""

import random
import time

import pytest

from tests.support.firm_with_xero import UNFINISHED, Firm
from tests.support.given import Given
from tests.support.installation import Installation
from tests.support.sizes import FULL, STORM_BILLS, STORM_KILLS, STORM_LAG, STORM_LATE
from tests.support.xero_sandbox import XeroSandbox

WORKERS = ("work:xero", "work:xero,mail")
# the slot of a killed worker's call is only free after the call's deadline: with five slots, few would be left
FAST = {
    "XERO_CALLS_PER_MINUTE": "6000",
    "XERO_CALLS_AT_ONCE": "20",
    "STINT_RETRY_BASE_SECONDS": "0.1",
    "STINT_XERO_LAG_SECONDS": str(STORM_LAG),
    "STINT_XERO_LATE_SECONDS": str(STORM_LATE + 2),
}


def kill_meanwhile(stint: Installation, bills: int, *, kills: int, seed: int, seconds: float) -> None:
    """Kills and restarts a worker whenever another part of the bills is finished; returns when all are."""
    chance, ends = random.Random(seed), time.monotonic() + seconds
    unfinished = stint.value(UNFINISHED)
    for left in [*range(kills, 0, -1), 0]:
        while unfinished > bills * left // (kills + 1):
            assert time.monotonic() < ends, stint.rows("SELECT xero_status, count(*) FROM time_bills GROUP BY 1")
            time.sleep(0.1)
            unfinished = stint.value(UNFINISHED)
        if left:
            name = chance.choice(WORKERS)
            stint.kill(name)
            stint.start(name)


@pytest.mark.slow
@pytest.mark.timeout(1800 if FULL else 400)
def test_each_bill_has_one_entry_after_random_faults_and_killed_workers(given_own: Given, xero: XeroSandbox) -> None:
    given, stint, seed = given_own, given_own.stint, random.randrange(10**6)
    print("seed", seed)
    stint.environment |= FAST
    stint.start("api", "relay", "work:bills,timers", *WORKERS).wait_until_ready()
    firm = Firm.new(stint, xero, given)
    xero.disable_limits()
    bills = [
        bill_id
        for number in range(5)
        for bill_id in given.many_bills(
            firm.by, firm.task, STORM_BILLS // 5, seconds=600 * (number + 1), first=f"202{number}-01-01"
        )
    ]
    xero.configure(listLagSeconds=[0, STORM_LAG])
    xero.inject_random_faults(seed=seed, seconds=1, late_seconds=STORM_LATE)

    firm.approve_all(bills)

    kill_meanwhile(stint, STORM_BILLS, kills=STORM_KILLS, seed=seed, seconds=1500 if FULL else 150)
    print(f"{STORM_KILLS} kills, {len(xero.calls())} calls, {len(dead(stint))} dead letters")
    replay_the_dead(firm)
    assert len(xero.entries()) == STORM_BILLS
    firm.check()

    reopened = bills[: STORM_BILLS // 5]
    xero.inject_random_faults(seed=seed + 1, seconds=1, late_seconds=STORM_LATE)
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
    """The bills whose message is a dead letter; checks that these bills are `failed`, and no others."""
    of_bills = "SELECT body->>'bill_id' FROM messages WHERE state = 'dead' AND actor = 'sync_bill' ORDER BY 1"
    bill_ids = [row[0] for row in stint.rows(of_bills)]
    assert bill_ids == [row[0] for row in stint.rows("SELECT id::text FROM time_bills WHERE xero_status = 'failed' ORDER BY 1")]
    return bill_ids


def replay_the_dead(firm: Firm) -> None:
    """Replays all dead letters after the faults are cleared."""
    firm.xero.clear_faults()
    dead(firm.stint)
    firm.replay()
    firm.settled()

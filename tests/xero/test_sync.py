"""Approved bills reach Xero, exactly once, and come back from there."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from schemas import ledger
from schemas.messages import SyncBill
from tests.api.answers import problem
from tests.firm_with_xero import Firm
from tests.given import Json
from tests.installation import eventually
from tests.sandbox import most_at_once


def test_an_approved_bill_becomes_one_time_entry(firm: Firm) -> None:
    bill = firm.bill(minutes=90)
    firm.by.patch(f"/api/time-bills/{bill['id']}", {"memo": "Moved the mail server"})
    approved = firm.change(bill, status="approved")
    assert approved["xero"]["status"] == "queued"

    synced = firm.comes_to(bill, "synced")

    [entry] = firm.entries()
    assert entry["timeEntryId"] == synced["xero"]["timeEntryId"]
    assert (entry["duration"], entry["dateUtc"][:16]) == (90, "2026-03-02T12:00")
    assert entry["description"] == f"Moved the mail server [bill:{bill['id']}]"
    assert synced["xero"]["syncedAt"] and synced["xero"]["error"] is None
    assert synced["version"] == approved["version"]  # nothing that anybody approved has changed
    firm.check()


FAULTS = ["stall", "late", "drop_before", "drop_after", "half", "trickle"]


@pytest.mark.parametrize("fault", [*[{"kind": kind, "seconds": 3} for kind in FAULTS], *[
    {"kind": "status", "status": status} for status in (500, 503, 401)
]], ids=lambda fault: str(fault.get("status", fault["kind"])))  # fmt: skip
def test_whatever_becomes_of_the_answer_there_is_one_entry(fault: Json, firm: Firm) -> None:
    firm.xero.fails_by(fault | {"method": "POST", "path": "/Time$", "count": 2})

    bill = firm.approved()

    firm.comes_to(bill, "synced", seconds=60)
    firm.check()


def test_an_unknown_outcome_is_looked_up_before_anything_is_created_again(firm: Firm) -> None:
    firm.xero.fails("drop_after", method="POST", path="/Time$", count=1)
    bill = firm.approved()
    firm.comes_to(bill, "synced", seconds=60)
    assert len(firm.xero.calls("/Time", "POST")) == 1
    [look] = [call for call in firm.xero.calls("/Time", "GET") if "states" not in call["query"]]
    assert {"userId", "dateAfterUtc", "dateBeforeUtc", "page"} <= set(look["query"])


def test_a_creation_that_is_done_late_is_not_done_twice(firm: Firm) -> None:
    # the look-up comes too early to find it, and the second request while the first is still to be done
    firm.xero.fails("late", method="POST", path="/Time$", seconds=5, count=1)
    bill = firm.approved()
    firm.comes_to(bill, "synced", seconds=60)
    [first, second] = firm.xero.calls("/Time", "POST")
    assert first["key"] == second["key"]
    eventually(lambda: firm.xero.calls("/Time", "POST")[0]["endAt"], why="the late one is done, too")
    firm.check()


def test_two_messages_of_one_bill_never_call_at_once(firm: Firm) -> None:
    firm.xero.sets(latencySeconds=0.5)
    bill = firm.bill()

    async def put() -> None:
        async with await psycopg.AsyncConnection.connect(firm.stint.database_url) as conn:
            await ledger.put_all(conn, [SyncBill(bill_id=bill["id"])] * 10)

    firm.change(bill, status="approved")
    asyncio.run(put())
    firm.comes_to(bill, "synced")
    firm.settled()
    # what is asked beside, of what is invoiced, is of no bill
    calls = [call for call in firm.xero.calls(f"{firm.project['projectId']}/Time") if "states" not in call["query"]]
    assert most_at_once(calls) == 1
    firm.check()


def test_what_xero_refuses_is_a_dead_letter_and_a_replay_mends_it(firm: Firm) -> None:
    fixed = firm.xero.task(firm.project, "At a fixed price", chargeType="FIXED")
    firm.map_pillar(fixed["taskId"])
    bill = firm.approved()
    failed = firm.comes_to(bill, "failed")
    assert "fixed price" in failed["xero"]["error"] and firm.entries() == []
    assert firm.admin.get("/api/xero/status")["failed"] >= 1

    firm.map_pillar(firm.xero.task(firm.project, "By the hour")["taskId"])
    firm.replay(q=bill["id"])

    assert firm.comes_to(bill, "synced")["xero"]["error"] is None
    firm.check()


def test_a_bill_that_xero_always_fails_says_so_in_the_end(firm: Firm) -> None:
    firm.xero.fails("status", method="POST", path="/Time$", status=500)
    bill = firm.approved()
    eventually(lambda: firm.read(bill)["xero"]["error"] == "Xero answered 500")
    assert firm.read(bill)["xero"]["status"] == "queued"
    firm.stint.rows("UPDATE messages SET allowance = attempts + 1 WHERE body->>'bill_id' = %s RETURNING 1", bill["id"])
    assert firm.comes_to(bill, "failed")["xero"]["error"] == "Xero answered 500"
    firm.xero.recovers()
    firm.replay(q=bill["id"])
    firm.comes_to(bill, "synced")
    firm.check()


# reopening


def test_a_reopened_bill_is_pending_once_its_entry_is_gone(firm: Firm) -> None:
    bill = firm.approved(minutes=60)
    firm.comes_to(bill, "synced")
    late = firm.given.entry(firm.by, firm.task, start="2026-03-02T15:00:00Z", minutes=30)
    firm.xero.fails("status", method="DELETE", status=503)

    withdrawing = firm.change(bill, status="pending")

    assert (withdrawing["status"], withdrawing["xero"]["status"]) == ("approved", "withdrawing")
    assert len(firm.entries()) == 1
    entry = firm.by.get("/api/time-entries", timeBillId=bill["id"])["items"][0]
    problem(firm.by.http.patch(f"/api/time-entries/{entry['id']}", json={"duration": 60}), 409)
    assert (
        "withdrawn"
        in problem(firm.admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "pending"}), 409)["detail"]
    )

    firm.xero.recovers()
    reopened = firm.comes_to(bill, "none")
    assert (reopened["status"], reopened["minutes"], firm.entries()) == ("pending", 90, [])
    assert firm.by.get(f"/api/time-entries/{late['id']}")["timeBillId"] == bill["id"]
    firm.change(bill, status="approved")
    firm.comes_to(bill, "synced")
    firm.check()


def test_a_bill_that_is_not_in_xero_is_reopened_at_once(firm: Firm) -> None:
    firm.map_pillar(None)
    bill = firm.approved()
    firm.comes_to(bill, "not_mapped")
    assert firm.change(bill, status="pending")["status"] == "pending"


@pytest.mark.parametrize("status", ["INVOICED", "LOCKED"])
def test_an_invoiced_entry_cancels_the_reopening(status: str, firm: Firm) -> None:
    bill = firm.approved()
    synced = firm.comes_to(bill, "synced")
    firm.xero.changes(synced["xero"]["timeEntryId"], status=status)

    firm.change(bill, status="pending")

    kept = firm.comes_to(bill, "synced")
    assert (kept["status"], kept["version"]) == ("approved", synced["version"])
    assert status.lower() in kept["xero"]["error"] and kept["xero"]["invoicedAt"]
    firm.check()

    firm.xero.changes(synced["xero"]["timeEntryId"], status="ACTIVE")  # taken off the invoice
    firm.change(bill, status="pending")
    assert firm.comes_to(bill, "none")["status"] == "pending"
    firm.check()


def test_a_bill_whose_creation_may_still_be_done_is_not_let_go(firm: Firm) -> None:
    firm.xero.fails("late", method="POST", path="/Time$", seconds=4, count=1)
    bill = firm.bill()
    firm.change(bill, status="approved")
    eventually(lambda: firm.xero.calls("/Time", "POST"), why="the creation is under way")

    assert firm.change(bill, status="pending")["xero"]["status"] == "withdrawing"

    assert firm.comes_to(bill, "none", seconds=60)["status"] == "pending"
    assert firm.entries() == []
    firm.check()


def test_approving_and_reopening_at_random_leaves_xero_agreeing(firm: Firm) -> None:
    bills = [firm.bill(10 * day, f"2026-03-0{day}") for day in range(1, 7)]
    firm.xero.storms(probability=0.2, seconds=0.3)

    def act(number: int) -> int:
        body = {"status": "approved"} if number % 3 else {"status": "pending"}
        return firm.admin.http.patch(f"/api/time-bills/{bills[number % 6]['id']}", json=body).status_code

    for round_number in range(4):
        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(act, range(round_number, round_number + 12))) <= {200, 409}
    firm.xero.recovers()
    firm.settled()
    firm.check()


# what is invoiced


def test_what_is_invoiced_becomes_known(firm: Firm) -> None:
    bill = firm.approved()
    synced = firm.comes_to(bill, "synced")
    assert synced["xero"]["invoicedAt"] is None
    # one project is asked about at a time: this test has not to wait for those of all others
    firm.stint.rows("UPDATE xero_entries SET checked_at = NULL WHERE project_id <> %s RETURNING 1", firm.project["projectId"])
    firm.xero.changes(synced["xero"]["timeEntryId"], status="INVOICED")
    eventually(lambda: firm.read(bill)["xero"]["invoicedAt"], seconds=30)
    chain = "SELECT count(*) FROM messages WHERE actor = 'check_invoiced' AND state IN ('ready', 'sent', 'calling')"
    assert firm.stint.value(chain) == 1

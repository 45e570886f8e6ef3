"""Approved bills become time entries in Xero, exactly once; reopened bills are withdrawn from there."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from schemas.messages import SyncBill
from schemas.outbox import outbox
from schemas.postgres.connection import connect
from tests.support.answers import problem
from tests.support.firm_with_xero import Firm
from tests.support.given import Json
from tests.support.installation import eventually
from tests.support.xero_sandbox import most_at_once


def test_an_approved_bill_becomes_one_time_entry(firm: Firm) -> None:
    bill = firm.bill(minutes=90)
    firm.by.patch(f"/api/time-bills/{bill['id']}", {"memo": "Moved the mail server"})
    approved = firm.change(bill, status="approved")
    assert approved["xero"]["status"] == "queued"

    synced = firm.wait_for_status(bill, "synced")

    [entry] = firm.entries()
    assert entry["timeEntryId"] == synced["xero"]["timeEntryId"]
    assert (entry["duration"], entry["dateUtc"][:16]) == (90, "2026-03-02T12:00")
    assert entry["description"] == f"Moved the mail server [bill:{bill['id']}]"
    assert synced["xero"]["syncedAt"] and synced["xero"]["error"] is None
    assert synced["version"] == approved["version"]  # nothing that was approved has changed
    firm.check()


FAULTS = ["stall", "late", "drop_before", "drop_after", "half", "trickle"]


@pytest.mark.parametrize("fault", [*[{"kind": kind, "seconds": 3} for kind in FAULTS], *[
    {"kind": "status", "status": status} for status in (500, 503, 401)
]], ids=lambda fault: str(fault.get("status", fault["kind"])))  # fmt: skip
def test_there_is_one_entry_whatever_happens_to_the_answer(fault: Json, firm: Firm) -> None:
    firm.xero.inject_faults(fault | {"method": "POST", "path": "/Time$", "count": 2})

    bill = firm.approved()

    firm.wait_for_status(bill, "synced", seconds=60)
    firm.check()


def looks(firm: Firm) -> list[Json]:
    """The calls that look for one bill's entry: those for the days around it. The checks of a new project have no end."""
    return [call for call in firm.xero.calls("/Time", "GET") if {"dateAfterUtc", "dateBeforeUtc"} <= set(call["query"])]


def test_an_unknown_outcome_is_looked_up_before_another_create(firm: Firm) -> None:
    firm.xero.inject_fault("drop_after", method="POST", path="/Time$", count=1)
    bill = firm.approved()
    firm.wait_for_status(bill, "synced", seconds=60)
    assert len(firm.xero.calls("/Time", "POST")) == 1
    [look] = looks(firm)
    assert "page" in look["query"]


def test_a_create_that_is_executed_late_makes_no_second_entry(firm: Firm) -> None:
    # the look-up is too early to find the entry, and the second request arrives before the first is executed
    firm.xero.inject_fault("late", method="POST", path="/Time$", seconds=5, count=1)
    bill = firm.approved()
    firm.wait_for_status(bill, "synced", seconds=60)
    eventually(lambda: firm.xero.calls("/Time", "POST")[0]["endAt"], why="the late request is executed, too")
    first, *further = firm.xero.calls("/Time", "POST")
    assert {call["key"] for call in further} <= {first["key"]}
    # without another request, which a machine that stalls for seconds makes late, the look-up was not too early
    [*_, look] = looks(firm)
    assert further or look["endAt"] > first["endAt"]
    firm.check()


def test_a_create_whose_answer_was_lost_is_not_forgotten_while_xero_refuses_all_calls(firm: Firm) -> None:
    # Xero's list does not show the entry yet when it is looked for, and the repeat has to wait for longer than a request can
    # be late
    firm.xero.configure(listLagSeconds=[1, 1])
    create = {"method": "POST", "path": "/Time$", "count": 1}
    firm.xero.inject_faults(
        create | {"kind": "drop_after"}, create | {"kind": "status", "status": 429, "retryAfter": 8, "problem": "minute"}
    )

    bill = firm.approved()

    firm.wait_for_status(bill, "synced", seconds=90)
    assert len({call["key"] for call in firm.xero.calls("/Time", "POST")}) == 1
    firm.check()


def test_two_messages_of_one_bill_never_call_concurrently(firm: Firm) -> None:
    firm.xero.configure(latencySeconds=0.5)
    bill = firm.bill()

    async def enqueue() -> None:
        async with await connect(firm.stint.settings) as conn:
            await outbox.enqueue_many(conn, [SyncBill(bill_id=bill["id"])] * 10)

    firm.change(bill, status="approved")
    asyncio.run(enqueue())
    firm.wait_for_status(bill, "synced")
    firm.settled()
    # the calls that list all entries of the project, of any user, are made for no bill
    paths = firm.xero.calls(f"{firm.project['projectId']}/Time")
    calls = [call for call in paths if call["method"] != "GET" or "dateBeforeUtc" in call["query"]]
    assert most_at_once(calls) == 1
    firm.check()


def test_a_refused_create_is_a_dead_letter_and_a_replay_succeeds_once_the_cause_is_fixed(firm: Firm) -> None:
    task = firm.xero.task(firm.project, "At a fixed price")
    firm.map_pillar(task["taskId"])
    firm.xero.change_task(task, chargeType="FIXED")
    bill = firm.approved()
    failed = firm.wait_for_status(bill, "failed")
    assert "fixed price" in failed["xero"]["error"] and firm.entries() == []
    assert firm.admin.get("/api/xero/status")["failed"] >= 1

    firm.xero.change_task(task, chargeType="TIME")
    firm.replay(q=bill["id"])

    assert firm.wait_for_status(bill, "synced")["xero"]["error"] is None
    firm.check()


def test_a_bill_fails_after_its_last_attempt_and_shows_the_error(firm: Firm) -> None:
    firm.xero.inject_fault("status", method="POST", path="/Time$", status=500)
    bill = firm.approved()
    eventually(lambda: firm.read(bill)["xero"]["error"] == "Xero answered 500")
    assert firm.read(bill)["xero"]["status"] == "queued"
    firm.stint.rows("UPDATE messages SET max_attempts = attempts + 1 WHERE body->>'bill_id' = %s RETURNING 1", bill["id"])
    assert firm.wait_for_status(bill, "failed")["xero"]["error"] == "Xero answered 500"
    firm.xero.clear_faults()
    firm.replay(q=bill["id"])
    firm.wait_for_status(bill, "synced")
    firm.check()


# reopening


def test_a_reopened_bill_is_pending_once_its_entry_is_deleted(firm: Firm) -> None:
    bill = firm.approved(minutes=60)
    firm.wait_for_status(bill, "synced")
    late = firm.given.entry(firm.by, firm.task, start="2026-03-02T15:00:00Z", minutes=30)
    firm.xero.inject_fault("status", method="DELETE", status=503)

    withdrawing = firm.change(bill, status="pending")

    assert (withdrawing["status"], withdrawing["xero"]["status"]) == ("approved", "withdrawing")
    assert len(firm.entries()) == 1
    entry = firm.by.get("/api/time-entries", timeBillId=bill["id"])["items"][0]
    problem(firm.by.http.patch(f"/api/time-entries/{entry['id']}", json={"duration": 60}), 409)
    assert (
        "withdrawn"
        in problem(firm.admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "pending"}), 409)["detail"]
    )

    firm.xero.clear_faults()
    reopened = firm.wait_for_status(bill, "none")
    assert (reopened["status"], reopened["minutes"], firm.entries()) == ("pending", 90, [])
    assert firm.by.get(f"/api/time-entries/{late['id']}")["timeBillId"] == bill["id"]
    firm.change(bill, status="approved")
    firm.wait_for_status(bill, "synced")
    firm.check()


def test_a_bill_that_is_not_in_xero_is_reopened_at_once(firm: Firm) -> None:
    firm.map_pillar(None)
    bill = firm.approved()
    firm.wait_for_status(bill, "not_mapped")
    assert firm.change(bill, status="pending")["status"] == "pending"


def test_a_bill_whose_entry_cannot_be_deleted_is_kept_by_approving_it_again(firm: Firm) -> None:
    bill = firm.approved()
    synced = firm.wait_for_status(bill, "synced")
    firm.xero.inject_fault("status", method="DELETE", path="/Time/", status=400)
    firm.change(bill, status="pending")
    eventually(lambda: firm.read(bill)["xero"]["error"], why="Xero refuses to delete the entry")

    kept = firm.change(bill, status="approved")

    assert (kept["status"], kept["xero"]["status"], kept["version"]) == ("approved", "queued", synced["version"])
    assert firm.wait_for_status(bill, "synced")["xero"] == synced["xero"]
    firm.settled()
    firm.check()


def test_nothing_is_left_to_do_for_a_failure_that_does_not_matter_any_more(firm: Firm) -> None:
    kept = firm.approved()
    firm.wait_for_status(kept, "synced")
    firm.xero.inject_fault("status", method="DELETE", path="/Time/", status=400)
    firm.change(kept, status="pending")
    fail(firm, kept)
    firm.xero.clear_faults()
    firm.xero.inject_fault("status", method="POST", path="/Time$", status=500)
    reopened = firm.approved()
    fail(firm, reopened)
    firm.xero.clear_faults()
    assert [len(dead_syncs(firm, bill)) for bill in (kept, reopened)] == [1, 1]

    firm.change(kept, status="approved")
    firm.change(reopened, status="pending")

    firm.wait_for_status(kept, "synced")
    eventually(lambda: firm.read(reopened)["status"] == "pending", why="no request can be executed late any more")
    assert [dead_syncs(firm, bill) for bill in (kept, reopened)] == [[], []]
    for bill in (kept, reopened):
        [discarded] = dead_syncs(firm, bill, state="discarded")
        assert firm.admin.get(f"/api/dead-letters/{discarded['id']}")["history"][-1]["who"] == "Stint"
    firm.settled()
    firm.check()


def fail(firm: Firm, bill: Json) -> None:
    """Waits for the bill's first failed attempt, and lets it have one more."""
    eventually(lambda: firm.read(bill)["xero"]["error"])
    firm.stint.rows(
        "UPDATE messages SET max_attempts = attempts + 1 WHERE body->>'bill_id' = %s AND state <> 'dead' RETURNING 1",
        bill["id"],
    )
    firm.wait_for_status(bill, "failed")


def dead_syncs(firm: Firm, bill: Json, state: str = "dead") -> list[Json]:
    found: list[Json] = firm.admin.get("/api/dead-letters", actor="sync_bill", q=bill["id"], state=state)["items"]
    return found


def test_a_bill_that_is_approved_while_its_entry_is_being_deleted_gets_another_one(firm: Firm) -> None:
    bill = firm.approved()
    before = firm.wait_for_status(bill, "synced")["xero"]["timeEntryId"]
    firm.xero.inject_fault("late", method="DELETE", path="/Time/", seconds=4, count=1)
    firm.change(bill, status="pending")
    eventually(lambda: firm.xero.calls("/Time/", "DELETE"), why="the delete request was sent")

    batch = {"bills": [{"id": bill["id"], "version": firm.read(bill)["version"]}]}
    assert firm.admin.post("/api/time-bills/approve-all", batch, status=200)["approved"] == 1

    eventually(lambda: firm.read(bill)["xero"]["timeEntryId"] != before, seconds=60)
    firm.wait_for_status(bill, "synced", seconds=60)
    eventually(lambda: all(call["endAt"] for call in firm.xero.calls("/Time/", "DELETE")), why="the late request ended, too")
    firm.settled()
    firm.check()


@pytest.mark.parametrize("status", ["INVOICED", "LOCKED"])
def test_an_invoiced_entry_cancels_the_reopening(status: str, firm: Firm) -> None:
    bill = firm.approved()
    synced = firm.wait_for_status(bill, "synced")
    firm.xero.change_entry(synced["xero"]["timeEntryId"], status=status)

    firm.change(bill, status="pending")

    kept = firm.wait_for_status(bill, "synced")
    assert (kept["status"], kept["version"]) == ("approved", synced["version"])
    assert status.lower() in kept["xero"]["error"] and kept["xero"]["invoicedAt"]
    firm.check()

    firm.xero.change_entry(synced["xero"]["timeEntryId"], status="ACTIVE")  # taken off the invoice
    firm.check_only_its_project()
    eventually(lambda: firm.read(bill)["xero"] == synced["xero"], seconds=30, why="the error and invoicedAt are gone")
    firm.change(bill, status="pending")
    assert firm.wait_for_status(bill, "none")["status"] == "pending"
    firm.check()


def test_a_bill_whose_create_may_still_be_executed_stays_approved_for_now(firm: Firm) -> None:
    firm.xero.inject_fault("late", method="POST", path="/Time$", seconds=4, count=1)
    bill = firm.bill()
    firm.change(bill, status="approved")
    eventually(lambda: firm.xero.calls("/Time", "POST"), why="the create request was sent")

    assert firm.change(bill, status="pending")["xero"]["status"] == "withdrawing"

    assert firm.wait_for_status(bill, "none", seconds=60)["status"] == "pending"
    assert firm.entries() == []
    firm.check()


def test_xero_agrees_after_random_approvals_and_reopenings(firm: Firm) -> None:
    bills = [firm.bill(10 * day, f"2026-03-0{day}") for day in range(1, 7)]
    firm.xero.inject_random_faults(probability=0.2, seconds=0.3)

    def act(number: int) -> int:
        body = {"status": "approved"} if number % 3 else {"status": "pending"}
        return firm.admin.http.patch(f"/api/time-bills/{bills[number % 6]['id']}", json=body).status_code

    for round_number in range(4):
        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(act, range(round_number, round_number + 12))) <= {200, 409}
    firm.xero.clear_faults()
    firm.settled()
    firm.check()


# invoiced entries


@pytest.mark.parametrize("status", ["INVOICED", "LOCKED"])
def test_an_invoiced_entry_is_shown_on_its_bill_as_long_as_it_is_invoiced(status: str, firm: Firm) -> None:
    bill = firm.approved()
    synced = firm.wait_for_status(bill, "synced")
    assert synced["xero"]["invoicedAt"] is None
    firm.check_only_its_project()
    firm.xero.change_entry(synced["xero"]["timeEntryId"], status=status)
    eventually(lambda: firm.read(bill)["xero"]["invoicedAt"], seconds=30)

    firm.xero.change_entry(synced["xero"]["timeEntryId"], status="ACTIVE")  # voided, or unlocked

    eventually(lambda: firm.read(bill)["xero"]["invoicedAt"] is None, seconds=30)
    assert firm.read(bill)["xero"] == synced["xero"]
    firm.xero.change_entry(synced["xero"]["timeEntryId"], status=status)  # invoiced again
    eventually(lambda: firm.read(bill)["xero"]["invoicedAt"], seconds=30)
    chain = "SELECT count(*) FROM messages WHERE actor = 'check_invoiced' AND state IN ('ready', 'sent', 'calling')"
    assert firm.stint.value(chain) == 1

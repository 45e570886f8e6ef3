"""A bill without its mapping shows what is missing, and is sent once that is mapped."""

import pytest

from tests.support.firm_with_xero import Firm
from tests.support.given import Given
from tests.support.installation import eventually
from tests.support.sizes import WAITING_BILLS
from tests.support.xero_sandbox import XeroSandbox


@pytest.mark.parametrize("missing", ["project", "task"])
def test_a_bill_without_its_mapping_waits_for_it(missing: str, firm: Firm) -> None:
    task_id = firm.xero.task(firm.project)["taskId"]
    firm.map_customer(None) if missing == "project" else firm.map_pillar(None)
    bill = firm.approved()

    waiting = firm.wait_for_status(bill, "not_mapped")

    assert missing in waiting["xero"]["error"] and waiting["status"] == "approved"
    firm.map_customer(firm.project["projectId"]) if missing == "project" else firm.map_pillar(task_id)
    assert firm.wait_for_status(bill, "synced")["xero"]["error"] is None
    firm.check()


@pytest.mark.slow
def test_many_waiting_bills_are_queued_chunk_by_chunk(firm: Firm) -> None:
    firm.map_pillar(None)
    bills = firm.given.many_bills(firm.by, firm.task, WAITING_BILLS)
    firm.approve_all(bills)
    firm.settled(seconds=90)
    states = "SELECT xero_status, count(*) FROM time_bills WHERE customer_id = %s GROUP BY 1"
    assert firm.stint.rows(states, firm.customer["id"]) == [("not_mapped", WAITING_BILLS)]

    firm.map_pillar(firm.xero.task(firm.project, "Another")["taskId"])

    eventually(lambda: len(firm.entries()) == WAITING_BILLS, seconds=120)
    firm.settled()
    chunks = "SELECT count(*) FROM messages WHERE actor = 'queue_bills' AND body->>'customer_id' = %s"
    assert firm.stint.value(chunks, firm.customer["id"]) >= WAITING_BILLS // 500 + 1
    firm.check()


def test_a_consultant_who_is_not_in_xero_is_found_once_they_are_invited(firm: Firm) -> None:
    consultant = firm.given.person()
    [bill_id] = firm.given.many_bills(consultant, firm.task, 1)
    bill = firm.change({"id": bill_id}, status="approved")
    assert consultant.email in firm.wait_for_status(bill, "not_mapped")["xero"]["error"]

    user = firm.xero.user(consultant.email.upper())

    firm.wait_for_status(bill, "synced", seconds=40)
    [entry] = firm.entries()
    assert entry["userId"] == user["userId"]


def test_an_entry_keeps_its_project_and_task_when_the_mapping_changes(firm: Firm) -> None:
    bill = firm.approved()
    firm.wait_for_status(bill, "synced")
    [before] = firm.entries()
    firm.map_pillar(firm.xero.task(firm.project, "Another")["taskId"])
    firm.settled()
    assert firm.entries() == [before]
    firm.check()


def test_time_of_a_consultant_who_is_not_in_xero_goes_to_the_fallback_user(given_own: Given, xero: XeroSandbox) -> None:
    user = xero.user("office@example.com")
    given_own.stint.environment["XERO_FALLBACK_USER"] = "Office@example.com"
    given_own.stint.start().wait_until_ready()
    firm = Firm.new(given_own.stint, xero, given_own)
    consultant = given_own.person()
    [bill_id] = given_own.many_bills(consultant, firm.task, 1)
    firm.change({"id": bill_id}, status="approved")
    firm.wait_for_status({"id": bill_id}, "synced")
    assert [entry["userId"] for entry in firm.entries()] == [user["userId"]]

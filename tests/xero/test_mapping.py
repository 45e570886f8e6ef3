"""What is not mapped says what is missing, and goes on its way when that is mended."""

import pytest

from tests.firm_with_xero import Firm
from tests.given import Given
from tests.installation import eventually
from tests.sandbox import XeroSandbox


@pytest.mark.parametrize("missing", ["project", "task"])
def test_a_bill_without_its_mapping_waits_for_it(missing: str, firm: Firm) -> None:
    task_id = firm.xero.task(firm.project)["taskId"]
    firm.map_customer(None) if missing == "project" else firm.map_pillar(None)
    bill = firm.approved()

    waiting = firm.comes_to(bill, "not_mapped")

    assert missing in waiting["xero"]["error"] and waiting["status"] == "approved"
    firm.map_customer(firm.project["projectId"]) if missing == "project" else firm.map_pillar(task_id)
    assert firm.comes_to(bill, "synced")["xero"]["error"] is None
    firm.check()


@pytest.mark.slow
def test_a_thousand_bills_that_waited_go_chunk_by_chunk(firm: Firm) -> None:
    firm.map_pillar(None)
    bills = firm.given.many_bills(firm.by, firm.task, 1000)
    firm.approve_all(bills)
    firm.settled(seconds=90)
    states = "SELECT xero_status, count(*) FROM time_bills WHERE customer_id = %s GROUP BY 1"
    assert firm.stint.rows(states, firm.customer["id"]) == [("not_mapped", 1000)]

    firm.map_pillar(firm.xero.task(firm.project, "Another")["taskId"])

    eventually(lambda: len(firm.entries()) == 1000, seconds=120)
    firm.settled()
    chunks = "SELECT count(*) FROM messages WHERE actor = 'queue_bills' AND body->>'customer_id' = %s"
    assert firm.stint.value(chunks, firm.customer["id"]) >= 3
    firm.check()


def test_somebody_whom_xero_does_not_know_is_found_once_they_are_invited(firm: Firm) -> None:
    stranger = firm.given.person()
    [bill_id] = firm.given.many_bills(stranger, firm.task, 1)
    bill = firm.change({"id": bill_id}, status="approved")
    assert stranger.email in firm.comes_to(bill, "not_mapped")["xero"]["error"]

    user = firm.xero.user(stranger.email.upper())

    firm.comes_to(bill, "synced", seconds=40)
    [entry] = firm.entries()
    assert entry["userId"] == user["userId"]


def test_what_is_in_xero_stays_where_it_is_when_the_mapping_changes(firm: Firm) -> None:
    bill = firm.approved()
    firm.comes_to(bill, "synced")
    [before] = firm.entries()
    firm.map_pillar(firm.xero.task(firm.project, "Another")["taskId"])
    firm.settled()
    assert firm.entries() == [before]
    firm.check()


def test_time_of_strangers_goes_to_the_fallback_user(given_own: Given, xero: XeroSandbox) -> None:
    user = xero.user("office@example.com")
    given_own.stint.environment["XERO_FALLBACK_USER"] = "Office@example.com"
    given_own.stint.start().wait_until_ready()
    firm = Firm.new(given_own.stint, xero, given_own)
    stranger = given_own.person()
    [bill_id] = given_own.many_bills(stranger, firm.task, 1)
    firm.change({"id": bill_id}, status="approved")
    firm.comes_to({"id": bill_id}, "synced")
    assert [entry["userId"] for entry in firm.entries()] == [user["userId"]]

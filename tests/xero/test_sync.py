"""Approved bills reach Xero, exactly once."""

from tests.firm_with_xero import Firm


def test_an_approved_bill_becomes_one_time_entry(firm: Firm) -> None:
    bill = firm.given.bill(firm.by, firm.task, minutes=90)
    firm.by.patch(f"/api/time-bills/{bill['id']}", {"memo": "Moved the mail server"})
    approved = firm.change(bill, status="approved")
    assert approved["xero"]["status"] == "queued"

    synced = firm.comes_to(bill, "synced")

    [entry] = firm.xero.entries()
    assert entry["timeEntryId"] == synced["xero"]["timeEntryId"]
    assert (entry["duration"], entry["dateUtc"][:16]) == (90, "2026-03-02T12:00")
    assert entry["description"] == f"Moved the mail server [bill:{bill['id']}]"
    assert entry["projectId"] == firm.project["projectId"]
    assert synced["xero"]["syncedAt"] and synced["xero"]["error"] is None
    firm.check()

"""Time entries in Xero that carry the mark of a bill and are not its entry are found by the periodic check, and reported."""

import asyncio
from uuid import uuid4

from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from schemas.postgres.connection import connect
from schemas.xero.checks import stray_entries
from tests.support.firm_with_xero import Firm
from tests.support.installation import eventually


def strays(firm: Firm) -> list[str]:
    async def read() -> list[str]:
        async with await connect(firm.stint.settings) as conn:
            return await stray_entries.stray_entries(conn, firm.stint.settings)

    return [stray for stray in asyncio.run(read()) if firm.project["projectId"] in stray]


def test_a_copy_of_an_entry_and_an_unknown_mark_are_reported_until_they_are_gone(firm: Firm) -> None:
    bill = firm.approved()
    firm.wait_for_status(bill, "synced")
    [entry] = firm.entries()
    unknown, nobodys = uuid4(), uuid4()
    copies = [entry["description"], f"memo [bill:{unknown}]", f"[bill:{nobodys}] is only mentioned", "by hand"]
    copied, invented, *_ = [firm.xero.copy_entry(entry, description=text) for text in copies]
    firm.check_only_its_project()

    eventually(lambda: len(strays(firm)) == 2, seconds=60, why="two checks have seen them")

    expected = {f"{copied['timeEntryId']} with 60 minutes", str(unknown), bill["id"]}
    assert all(any(part in stray for stray in strays(firm)) for part in expected), strays(firm)
    status = InstallationStatus(servers={"Postgres": "ok"}, stray_entries=strays(firm))
    assert any("mark of a bill" in finding.what for finding in diagnose(status))

    for made in (copied, invented):
        firm.xero.delete_entry(made["timeEntryId"])
    eventually(lambda: strays(firm) == [], seconds=60, why="the next check has not seen them")
    assert firm.read(bill)["xero"]["timeEntryId"] == entry["timeEntryId"]

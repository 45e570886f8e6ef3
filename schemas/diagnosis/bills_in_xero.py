"""What is wrong with bills in Xero."""

from schemas.diagnosis.finding import Finding
from schemas.diagnosis.status import InstallationStatus


def of_bills_in_xero(status: InstallationStatus) -> list[Finding]:
    """Entries that may be invoiced twice, bills that differ from Xero, and bills that wait."""
    findings = []
    if strays := status.stray_entries:
        findings.append(
            Finding(
                f"Xero has {len(strays):,} time entries with the mark of a bill that are not the bill's entry: {strays[0]}.",
                "the same hours may be invoiced twice",
                "compare them in Xero with the bill's entry, and delete there what is too many: docs/xero.md, Alerts",
            )
        )
    if status.xero_differs:
        findings.append(
            Finding(
                f"Bills differ from their time entries in Xero: {status.xero_differs:,}.",
                "somebody has changed or deleted these entries in Xero; Stint overwrites nothing of that unasked",
                "GET /api/time-bills?xeroStatus=differs shows both; an admin sends each bill again, or accepts what is there: "
                "docs/xero.md, Changes by hand",
            )
        )
    for waiting in status.xero_waiting:
        findings.append(
            Finding(
                f"Approved bills wait for Xero: {waiting.count:,}, of {', '.join(waiting.customers)}.",
                waiting.error,
                "what the reason says; these bills are sent automatically after that",
            )
        )
    return findings

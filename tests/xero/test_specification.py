"""Every request that Stint sends to Xero is valid by Xero's own OpenAPI specification."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.firm_with_xero import Firm
from tests.support.given import Given, Json
from tests.support.installation import Installation, eventually
from tests.support.prism import prism_before
from tests.support.xero_sandbox import XeroSandbox

pytestmark = pytest.mark.slow

EVERY_REQUEST = {
    ("GET", "/connections"),
    ("GET", "/projects.xro/2.0/Projects"),
    ("GET", "/projects.xro/2.0/Projects/{id}"),
    ("GET", "/projects.xro/2.0/Projects/{id}/Tasks"),
    ("GET", "/projects.xro/2.0/ProjectsUsers"),
    ("POST", "/projects.xro/2.0/Projects/{id}/Time"),
    ("GET", "/projects.xro/2.0/Projects/{id}/Time"),
    ("GET", "/projects.xro/2.0/Projects/{id}/Time/{id}"),
    ("PUT", "/projects.xro/2.0/Projects/{id}/Time/{id}"),
    ("DELETE", "/projects.xro/2.0/Projects/{id}/Time/{id}"),
    # these are not in the specification, so they do not pass through Prism; RFC 6749 and 7009 describe them
    ("GET", "/identity/connect/authorize"),
    ("POST", "/connect/token"),
    ("POST", "/connect/revocation"),
}


@pytest.fixture
def firm(own_with_xero: Installation, xero: XeroSandbox, tmp_path: Path) -> Iterator[Firm]:
    """A connected firm whose requests to Xero pass through Prism, which validates them and the answers."""
    with prism_before(xero.url, tmp_path) as prism, prism.validates():
        own_with_xero.environment["XERO_API_URL"] = prism.url
        xero.disable_limits()
        given = Given(own_with_xero)
        try:
            own_with_xero.start().wait_until_ready()
            yield Firm.new(own_with_xero, xero, given)
        finally:
            given.close()
            own_with_xero.stop()


def requests(xero: XeroSandbox) -> set[tuple[str, str]]:
    return {(call["method"], re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "{id}", call["path"])) for call in xero.calls()}


def synced(firm: Firm, bill: Json) -> Json:
    firm.by.patch(f"/api/time-bills/{bill['id']}", {"memo": "Ümlauts & a ☃"})
    firm.change(bill, status="approved")
    return firm.wait_for_status(bill, "synced")


def test_every_request_is_as_xeros_own_specification_says(firm: Firm) -> None:
    [project] = [one for one in firm.admin.get("/api/xero/projects")["items"] if one["id"] == firm.project["projectId"]]
    assert firm.admin.get(f"/api/xero/projects/{project['id']}/tasks")["items"]

    bills = firm.given.many_bills(firm.by, firm.task, 4, seconds=2700)
    withdrawn, changed, invoiced, last = ({"id": bill_id} for bill_id in bills)

    synced(firm, withdrawn)
    firm.change(withdrawn, status="pending")
    firm.wait_for_status(withdrawn, "none")

    # the answer to a create is lost, and somebody changes the entry before Stint finds it
    firm.xero.inject_faults(
        {"kind": "drop_after", "method": "POST", "path": "/Time$", "count": 1},
        {"kind": "status", "method": "GET", "path": "/Time$", "status": 429, "retryAfter": 1},  # counts no attempt
    )
    firm.change(changed, status="approved")
    [entry] = eventually(firm.xero.entries)
    firm.xero.change_entry(entry["timeEntryId"], duration=5)
    firm.xero.clear_faults()
    firm.wait_for_status(changed, "differs")
    firm.admin.post("/api/xero/time-bills/send", {"ids": [changed["id"]], "reason": "Stint is right"}, status=200)
    firm.wait_for_status(changed, "synced")
    assert [found["duration"] for found in firm.xero.entries()] == [45]

    # a reopening that Xero refuses, because the entry is invoiced
    entry_id = synced(firm, invoiced)["xero"]["timeEntryId"]
    firm.xero.change_entry(entry_id, status="INVOICED")
    firm.change(invoiced, status="pending")
    firm.wait_for_status(invoiced, "synced")

    looked = len(firm.xero.calls("/Time", "GET"))
    eventually(lambda: len(firm.xero.calls("/Time", "GET")) > looked, why="invoiced entries are listed")
    firm.xero.expire_tokens()
    synced(firm, last)
    firm.check()
    firm.admin.delete("/api/xero/disconnect")
    assert requests(firm.xero) == EVERY_REQUEST

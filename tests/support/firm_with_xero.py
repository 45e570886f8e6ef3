"""A firm that is connected to a stand-in Xero, and the check that bills and Xero's time entries agree."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.xero_sandbox import XeroSandbox

UNFINISHED_BILLS = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND state IN ('ready', 'sent', 'calling')"
# while access to Xero is lost, the messages of bills are done, and what follows is queued once a check finds access
UNFINISHED = UNFINISHED_BILLS.replace("actor = 'sync_bill'", "actor IN ('sync_bill', 'queue_bills', 'check_access')")


@dataclass
class Firm:
    """One installation and one Xero, with an admin, a consultant who is a user in Xero, and a mapped customer and pillar."""

    stint: Installation
    xero: XeroSandbox
    given: Given
    admin: Person
    by: Person
    customer: Json
    task: Json
    project: Json

    @classmethod
    def new(cls, stint: Installation, xero: XeroSandbox, given: Given, *, connected: bool = True) -> "Firm":
        admin, by = given.admin(), given.person()
        project = xero.project(f"Project of {by.email}")
        xero.user(by.email)
        firm = cls(stint, xero, given, admin, by, {}, {}, project)
        if connected:  # first: mappings belong to the organisation that is connected when they are written
            firm.connect()
        firm.customer = given.customer(admin, xeroProjectId=project["projectId"])
        firm.task = given.task(admin, firm.customer)
        firm.map_pillar(xero.task(project)["taskId"])
        return firm

    def connect(self, **more: Any) -> Json:
        """Connects Xero as an admin and their browser do it."""
        consent = self.admin.get("/api/xero/auth-url")
        callback = httpx2.URL(httpx2.get(f"{consent['url']}&auto=1").headers["Location"]).params
        return self.admin.post("/api/xero/connect", {"code": callback["code"], "state": callback["state"], **more}, status=200)

    def map_pillar(self, task_id: str | None) -> None:
        path = f"/api/customers/{self.customer['id']}/pillars/{self.task['pillarId']}"
        self.admin.put(path, {"xeroTaskId": task_id})

    def map_customer(self, project_id: str | None) -> None:
        self.admin.put(f"/api/customers/{self.customer['id']}", {"xeroProjectId": project_id})

    def bill(self, minutes: int = 60, day: str = "2026-03-02") -> Json:
        """A pending bill with one entry."""
        [bill_id] = self.given.many_bills(self.by, self.task, 1, seconds=minutes * 60, first=day)
        return self.read({"id": bill_id})

    def approved(self, minutes: int = 60, day: str = "2026-03-02") -> Json:
        return self.change(self.bill(minutes, day), status="approved")

    def change(self, bill: Json, **body: Any) -> Json:
        return self.admin.patch(f"/api/time-bills/{bill['id']}", body)

    def read(self, bill: Json) -> Json:
        return self.admin.get(f"/api/time-bills/{bill['id']}")

    def approve_all(self, bill_ids: Iterable[str]) -> None:
        versions = dict(self.stint.rows("SELECT id::text, version FROM time_bills"))
        body = {"bills": [{"id": bill_id, "version": versions[bill_id]} for bill_id in bill_ids]}
        assert self.admin.post("/api/time-bills/approve-all", body, status=200)["skipped"] == 0

    def wait_for_status(self, bill: Json, status: str, *, seconds: float = 20) -> Json:
        """Waits until the bill has this Xero status, and returns the bill."""
        eventually(lambda: self.read(bill)["xero"]["status"] == status, seconds=seconds, why=f"{self.read(bill)['xero']}")
        return self.read(bill)

    def settled(self, *, seconds: float = 60) -> None:
        """Waits until no bill's message is unfinished, no bills are to be queued, and access to Xero is known."""
        eventually(lambda: self.stint.value(UNFINISHED) == 0, seconds=seconds, why=str(self._states()))

    def _states(self) -> list[Any]:
        return self.stint.rows("SELECT actor, state, count(*), max(attempts), max(error) FROM messages GROUP BY 1, 2")

    def replay(self, **filters: str) -> None:
        """Replays the dead letters of bills, as an admin does it, and waits until the replay is done."""
        body = {"select": {"filter": {"actor": "sync_bill", **filters}}, "reason": "fixed"}
        path = f"/api/dead-letters/replays/{self.admin.post('/api/dead-letters/replay', body, status=202)['id']}"
        eventually(lambda: self.admin.get(path)["state"] == "done", seconds=60, why=f"{self.admin.get(path)}")

    def check_only_its_project(self) -> None:
        """Stops the periodic checks of the projects of other tests, since one project is checked at a time."""
        self.stint.rows(
            "UPDATE xero_entries SET invoice_checked_at = now() + interval '1 day' WHERE project_id <> %s RETURNING 1",
            self.project["projectId"],
        )

    def entries(self) -> list[Json]:
        """The time entries in the customer's project in Xero."""
        return [entry for entry in self.xero.entries() if entry["projectId"] == self.project["projectId"]]

    def check(self) -> None:
        """Checks that Xero agrees with every bill: one entry with its minutes if it is approved and has any, which it shows as
        synced; else none."""
        entries_of: dict[str, list[Json]] = {}
        for entry in self.entries():
            entries_of.setdefault(entry["description"].rpartition("[bill:")[2].rstrip("]"), []).append(entry)
        rows = self.stint.rows(
            """
            SELECT id::text, status, minutes, xero_status, xero_time_entry_id FROM time_bills
            WHERE deleted_at IS NULL AND customer_id = %s
            """,
            self.customer["id"],
        )
        for bill_id, status, minutes, xero_status, entry_id in rows:
            entries = [(entry["timeEntryId"], entry["duration"]) for entry in entries_of.pop(bill_id, [])]
            if status == "approved" and minutes:
                assert xero_status == "synced", (bill_id, xero_status)
                assert entries == [(entry_id, minutes)], (bill_id, entries, minutes)
            else:
                assert (xero_status, entries) == ("none", []), (bill_id, status, xero_status, entries)
        assert entries_of == {}
        self.stint.verify()

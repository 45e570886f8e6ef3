"""A firm that is connected to a stand-in Xero, and what must be so between the two."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.given import Given, Json, Person
from tests.installation import Installation, eventually
from tests.sandbox import XeroSandbox

IN_MOTION = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND state IN ('ready', 'sent', 'calling')"


@dataclass
class Firm:
    """One installation and one Xero, with an admin, a consultant whom Xero knows, and a customer that is mapped."""

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
        customer = given.customer(admin, xeroProjectId=project["projectId"])
        task = given.task(admin, customer)
        firm = cls(stint, xero, given, admin, by, customer, task, project)
        firm.map_pillar(xero.task(project)["taskId"])
        if connected:
            firm.connect()
        return firm

    def connect(self, **more: Any) -> Json:
        """As an admin and their browser do it."""
        consent = self.admin.get("/api/xero/auth-url")
        back = httpx.URL(httpx.get(f"{consent['url']}&auto=1").headers["Location"]).params
        return self.admin.post("/api/xero/connect", {"code": back["code"], "state": back["state"], **more}, status=200)

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

    def comes_to(self, bill: Json, status: str, *, seconds: float = 20) -> Json:
        """Waits until the bill says this of Xero, and returns it."""
        eventually(lambda: self.read(bill)["xero"]["status"] == status, seconds=seconds, why=f"{self.read(bill)['xero']}")
        return self.read(bill)

    def settled(self, *, seconds: float = 60) -> None:
        """Waits until no bill is on its way any more."""
        eventually(lambda: self.stint.value(IN_MOTION) == 0, seconds=seconds, why=str(self._states()))

    def _states(self) -> list[Any]:
        return self.stint.rows("SELECT actor, state, count(*), max(attempts), max(error) FROM messages GROUP BY 1, 2")

    def replay(self, **chosen: str) -> None:
        """What the person on call does about dead letters of bills; waits until each has come to an end again."""
        wanted = {"select": {"filter": {"actor": "sync_bill", **chosen}}, "reason": "mended"}
        path = f"/api/dead-letters/replays/{self.admin.post('/api/dead-letters/replay', wanted, status=202)['id']}"
        eventually(lambda: self.admin.get(path)["state"] == "done", seconds=60, why=f"{self.admin.get(path)}")

    def entries(self) -> list[Json]:
        """What is in the customer's project."""
        return [entry for entry in self.xero.entries() if entry["projectId"] == self.project["projectId"]]

    def check(self) -> None:
        """Xero agrees with every bill: approved and synced, one entry with its minutes; anything else, none."""
        found: dict[str, list[Json]] = {}
        for entry in self.entries():
            found.setdefault(entry["description"].rpartition("[bill:")[2].rstrip("]"), []).append(entry)
        rows = self.stint.rows(
            """
            SELECT id::text, status, minutes, xero_status, xero_time_entry_id FROM time_bills
            WHERE deleted_at IS NULL AND customer_id = %s
            """,
            self.customer["id"],
        )
        for bill_id, status, minutes, xero_status, entry_id in rows:
            there = [(entry["timeEntryId"], entry["duration"]) for entry in found.pop(bill_id, [])]
            if status == "approved":
                assert xero_status == "synced", (bill_id, xero_status)
                assert there == [(entry_id, minutes)], (bill_id, there, minutes)
            else:
                assert (xero_status, there) == ("none", []), (bill_id, status, xero_status, there)
        assert found == {}
        self.stint.verify()

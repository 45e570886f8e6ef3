"""What the simulated users of a run need of an installation, wherever its processes are."""

import secrets
from dataclasses import dataclass

import httpx2

from tests.faults.retrying_client import PatientGiven, Traffic
from tests.support.given import Json, Person
from tests.support.installation import Installation
from tests.support.smtp import MailServer
from tests.support.xero_sandbox import XeroSandbox

CUSTOMERS = 3
ROUNDING = ({"increment": 1, "mode": "nearest"}, {"increment": 15, "mode": "up"}, {"increment": 6, "mode": "nearest"})


@dataclass
class FirmAtWork:
    """Stand-ins for Xero and mail, an API, and what the firm has there. `stint` connects to the servers themselves."""

    xero: XeroSandbox
    mail: MailServer
    stint: Installation
    given: PatientGiven
    traffic: Traffic
    admin: Person
    tasks: list[Json]  # with Xero behind each, by way of its customer and pillar

    def posts(self) -> list[Json]:
        """What stands in the channels of Slack."""
        return []

    def open(self) -> None:
        """The day before: customers whose hours go to Xero."""
        self.xero.disable_limits()
        consent = self.admin.get("/api/xero/auth-url")
        back = httpx2.URL(httpx2.get(f"{consent['url']}&auto=1").headers["Location"]).params
        self.admin.post("/api/xero/connect", {"code": back["code"], "state": back["state"]}, status=200)
        for number in range(CUSTOMERS):
            project = self.xero.project(f"Project {number} {secrets.token_hex(3)}")
            customer = self.given.customer(self.admin, xeroProjectId=project["projectId"], rounding=ROUNDING[number])
            for title in ("Migrate the mail server", "Move the web shop"):
                self.tasks.append(self.given.task(self.admin, customer, title=title))
            pillar = f"/api/customers/{customer['id']}/pillars/{self.tasks[-1]['pillarId']}"
            self.admin.put(pillar, {"xeroTaskId": self.xero.task(project)["taskId"]})

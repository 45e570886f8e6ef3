"""The simulated admins: one approves what the consultants log, one invites customers' users."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

from tests.faults.consultants import FIRST_DAY
from tests.faults.firm_at_work import FirmAtWork
from tests.faults.retrying_client import PatientClient
from tests.support.given import Json


class Approver:
    """The only admin who approves, rejects, reopens, recomputes and moves tasks."""

    def __init__(self, firm: FirmAtWork, seed: str) -> None:
        self.name = "admin"
        self.firm, self.by, self.chance = firm, firm.admin, random.Random(f"{seed} {self.name}")
        self.approved: dict[str, tuple[int, int]] = {}  # seconds and minutes of each, as they were answered
        self.maybe: set[str] = set()  # bills of which the last was lost and then refused
        self.inactive: dict[str, str] = {}  # pillars that were made inactive, by id: their names
        self.done: Counter[str] = Counter()
        self.spare: list[Json] = [self._pillar(number) for number in range(4)]

    def _pillar(self, number: int) -> Json:
        path = f"/api/customers/{self.firm.tasks[0]['customerId']}/pillars"
        return self.by.post(path, {"name": f"Pillar {number} {uuid4()}"})

    def act(self) -> None:
        what = [self._approve, self._approve_all, self._reject, self._reopen, self._recompute, self._inactivate]
        self.chance.choices(what, weights=[8, 3, 2, 4, 1, 0.3])[0]()

    @property
    def http(self) -> PatientClient:
        client = self.by.http
        assert isinstance(client, PatientClient)
        return client

    def _some(self, status: str, count: int = 1) -> list[Json]:
        day = FIRST_DAY + timedelta(days=self.chance.randrange(20))
        parameters = {"status": status, "startDate": str(day), "endDate": str(day + timedelta(days=2))}
        answer = self.http.get("/api/time-bills", params=parameters)
        assert answer.status_code == 200, answer.text
        bills = [bill for bill in answer.json()["items"] if bill["id"] not in self.maybe]
        return self.chance.sample(bills, min(count, len(bills)))

    def _patch(self, bill: Json, **body: Any) -> Json | None:
        """The bill as it is now, if it went as it was meant."""
        answer = self.http.patch(f"/api/time-bills/{bill['id']}", json=body | {"version": bill["version"]})
        if answer.status_code == 200:
            return answer.json()  # type: ignore[no-any-return]
        assert answer.status_code in (404, 409), answer.text
        if not self.http.lost:
            self.done["refused"] += 1
            return None
        current = answer.json().get("current")
        if current is not None and current["status"] == body["status"]:
            return current  # type: ignore[no-any-return]
        self.maybe.add(bill["id"])
        return None

    def _approve(self) -> None:
        for bill in self._some("pending"):
            if (now := self._patch(bill, status="approved")) is not None:
                self.approved[bill["id"]] = (now["seconds"], now["minutes"])
                self.done["approval"] += 1

    def _approve_all(self) -> None:
        bills = self._some("pending", 5)
        if not bills:
            return
        body = {"bills": [{"id": bill["id"], "version": bill["version"]} for bill in bills]}
        answer = self.http.post("/api/time-bills/approve-all", json=body)
        assert answer.status_code == 200, answer.text
        lost = self.http.lost
        for seen, result in zip(bills, answer.json()["results"], strict=True):
            current = result.get("current")
            if result["result"] == "approved":
                # what was approved is what was seen: its version said so
                self.approved[seen["id"]] = (seen["seconds"], seen["minutes"])
            elif lost and current is not None and current["status"] == "approved":
                self.approved[seen["id"]] = (current["seconds"], current["minutes"])
            else:
                if lost:
                    self.maybe.add(seen["id"])
                continue
            self.done["approval"] += 1

    def _reject(self) -> None:
        for bill in self._some("pending"):
            if self._patch(bill, status="rejected", rejectionNote="not agreed") is not None:
                self.done["rejection"] += 1

    def _reopen(self) -> None:
        for bill in self._some("approved"):
            # from when it is asked for: what its owner does right after may come before the answer
            before = self.approved.pop(bill["id"], None)
            if self._patch(bill, status="pending") is not None:
                self.done["reopening"] += 1
            elif before is not None and bill["id"] not in self.maybe:
                self.approved[bill["id"]] = before

    def _recompute(self) -> None:
        answer = self.http.post("/api/time-bills/recompute", json={"dryRun": self.chance.random() < 0.3})
        assert answer.status_code == 202, answer.text
        self.done["recompute"] += 1

    def _inactivate(self) -> None:
        if not self.spare:
            return
        pillar = self.spare.pop()
        answer = self.http.put(f"/api/customers/{pillar['customerId']}/pillars/{pillar['id']}", json={"active": False})
        assert answer.status_code == 200, answer.text
        self.inactive[pillar["id"]] = pillar["name"]
        self.done["pillar made inactive"] += 1


class Inviter:
    """Invites a customer's people."""

    def __init__(self, firm: FirmAtWork, seed: str) -> None:
        self.name = "inviter"
        self.firm, self.chance, self.by = firm, random.Random(f"{seed} {self.name}"), firm.given.person()
        self.invited: list[str] = []
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        if len(self.invited) >= 40 or self.chance.random() < 0.8:  # there are limits to inviting
            return
        email, customer_id = f"{uuid4()}@acme.example", self.firm.tasks[0]["customerId"]
        body = {"email": email, "name": "Jo Miller", "role": "customer_user"}
        answer = self.by.http.post(f"/api/customers/{customer_id}/users/invite", json=body)
        client = self.by.http
        assert isinstance(client, PatientClient)
        assert answer.status_code == 201 or (answer.status_code == 409 and client.lost), answer.text
        self.invited.append(email)
        self.done["invitation"] += 1

"""Real responses of every route, successes and errors, match the OpenAPI document."""

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import SignedRequest
from schemas.diagnosis.report import tokens
from tests.api.contract import Contract, fetch_document, operations
from tests.support.answers import EVERY_ROUTE, Json, filled
from tests.support.given import Given, Person
from tests.support.installation import SECRET_KEY, Installation

CHALLENGE = b'{"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkv"}'


@dataclass
class Checker:
    """Sends requests, and compares their responses with the document. `ids` are for the paths; `seen` are the routes that have
    succeeded."""

    document: Json
    ids: dict[str, str]
    seen: set[tuple[str, str]] = field(default_factory=set)

    def check(
        self,
        by: Person,
        method: str,
        template: str,
        body: Json | None = None,
        signed: SignedRequest | None = None,
        **parameters: Any,
    ) -> None:
        content: Json = {"json": body} if signed is None else {"content": signed.body, "headers": signed.headers}
        with by.http.stream(method, filled(template, **self.ids), params=parameters, **content) as answer:
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                answer.read()
        documented = operations(self.document)[method, template]["responses"][str(answer.status_code)]
        if answer.status_code == 204:
            assert "content" not in documented and "content-type" not in answer.headers and not answer.content
        else:
            content_type = answer.headers["content-type"].partition(";")[0]
            types = {name.partition(";")[0] for name in documented["content"]}
            assert content_type in types, f"{method} {template} {answer.status_code}: {content_type}"
            if "json" in content_type:
                schema = documented["content"][content_type]["schema"]
                assert Contract(self.document).faults(answer.json(), schema, template) == [], f"{method} {template}"
        if answer.status_code < 300:
            self.seen.add((method, template))


@pytest.mark.usefixtures("no_limits")
def test_real_responses_match_the_document(stint: Installation, given: Given) -> None:
    by, admin = given.person(), given.admin()
    customer = given.customer(by, email="it@acme.example", rounding={"increment": 15, "mode": "up"})
    task = given.task(by, customer, assigneeId=by.id, dueDate="2026-12-24")
    bill = given.bill(by, task)
    admin.patch(f"/api/time-bills/{bill['id']}", {"status": "rejected", "rejectionNote": "why"})
    given.approved_bill(by, admin)
    entry = by.get("/api/time-entries", userId=by.id)["items"][0]
    ids = {"project_id": "P1", "customer_id": customer["id"], "task_id": task["id"], "entry_id": entry["id"], "owner": "me"}
    checker = Checker(fetch_document(stint), ids | {"bill_id": bill["id"]})
    sync_timestamp = by.get("/api/tasks", limit=1)["syncTimestamp"]

    check_customers(checker, by, customer, task)
    check_customer_users(checker, by, customer)
    check_sign_in(checker, by, given)
    check_updates(checker, by, customer)
    check_slack(checker, by, customer)
    check_timers(checker, by, task)
    check_tasks(checker, by, given, sync_timestamp)
    check_recompute(checker, by, admin, given)
    check_reads(checker, by)
    check_entries(checker, by, task)
    check_approval(checker, by, admin, given, bill)
    check_leads(checker, by)
    check_dead_letters(checker, admin, given, customer)
    check_deletion_and_conflicts(checker, by, admin)
    check_sync(checker, by, given, task, sync_timestamp)

    # tests/xero/test_connection.py checks the routes that call Xero
    not_xero = {route for route in EVERY_ROUTE if not route[1].startswith("/api/xero/")}
    assert checker.seen == not_xero | {("GET", "/api/xero/status"), ("GET", "/api/xero/reconciliation")}


def check_customers(checker: Checker, by: Person, customer: Json, task: Json) -> None:
    check, ids = checker.check, checker.ids
    check(by, "POST", "/api/customers", {"name": "Acme"})
    check(by, "POST", "/api/customers", {"name": 5, "x": 1})
    check(by, "PUT", "/api/customers/{customer_id}", {"notes": "new"})
    check(by, "PUT", "/api/customers/{customer_id}", {"notes": "new", "version": 1})  # 409, with `current`
    check(by, "DELETE", "/api/customers/{customer_id}")  # 409, with `references`
    check(by, "GET", "/api/customers", lastSyncTimestamp="0")  # with `reset`
    for _ in range(2):
        check(by, "POST", "/api/customers/{customer_id}/pillars", {"name": "Hosting"})  # 409, with `pillarId`
        check(by, "PUT", "/api/customers/{customer_id}/focus")
    ids["pillar_id"] = by.get(f"/api/customers/{customer['id']}/pillars")["items"][0]["id"]
    check(by, "GET", "/api/customers/{customer_id}/pillars/{pillar_id}")
    for _ in range(2):
        check(by, "PUT", "/api/customers/{customer_id}/pillars/{pillar_id}", {"active": False, "version": 1})
    check(by, "GET", "/api/focus")
    for _ in range(2):
        check(by, "DELETE", "/api/customers/{customer_id}/pillars/{pillar_id}")
        check(by, "DELETE", "/api/customers/{customer_id}/focus")
    ids["pillar_id"] = task["pillarId"]
    ids["customer_id"] = by.post("/api/customers", {"name": "Empty"})["id"]
    check(by, "DELETE", "/api/customers/{customer_id}")
    ids["customer_id"] = customer["id"]


def check_customer_users(checker: Checker, by: Person, customer: Json) -> None:
    check = checker.check
    invitation = {"email": "jo@acme.example", "name": "Jo"}
    for _ in range(2):
        check(by, "POST", "/api/customers/{customer_id}/users/invite", invitation)  # the second: already a user
        check(by, "POST", "/api/customers/{customer_id}/users/resend-invite", {"email": "jo@acme.example"})  # 429
    check(by, "POST", "/api/customers/{customer_id}/users/resend-invite", {})  # 422
    check(by, "GET", "/api/customers/{customer_id}/users")
    checker.ids["user_id"] = by.get(f"/api/customers/{customer['id']}/users")["items"][0]["id"]
    for _ in range(2):
        check(by, "DELETE", "/api/customers/{customer_id}/users/{user_id}")


def check_sign_in(checker: Checker, by: Person, given: Given) -> None:
    check = checker.check
    check(by, "POST", "/auth/code", {"email": by.email})
    check(by, "POST", "/auth/token", {"email": by.email, "code": "wrong"})  # 401
    check(by, "POST", "/auth/token", {"email": by.email, "code": given.code(by)})
    check(by, "POST", "/auth/code", {"email": "nobody@example.com"})
    check(by, "POST", "/auth/token", {"email": "nobody@example.com", "code": "123456"})  # 401
    check(by, "POST", "/auth/token", {"email": by.email, "code": given.code(by)})
    check(given.person(), "POST", "/auth/sign-out")


def check_updates(checker: Checker, by: Person, customer: Json) -> None:
    check = checker.check
    check(by, "POST", "/api/tasks", {"title": "A", "customerId": customer["id"]})
    for levels in ("customer,month", "person", "year"):
        check(by, "GET", "/api/reports/hours", groupBy=levels, endDate="2026-12-31")
    for template in ("/api/time-entries", "/api/time-bills"):
        check(by, "GET", template, enrich="true")
        check(by, "GET", template, limit="abc")
    check(by, "PATCH", "/api/time-entries/{entry_id}", {"duration": 60})
    check(by, "PATCH", "/api/time-bills/{bill_id}", {"memo": "mine"})
    check(by, "PATCH", "/api/me/working-hours", {"hoursPerDay": 7.5, "daysOff": [{"from": "2026-12-24", "to": "2026-12-31"}]})
    check(by, "PATCH", "/api/me/working-hours", {"hoursPerDay": 7.3})


def check_slack(checker: Checker, by: Person, customer: Json) -> None:
    check = checker.check
    channel = {"channelId": f"C{customer['id'][:8].upper()}", "channelName": "acme", "customerId": customer["id"]}
    checker.ids["mapping_id"] = by.post("/api/slack/channel-mappings", channel)["id"]
    check(by, "POST", "/api/slack/channel-mappings", channel)  # 409
    check(by, "POST", "/api/slack/channel-mappings", channel | {"channelId": "C0OPENAPI"})
    check(by, "GET", "/api/slack/channel-mappings")
    for _ in range(2):
        check(by, "PUT", "/api/slack/channel-mappings/{mapping_id}", {"channelName": "b", "version": 1})  # 409, with `current`
    check(by, "DELETE", "/api/slack/channel-mappings/{mapping_id}")
    for sent in (
        requests.signed(requests.EVENTS, CHALLENGE, content_type="application/json"),
        requests.interaction("block_suggestion", user="U1", action_id="task", block_id="b", value=""),
        requests.signed(requests.INTERACTIVITY, b"not json", content_type="application/json"),
    ):
        check(by, "POST", sent.path, signed=sent)
    check(by, "POST", requests.EVENTS)  # 401


def check_timers(checker: Checker, by: Person, task: Json) -> None:
    check = checker.check
    check(by, "POST", "/api/tasks/{task_id}/stop", wait=11)
    for _ in range(2):
        check(by, "POST", "/api/tasks/{task_id}/start", {"notes": "logs"})
    check(by, "GET", "/api/active-timers/{owner}")
    check(by, "POST", "/api/tasks/{task_id}/stop")
    check(by, "POST", "/api/tasks/{task_id}/stop", wait=10)
    check(by, "GET", "/api/active-timers/{owner}")  # 404
    check(by, "PUT", "/api/active-timers/{owner}", {"taskId": task["id"]})
    for _ in range(2):
        check(by, "POST", "/api/active-timers/{owner}/stop")
    for _ in range(2):
        check(by, "PUT", "/api/active-timers/{owner}", {"taskId": task["id"], "notes": "logs"})
    check(by, "PUT", "/api/active-timers/{owner}", {"taskId": task["id"], "version": 99})  # 409, with `current`
    for _ in range(2):
        check(by, "DELETE", "/api/active-timers/{owner}")


def check_tasks(checker: Checker, by: Person, given: Given, sync_timestamp: str) -> None:
    check = checker.check
    check(by, "PUT", "/api/tasks/{task_id}", {"status": "done", "customerId": given.customer(by)["id"]})
    check(by, "PUT", "/api/tasks/{task_id}", {"status": "done", "version": 1})
    for since in (sync_timestamp, f"{given.new_id()}.5"):
        check(by, "GET", "/api/tasks", lastSyncTimestamp=since, status="open")  # with tombstones; with `reset`


def check_recompute(checker: Checker, by: Person, admin: Person, given: Given) -> None:
    check = checker.check
    for _ in range(2):
        check(admin, "POST", "/api/time-bills/recompute", {"dryRun": True, "userId": by.id})
    checker.ids["job_id"] = admin.post("/api/time-bills/recompute", {"userId": by.id}, status=202)["id"]
    given.settled()
    check(admin, "GET", "/api/time-bills/recompute/{job_id}")
    check(by, "GET", "/api/time-bills/recompute/{job_id}")  # 403


def check_reads(checker: Checker, by: Person) -> None:
    # the other one is gone with its last entry, whose task has moved
    checker.ids["bill_id"] = next(
        row["id"] for row in by.get("/api/time-bills", userId=by.id)["items"] if row["status"] == "approved"
    )
    for method, template in EVERY_ROUTE:
        if method == "GET" and "owner" not in template and "job_id" not in template:
            checker.check(by, method, template)
    token = tokens.sign(SECRET_KEY, now=time.time())
    checker.check(by, "GET", "/diagnosis", signed=SignedRequest("/diagnosis", b"", {"Authorization": f"Bearer {token}"}))


def check_entries(checker: Checker, by: Person, task: Json) -> None:
    check = checker.check
    checker.ids["entry_id"] = by.get("/api/time-entries", taskId=task["id"])["items"][0]["id"]
    check(by, "PATCH", "/api/time-entries/{entry_id}", {"duration": 60, "allowOverlap": True})
    check(by, "POST", "/api/time-entries/{entry_id}/notes", {"append": "a line"})
    check(by, "POST", "/api/time-entries/{entry_id}/notes", {"append": "a line", "version": 99})  # 409, with `current`
    entry = {"taskId": task["id"], "startTime": "2026-03-05T09:00:00Z", "duration": 60}
    for _ in range(2):
        check(by, "POST", "/api/time-entries", entry)  # the second overlaps


def check_approval(checker: Checker, by: Person, admin: Person, given: Given, bill: Json) -> None:
    check = checker.check
    given.settled()
    bills = [{"id": row["id"], "version": 99} for row in by.get("/api/time-bills", userId=by.id)["items"]]
    check(admin, "POST", "/api/time-bills/approve-all", {"bills": [*bills, {"id": given.new_id(), "version": 1}]})
    check(admin, "POST", "/api/time-bills/approve-all", {"bills": [{"id": bill["id"]}]})  # 422


def check_leads(checker: Checker, by: Person) -> None:
    check = checker.check
    check(by, "POST", "/api/leads", {"name": "Ada Park", "email": "ada@example.com", "budget": 5})
    check(by, "POST", "/api/leads", {"name": "Ada Park"})  # 422
    check(by, "GET", "/api/leads")


def check_dead_letters(checker: Checker, admin: Person, given: Given, customer: Json) -> None:
    """Invitations become dead letters, because the tests' installation has no mail server."""
    check, ids, domain = checker.check, checker.ids, f"{given.new_id()}.example"
    for name in ("a", "b", "c"):
        admin.post(f"/api/customers/{customer['id']}/users/invite", {"email": f"{name}@{domain}", "name": "Ida"})
    given.settled()
    first, *others = [item["id"] for item in admin.get("/api/dead-letters", q=domain)["items"]]
    ids["letter_id"] = first
    check(admin, "GET", "/api/dead-letters", actor="send_mail", since="2026-01-01T00:00:00Z")
    check(admin, "GET", "/api/dead-letters", since="5")  # 422
    check(admin, "GET", "/api/dead-letters/groups")
    check(admin, "GET", "/api/dead-letters/{letter_id}")
    body = admin.get(f"/api/dead-letters/{first}")["body"]
    for select in ({"ids": others}, {"all": True, "ids": others}):  # the second is 422
        check(admin, "POST", "/api/dead-letters/replay", {"select": select, "reason": "hoping", "dryRun": True})
    slowly = {"select": {"ids": others}, "reason": "hoping", "ratePerSecond": 0.001}
    ids["replay_id"] = admin.post("/api/dead-letters/replay", slowly, status=202)["id"]
    check(admin, "GET", "/api/dead-letters/replays")
    check(admin, "GET", "/api/dead-letters/replays/{replay_id}")
    for _ in range(2):  # the second is 409
        check(admin, "DELETE", "/api/dead-letters/replays/{replay_id}")
    for action in ("discard", "restore"):
        check(admin, "POST", f"/api/dead-letters/{action}", {"select": {"ids": [first]}, "reason": "why not"})
    for kind in ("sync_bill", "move_entries"):  # the second: 422, since the id is of a time bill
        check(admin, "POST", "/api/dead-letters/trigger", {"kind": kind, "id": ids["bill_id"], "reason": "why"})
    check(admin, "POST", "/api/dead-letters/{letter_id}/edit", {"body": {**body, "to": 5}, "reason": "a typo"})  # 422
    check(admin, "POST", "/api/dead-letters/{letter_id}/edit", {"body": {**body, "to": f"d@{domain}"}, "reason": "a typo"})


def check_deletion_and_conflicts(checker: Checker, by: Person, admin: Person) -> None:
    check = checker.check
    entries = by.get("/api/time-entries", userId=by.id, startDate="2026-03-05", endDate="2026-03-05")["items"]
    checker.ids["entry_id"] = entries[0]["id"]
    for _ in range(2):
        check(by, "DELETE", "/api/time-entries/{entry_id}")
    check(admin, "PATCH", "/api/time-bills/{bill_id}", {"status": "approved", "version": 1})  # 409, with `current`


def check_sync(checker: Checker, by: Person, given: Given, task: Json, sync_timestamp: str) -> None:
    check = checker.check
    entry_id = by.get("/api/time-entries", taskId=task["id"])["items"][0]["id"]
    for since in (sync_timestamp, "0"):  # with tombstones; with `reset`
        check(by, "GET", "/api/sync", lastSyncTimestamp=since)
    by.post(f"/api/tasks/{task['id']}/start", status=201)
    note = {"id": entry_id, "append": "a line"}
    run = {"id": given.new_id(), "taskId": task["id"], "startTime": "2026-03-06T09:00:00Z", "endTime": "2026-03-06T10:00:00Z"}
    queued = [
        {"opId": given.new_id(), "kind": kind, "data": data, "baseVersion": base}
        for kind, data, base in (
            ("entry.notes", note, None), ("entry.notes", note, 99), ("entry.notes", {"id": "x"}, None),
            ("timer.stop", run, None),
            ("entry.delete", {"id": run["id"]}, 1), ("timer.start", {**run, "endTime": None}, None), ("x", {}, None),
            ("timer.start", {"id": given.new_id(), "taskId": task["id"], "startTime": run["startTime"]}, None),
            ("task.put", {"id": task["id"], "title": "Migrated"}, 1),
        )
    ]  # fmt: skip
    check(by, "POST", "/api/sync", {"lastSyncTimestamp": sync_timestamp, "operations": queued})
    check(by, "POST", "/api/sync", {"operations": [{"opId": "x"}]})  # 422

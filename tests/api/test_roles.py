"""Every route, asked by everybody: who may do what."""

from typing import Any

import httpx
import pytest

from tests.api.answers import EVERY_ROUTE, filled, problem
from tests.given import Given, Person
from tests.installation import Installation

ASKING = ["admin", "internal", "customer_admin", "customer_user", "no role", "no token"]
Everybody = tuple[int, int, int, int, int, int]

OPEN: Everybody = (200, 200, 200, 200, 200, 200)
READ: Everybody = (200, 200, 200, 200, 403, 401)
CREATE: Everybody = (201, 201, 403, 403, 403, 401)
OWN_PEOPLE: Everybody = (200, 200, 403, 403, 403, 401)
ADMINS: Everybody = (200, 403, 403, 403, 403, 401)
# on an approved bill: an admin is told that, another consultant that it is not theirs
LOCKED: Everybody = (409, 403, 403, 403, 403, 401)

# In the order in which they are asked: a timer is started before it is read and stopped.
TABLE: dict[tuple[str, str], tuple[Everybody, Any]] = {
    ("GET", "/api/me"): (READ, None),
    ("GET", "/api/customers"): (READ, None),
    ("POST", "/api/customers"): (CREATE, {"name": "Acme"}),
    ("GET", "/api/customers/{customer_id}"): (READ, None),
    ("PUT", "/api/customers/{customer_id}"): (OWN_PEOPLE, {"notes": "new"}),
    ("DELETE", "/api/customers/{customer_id}"): ((409, 409, 403, 403, 403, 401), None),  # it has an approved bill
    ("GET", "/api/customers/{customer_id}/pillars"): (READ, None),
    ("POST", "/api/customers/{customer_id}/pillars"): (CREATE, {"name": "Network"}),
    ("GET", "/api/customers/{customer_id}/pillars/{pillar_id}"): (READ, None),
    ("PUT", "/api/customers/{customer_id}/pillars/{pillar_id}"): (OWN_PEOPLE, {"active": False}),
    ("DELETE", "/api/customers/{customer_id}/pillars/{pillar_id}"): ((204, 204, 403, 403, 403, 401), None),
    ("PUT", "/api/customers/{customer_id}/focus"): (OWN_PEOPLE, None),
    ("GET", "/api/focus"): (OWN_PEOPLE, None),
    ("DELETE", "/api/customers/{customer_id}/focus"): ((204, 204, 403, 403, 403, 401), None),
    ("GET", "/api/tasks"): (READ, None),
    ("POST", "/api/tasks"): (CREATE, {"title": "Mend it", "customerId": "{customer_id}"}),
    ("GET", "/api/tasks/internal-users"): (OWN_PEOPLE, None),
    ("GET", "/api/tasks/{task_id}"): (READ, None),
    ("PUT", "/api/tasks/{task_id}"): (OWN_PEOPLE, {"title": "Mended"}),
    ("POST", "/api/tasks/{task_id}/start"): (CREATE, None),
    ("GET", "/api/active-timers/{owner}"): (OWN_PEOPLE, None),
    ("POST", "/api/tasks/{task_id}/stop"): ((202, 202, 403, 403, 403, 401), None),
    ("PUT", "/api/active-timers/{owner}"): (CREATE, {"taskId": "{task_id}"}),
    ("DELETE", "/api/active-timers/{owner}"): ((204, 204, 403, 403, 403, 401), None),
    ("GET", "/api/time-entries"): (READ, None),
    ("POST", "/api/time-entries"): (CREATE, {"taskId": "{task_id}", "startTime": "2026-03-05T09:00:00Z", "duration": 60}),
    ("GET", "/api/time-entries/{entry_id}"): (READ, None),
    ("PATCH", "/api/time-entries/{entry_id}"): (LOCKED, {"duration": 60}),
    ("POST", "/api/time-entries/{entry_id}/notes"): (LOCKED, {"append": "mine"}),
    ("DELETE", "/api/time-entries/{entry_id}"): (LOCKED, None),
    ("GET", "/api/time-bills"): (READ, None),
    ("GET", "/api/time-bills/{bill_id}"): (READ, None),
    ("PATCH", "/api/time-bills/{bill_id}"): (LOCKED, {"status": "approved"}),
    ("POST", "/api/time-bills/approve-all"): (
        ADMINS,
        {"bills": [{"id": "00000000-0000-4000-8000-000000000000", "version": 1}]},
    ),
    ("POST", "/api/time-bills/recompute"): ((202, 403, 403, 403, 403, 401), {"dryRun": True, "customerId": "{customer_id}"}),
    ("GET", "/api/time-bills/recompute/{job_id}"): (ADMINS, None),
    ("GET", "/health/live"): (OPEN, None),
    ("GET", "/health/ready"): (OPEN, None),
    ("GET", "/metrics"): (OPEN, None),
    ("GET", "/.well-known/jwks.json"): (OPEN, None),
}


def test_the_table_has_every_route() -> None:
    assert sorted(TABLE) == EVERY_ROUTE


def asked_by(who: str, given: Given, customer_id: str) -> Person:
    match who:
        case "admin":
            return given.person("internal_admin")
        case "internal":
            return given.person("internal_user")
        case "no role":
            return given.person("visitor")
        case "no token":
            return Person("", "", "", httpx.Client(base_url=given.stint.url))
        case _:
            return given.person(who, customer_id)


@pytest.mark.parametrize("who", ASKING)
def test_each_route_is_for_whom_it_is_meant(who: str, given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    task = given.task(owner)
    bill = given.approved_bill(owner, admin, task)
    entry = owner.get("/api/time-entries", timeBillId=bill["id"])["items"][0]
    job = admin.post("/api/time-bills/recompute", {"dryRun": True, "customerId": task["customerId"]}, status=202)
    values = {
        "customer_id": task["customerId"],
        "task_id": task["id"],
        "entry_id": entry["id"],
        "bill_id": bill["id"],
        "job_id": job["id"],
    }
    asking = asked_by(who, given, task["customerId"])
    values["pillar_id"] = owner.post(f"/api/customers/{task['customerId']}/pillars", {"name": "Hosting"})["id"]

    def ask(method: str, path: str, body: Any) -> httpx.Response:
        sent = {name: filled(value, **values) if isinstance(value, str) else value for name, value in (body or {}).items()}
        return asking.http.request(method, filled(path, owner="me", **values), json=sent or None)

    answers = {(method, path): ask(method, path, body) for (method, path), (_, body) in TABLE.items()}

    expected = {route: statuses[ASKING.index(who)] for route, (statuses, _) in TABLE.items()}
    assert {route: answer.status_code for route, answer in answers.items()} == expected
    for answer in answers.values():
        if answer.status_code >= 400:
            problem(answer, answer.status_code)
    asking.http.close()


def test_an_internal_user_reads_anybodys_timer(given: Given) -> None:
    owner, other = given.people(2)
    timer = owner.post(f"/api/tasks/{given.task(owner)['id']}/start")
    assert other.get(f"/api/active-timers/{owner.id}")["id"] == timer["id"]
    problem(owner.http.get(f"/api/active-timers/{other.id}"), 404)
    problem(owner.http.get(f"/api/active-timers/{given.new_id()}"), 404)

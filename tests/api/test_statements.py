"""What a request costs: a list or a get is one statement beyond authorization, but for a customer's name and a sync timestamp,
which are looked up before; and its JSON is Postgres' own bytes."""

import re

import pytest

from tests.api.answers import EVERY_ROUTE, at
from tests.api.wire import Wire
from tests.given import Given
from tests.installation import Installation

NAMED, SYNCED = "SELECT id FROM customers WHERE lower(name) = lower($1)", "pg_snapshot_xmax(pg_current_snapshot())"
# of each read, what is looked up before the one statement that reads
READS: dict[str, list[str]] = {
    "/api/customers": [],
    "/api/customers?lastSyncTimestamp={sync}": [SYNCED],
    # whether the customer is there is looked at, too
    "/api/customers/{customer}/pillars": ["FROM pillars"],
    "/api/customers/{customer}/pillars/{pillar}": [],
    "/api/customers/{customer}/users": ["FROM users"],
    "/api/focus": [],
    "/api/leads": [],
    "/api/slack/channel-mappings": [],
    "/api/tasks": [],
    "/api/tasks?userId={user}&status=open&customer={customer}": [],
    "/api/tasks?customer=Acme": [NAMED],
    "/api/tasks?lastSyncTimestamp={sync}": [SYNCED],
    "/api/tasks?lastSyncTimestamp=0": [SYNCED],
    "/api/tasks?lastSyncTimestamp={sync}&customer=Acme&userId={user}": [NAMED, SYNCED],
    "/api/tasks/internal-users": [],
    "/api/time-entries": [],
    "/api/time-bills": [],
    "/api/time-entries?enrich=true&customerId={customer}&startDate=2026-01-01&endDate=2026-12-31&timeBillId={bill}": [],
    "/api/time-entries?enrich=true&customer=Acme&startDate=2026-01-01&endDate=2026-12-31": [NAMED],
    "/api/time-bills?enrich=true&status=approved&customer={customer}": [],
    "/api/time-bills?customer=Acme": [NAMED],
    "/api/time-bills/recompute/{job}": [],
    "/api/customers/{customer}": [],
    "/api/tasks/{task}": [],
    "/api/time-entries/{entry}": [],
    "/api/time-bills/{bill}": [],
    "/api/active-timers/me": [],
    "/api/dead-letters": [],
    "/api/dead-letters?actor=send_mail&since=2026-01-01T00:00:00Z&q=x": [],
    "/api/sync": [],
    "/api/sync?lastSyncTimestamp={sync}": [SYNCED],
    "/api/xero/status": [],
}
OWN_PEOPLES = (
    "/api/slack",
    "/api/dead-letters",
    "/api/focus",
    "/api/leads",
    "/api/active-timers",
    "/api/tasks/internal-users",
    "/api/time-bills/recompute",
    "/api/sync",
    "/api/customers/{customer}/users",
    "/api/xero",
)
ASKED_OF_XERO = {"/api/xero/auth-url", "/api/xero/projects", "/api/xero/projects/{project_id}/tasks"}


@pytest.mark.parametrize("role", ["internal_admin", "customer_user"])
def test_a_read_is_one_statement_beyond_authorization(role: str, given: Given, wire: Wire, tapped: Installation) -> None:
    by = given.admin()
    task = given.task(by)
    bill = given.approved_bill(by, by, task)
    by.post(f"/api/tasks/{task['id']}/start")
    ids = {
        "user": by.id,
        "customer": task["customerId"],
        "pillar": task["pillarId"],
        "task": task["id"],
        "entry": by.get("/api/time-entries", timeBillId=bill["id"])["items"][0]["id"],
        "bill": bill["id"],
        "job": by.post("/api/time-bills/recompute", {"dryRun": True, "userId": by.id}, status=202)["id"],
        "sync": by.get("/api/tasks", limit=1)["syncTimestamp"],
    }
    reader = by if role == "internal_admin" else given.person(role, task["customerId"])
    with at(tapped, reader.token) as client:
        assert client.get("/api/me").status_code == 200  # from here on the token is known, and the connections are there
        for path, expected in READS.items():
            if role == "customer_user" and path.startswith(OWN_PEOPLES):
                continue
            wire.clear()
            answer = client.get(path.format(**ids))
            assert answer.status_code == 200, f"{path}: {answer.text}"
            authorization, *looking_up, reading = wire.statements
            assert "LEFT JOIN users u ON u.id = asked.id" in authorization
            assert len(looking_up) == len(expected), f"{path}: {wire.statements}"
            assert all(text in statement for text, statement in zip(expected, looking_up, strict=True)), f"{path}: {looking_up}"
            assert any("json_build_object" in statement for statement in (*looking_up, reading))


def test_every_read_is_counted() -> None:
    counted = {path.partition("?")[0] for path in READS}
    no_reads = {"/api/me", "/api/events"}  # what a stream reads, tests/api/test_many_listeners.py counts
    # a person at a time reads these
    no_reads |= {f"/api/dead-letters/{path}" for path in ("groups", "{letter_id}", "replays/{replay_id}")}
    routes = {path for method, path in EVERY_ROUTE if method == "GET" and path.startswith("/api/")} - no_reads - ASKED_OF_XERO
    assert {re.sub(r"\{\w+\}|\bme$", "{}", path) for path in counted} == {re.sub(r"\{\w+\}", "{}", path) for path in routes}


@pytest.mark.parametrize("noun", ["customers", "tasks", "tasks/internal-users", "time-entries", "time-bills"])
def test_the_bytes_of_a_list_are_those_that_postgres_sent(noun: str, given: Given, wire: Wire, tapped: Installation) -> None:
    by = given.person()
    given.stopped(by, given.task(by))
    with at(tapped, by.token) as client:
        wire.clear()
        answer = client.get(f"/api/{noun}?limit=1")
        found = re.fullmatch(
            rb'\{"items":\[(.+)\],"nextCursor":(?:null|"[\w-]+"),"syncTimestamp":"[0-9a-f-]+\.\d+"\}', answer.content
        )
        assert found
        assert found[1] in wire.answered


def test_a_refused_token_costs_nothing_but_the_look_at_its_user(given: Given, wire: Wire, tapped: Installation) -> None:
    with at(tapped, given.person("visitor").token) as client:
        client.get("/api/tasks")
        wire.clear()
        assert client.get("/api/tasks").status_code == 403
        assert len(wire.statements) == 1

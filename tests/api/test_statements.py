"""The number of SQL statements of a request: one for a list or a get; a customer's name and a sync
timestamp are looked up before. The JSON is sent as the bytes that Postgres sent."""

import re

import pytest

from schemas.postgres.functions import installed
from tests.support.answers import EVERY_ROUTE, at
from tests.support.given import Given
from tests.support.installation import Installation
from tests.support.wire import Wire

BY_NAME, SYNC = "SELECT id FROM customers WHERE name_key(name) = name_key($1)", "pg_snapshot_xmax(pg_current_snapshot())"
TODAY = "SELECT (clock_timestamp() AT TIME ZONE $1)::date"
# of each read: the statements before the one that reads
READS: dict[str, list[str]] = {
    "/api/customers": [],
    "/api/customers?lastSyncTimestamp={sync}": [SYNC],
    # whether the customer exists is checked too
    "/api/customers/{customer}/pillars": ["FROM pillars"],
    "/api/customers/{customer}/pillars/{pillar}": [],
    "/api/customers/{customer}/users": ["FROM users"],
    "/api/focus": [],
    "/api/me/working-hours": [],
    "/api/leads": [],
    "/api/slack/channel-mappings": [],
    "/api/tasks": [],
    "/api/tasks?userId={user}&status=open&customer={customer}": [],
    "/api/tasks?customer=Acme": [BY_NAME],
    "/api/tasks?lastSyncTimestamp={sync}": [SYNC],
    "/api/tasks?lastSyncTimestamp=0": [SYNC],
    "/api/tasks?lastSyncTimestamp={sync}&customer=Acme&userId={user}": [BY_NAME, SYNC],
    "/api/tasks/internal-users": [],
    "/api/time-entries": [],
    "/api/time-bills": [],
    "/api/time-entries?enrich=true&customerId={customer}&startDate=2026-01-01&endDate=2026-12-31&timeBillId={bill}": [],
    "/api/time-entries?enrich=true&customer=Acme&startDate=2026-01-01&endDate=2026-12-31": [BY_NAME],
    "/api/time-bills?enrich=true&status=approved&customer={customer}": [],
    "/api/time-bills?customer=Acme": [BY_NAME],
    "/api/time-bills/recompute/{job}": [],
    "/api/reports/hours?startDate=2026-01-01&endDate=2026-12-31": [],
    "/api/reports/hours?groupBy=pillar,week&endDate=2026-12-31&customerId={customer}&pillarId={pillar}&userId={user}": [],
    "/api/reports/hours?customer=Acme&startDate=2026-01-01": [BY_NAME],
    "/api/reports/hours": [TODAY],
    "/api/customers/{customer}": [],
    "/api/tasks/{task}": [],
    "/api/time-entries/{entry}": [],
    "/api/time-bills/{bill}": [],
    "/api/active-timers": [],
    "/api/active-timers?enrich=true": [],
    "/api/active-timers/me": [],
    "/api/dead-letters": [],
    "/api/dead-letters?actor=send_mail&since=2026-01-01T00:00:00Z&q=x": [],
    "/api/sync": [],
    "/api/sync?lastSyncTimestamp={sync}": [SYNC],
    "/api/xero/status": [],
    "/api/xero/reconciliation?startDate=2026-01-01&endDate=2026-12-31": [],
}
INTERNAL_ONLY = (
    "/api/slack",
    "/api/dead-letters",
    "/api/focus",
    "/api/me/working-hours",
    "/api/leads",
    "/api/active-timers",
    "/api/tasks/internal-users",
    "/api/time-bills/recompute",
    "/api/sync",
    "/api/customers/{customer}/users",
    "/api/xero",
)
CALLS_XERO = {"/api/xero/auth-url", "/api/xero/projects", "/api/xero/projects/{project_id}/tasks"}


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
        assert client.get("/api/me").status_code == 200  # the token is cached from here on, and the connections are open
        for path, expected in READS.items():
            if role == "customer_user" and path.startswith(INTERNAL_ONLY):
                continue
            wire.clear()
            answer = client.get(path.format(**ids))
            assert answer.status_code == 200, f"{path}: {answer.text}"
            # the user is read once a second (tests/identity/test_leases.py)
            *lookups, read = [text for text in wire.statements if "LEFT JOIN users u ON u.id = requested.id" not in text]
            assert len(lookups) == len(expected), f"{path}: {wire.statements}"
            assert all(text in statement for text, statement in zip(expected, lookups, strict=True)), f"{path}: {lookups}"
            assert any("json_build_object" in statement for statement in (*lookups, read))


def test_every_read_is_counted() -> None:
    counted_paths = {path.partition("?")[0] for path in READS}
    not_counted = {"/api/me", "/api/events"}  # tests/sync/test_many_listeners.py counts the statements of a stream
    # only a person on call reads these
    not_counted |= {f"/api/dead-letters/{path}" for path in ("groups", "{letter_id}", "replays", "replays/{replay_id}")}
    routes = {path for method, path in EVERY_ROUTE if method == "GET" and path.startswith("/api/")} - not_counted - CALLS_XERO
    assert {re.sub(r"\{\w+\}|\bme$", "{}", path) for path in counted_paths} == {
        re.sub(r"\{\w+\}", "{}", path) for path in routes
    }


@pytest.mark.parametrize("noun", ["customers", "tasks", "tasks/internal-users", "time-entries", "time-bills"])
def test_a_list_has_the_bytes_that_postgres_sent(noun: str, given: Given, wire: Wire, tapped: Installation) -> None:
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


def test_a_refused_token_costs_only_the_lookup_of_its_user(given: Given, wire: Wire, tapped: Installation) -> None:
    with at(tapped, given.person("visitor").token) as client:
        client.get("/api/tasks")
        wire.clear()
        assert client.get("/api/tasks").status_code == 403
        assert len(wire.statements) == 1


def test_a_start_and_a_stop_are_one_statement_each_beyond_authorization(given: Given, wire: Wire, tapped: Installation) -> None:
    by = given.person()
    one, other = given.task(by), given.task(by)
    with at(tapped, by.token) as client:
        assert client.get("/api/me").status_code == 200
        for path, function, status in (
            (f"/api/tasks/{one['id']}/start", "start_timer", 201),
            (f"/api/tasks/{one['id']}/start", "start_timer", 200),
            (f"/api/tasks/{other['id']}/start", "start_timer", 201),  # stops the first one
            (f"/api/tasks/{other['id']}/stop", "stop_timer", 202),
        ):
            wire.clear()
            assert client.post(path).status_code == status
            *authorization, call = wire.statements
            assert len(authorization) <= 1 and f"{installed(function)}(" in call, wire.statements

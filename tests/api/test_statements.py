"""The number of SQL statements of a request: one for a list or a get; a customer's name and a sync
timestamp are looked up before. The JSON is sent as the bytes that Postgres sent."""

import re

import pytest

from schemas.postgres.functions import installed
from tests.api.table import TABLE
from tests.support.answers import EVERY_ROUTE, at
from tests.support.given import Given
from tests.support.installation import Installation
from tests.support.wire import Wire

BY_NAME, SYNC = "SELECT id FROM customers WHERE name_key(name) = name_key($1)", "pg_snapshot_xmax(pg_current_snapshot())"
TODAY = "SELECT (clock_timestamp() AT TIME ZONE $1)::date"
# Reads with statements before the one that reads, or with a query: by path, what these statements contain. Every other GET of
# tests/api/table.py is one statement. Names in braces are those of `ids` below.
READS: dict[str, list[str]] = {
    "/api/customers?lastSyncTimestamp={sync}": [SYNC],
    # whether the customer exists is checked too
    "/api/customers/{customer_id}/pillars": ["FROM pillars"],
    "/api/customers/{customer_id}/users": ["FROM users"],
    "/api/tasks?userId={user}&status=open&customer={customer_id}": [],
    "/api/tasks?customer=Acme": [BY_NAME],
    "/api/tasks?lastSyncTimestamp={sync}": [SYNC],
    "/api/tasks?lastSyncTimestamp=0": [SYNC],
    "/api/tasks?lastSyncTimestamp={sync}&customer=Acme&userId={user}": [BY_NAME, SYNC],
    "/api/time-entries?enrich=true&customerId={customer_id}&startDate=2026-01-01&endDate=2026-12-31&timeBillId={bill_id}": [],
    "/api/time-entries?enrich=true&customer=Acme&startDate=2026-01-01&endDate=2026-12-31": [BY_NAME],
    "/api/time-bills?enrich=true&status=approved&customer={customer_id}": [],
    "/api/time-bills?customer=Acme": [BY_NAME],
    "/api/reports/hours?startDate=2026-01-01&endDate=2026-12-31": [],
    "/api/reports/hours?groupBy=pillar,week&endDate=2026-12-31&customerId={customer_id}&pillarId={pillar_id}&userId={user}": [],
    "/api/reports/hours?customer=Acme&startDate=2026-01-01": [BY_NAME],
    "/api/reports/hours": [TODAY],
    "/api/active-timers?enrich=true": [],
    "/api/dead-letters?actor=send_mail&since=2026-01-01T00:00:00Z&q=x": [],
    "/api/sync?lastSyncTimestamp={sync}": [SYNC],
    "/api/xero/reconciliation?startDate=2026-01-01&endDate=2026-12-31": [],
}
NOT_COUNTED = {
    "/api/me": "it is what authorization reads",
    "/api/events": "tests/sync/test_many_listeners.py counts the statements of a stream",
    "/api/xero/reconciliation": "without its days it is refused",
    "/api/dead-letters/groups": "only a person on call reads it",
    "/api/dead-letters/replays": "only a person on call reads it",
    "/api/dead-letters/replays/{replay_id}": "only a person on call reads it",
    "/api/dead-letters/{letter_id}": "only a person on call reads it",
}


def reads_of(role: str) -> dict[str, list[str]]:
    """The reads that this role may send, as in READS, and every other GET of the API that TABLE answers with 200."""
    paths = [route.removeprefix("GET ") for route in TABLE if route.startswith("GET /api/")]
    alone: dict[str, list[str]] = {path: [] for path in paths if path not in NOT_COUNTED}
    allowed = {path for path in paths if getattr(TABLE[f"GET {path}"], role) == 200}
    return {path: expected for path, expected in (alone | READS).items() if path.partition("?")[0] in allowed}


@pytest.mark.parametrize("role", ["admin", "customer_user"])
def test_a_read_is_one_statement_beyond_authorization(role: str, given: Given, wire: Wire, tapped: Installation) -> None:
    by = given.admin()
    task = given.task(by)
    bill = given.approved_bill(by, by, task)
    by.post(f"/api/tasks/{task['id']}/start")
    ids = {
        "user": by.id,
        "customer_id": task["customerId"],
        "pillar_id": task["pillarId"],
        "task_id": task["id"],
        "entry_id": by.get("/api/time-entries", timeBillId=bill["id"])["items"][0]["id"],
        "bill_id": bill["id"],
        "owner": "me",
        "job_id": by.post("/api/time-bills/recompute", {"dryRun": True, "userId": by.id}, status=202)["id"],
        "sync": by.get("/api/tasks", limit=1)["syncTimestamp"],
    }
    reader = by if role == "admin" else given.person(role, task["customerId"])
    with at(tapped, reader.token) as client:
        assert client.get("/api/me").status_code == 200  # the token is cached from here on, and the connections are open
        for path, expected in reads_of(role).items():
            wire.clear()
            answer = client.get(path.format(**ids))
            assert answer.status_code == 200, f"{path}: {answer.text}"
            # the user is read once a second (tests/identity/test_leases.py)
            *lookups, read = [text for text in wire.statements if "LEFT JOIN users u ON u.id = requested.id" not in text]
            assert len(lookups) == len(expected), f"{path}: {wire.statements}"
            assert all(text in statement for text, statement in zip(expected, lookups, strict=True)), f"{path}: {lookups}"
            assert any("json_build_object" in statement for statement in (*lookups, read))


def test_the_reads_that_are_named_exist() -> None:
    named = {path.partition("?")[0] for path in READS} | NOT_COUNTED.keys()
    assert named <= {path for method, path in EVERY_ROUTE if method == "GET"}


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

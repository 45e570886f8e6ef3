"""`./stint demo` on a Stint that is connected to the sandboxes: its rows are in the states that the product itself makes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import running_slack_sandbox
from tests.support.xero_sandbox import XeroSandbox

ENTRIES = 400


@pytest.fixture
def demo(own_with_xero: Installation, xero: XeroSandbox) -> Iterator[Installation]:
    """An installation with a demo, connected to both sandboxes before. Its workers do not run yet."""
    xero.disable_limits()
    with running_slack_sandbox() as slack:
        own = own_with_xero
        own.environment |= slack.environment | {"XERO_FALLBACK_USER": "sandbox@example.com", "XERO_CALLS_PER_MINUTE": "100000"}
        own.start("api").wait_until_ready()
        given = Given(own)
        connect(given.admin())
        given.close()
        filled = own.command("demo", "--entries", str(ENTRIES))
        assert filled.returncode == 0, filled.stderr
        yield own


def connect(admin: Person) -> None:
    """Connects Xero as an admin and their browser do it."""
    consent = admin.get("/api/xero/auth-url")
    callback = httpx2.URL(httpx2.get(f"{consent['url']}&auto=1").headers["Location"]).params
    admin.post("/api/xero/connect", {"code": callback["code"], "state": callback["state"]}, status=200)


def shapes(stint: Installation, table: str, condition: str) -> set[frozenset[str]]:
    """Which columns of these rows are null, for each kind of row that there is."""
    rows = stint.rows(f"SELECT to_jsonb(r) FROM {table} r WHERE {condition}")
    return {frozenset(name for name, value in row.items() if value is None) for (row,) in rows}


def test_approved_bills_are_queued_and_arrive_in_the_sandbox(demo: Installation, xero: XeroSandbox) -> None:
    states = "SELECT status, xero_status, count(*) FROM time_bills GROUP BY 1, 2"
    counts = {(status, in_xero): count for status, in_xero, count in demo.rows(states)}
    assert set(counts) == {("pending", "none"), ("approved", "queued"), ("rejected", "none")}
    syncs = "SELECT count(*), count(DISTINCT body->>'bill_id') FROM messages WHERE actor = 'sync_bill'"
    approved = counts["approved", "queued"]
    assert demo.rows(syncs) == [(approved, approved)]
    demo.verify()

    demo.start("relay", "work")
    wait_for_xero(demo)

    assert demo.rows("SELECT DISTINCT xero_status FROM time_bills WHERE status = 'approved'") == [("synced",)]
    billed = dict(demo.rows("SELECT xero_time_entry_id, minutes FROM time_bills WHERE status = 'approved'"))
    assert {entry["timeEntryId"]: entry["duration"] for entry in xero.entries()} == billed
    demo.verify()


def test_its_rows_are_like_those_that_requests_make(demo: Installation) -> None:
    demo.start("relay", "work")
    given = Given(demo)
    admin, by = given.admin(), given.person()
    places = "SELECT c.xero_project_id, p.xero_task_id FROM customers c JOIN pillars p ON p.customer_id = c.id WHERE is_default"
    project, xero_task = demo.rows(places)[0]
    task = given.task(admin, given.customer(admin))
    admin.put(f"/api/customers/{task['customerId']}", {"xeroProjectId": project})
    admin.put(f"/api/customers/{task['customerId']}/pillars/{task['pillarId']}", {"xeroTaskId": xero_task})
    started = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    by.put("/api/active-timers/me", {"taskId": task["id"], "startTime": started}, 201)
    stopped = by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)
    admin.patch(f"/api/time-bills/{stopped['timeBill']['id']}", {"status": "approved"})
    by.post(f"/api/tasks/{given.task(admin)['id']}/start")
    given.close()
    wait_for_xero(demo)

    for table, condition in {
        "time_bills": "status = 'approved'",
        "time_entries": "true",
        "stops": "true",
        "timers": "true",
    }.items():
        of_requests = shapes(demo, table, f"{condition} AND user_id = '{by.id}'")
        assert shapes(demo, table, f"{condition} AND user_id <> '{by.id}'") == of_requests, table
    users = "role = 'internal_user' AND id {} '" + by.id + "'"
    assert shapes(demo, "users", users.format("<>")) == shapes(demo, "users", users.format("="))
    # one change for each new sum, and one for the approval
    versions = """
        SELECT DISTINCT b.version - (SELECT count(*) FROM time_entries e WHERE e.bill_id = b.id) - (memo <> '')::int
        FROM time_bills b WHERE status = 'approved'
    """
    assert demo.rows(versions) == [(2,)]
    assert demo.value("SELECT count(*) FROM timers") == 4
    assert demo.value("SELECT count(*) FROM customers WHERE NOT active AND version = 1") == 0
    demo.verify()


def test_a_stint_that_is_connected_to_the_real_xero_is_left_alone(own: Installation) -> None:
    with own.sql() as conn:
        conn.execute(
            """
            UPDATE xero_connection SET tenant_id = 'real', tenant_name = 'Firm Ltd', connection_id = 'c', access_token = 'a',
                refresh_token = 'r', expires_at = now()
            """
        )
    refused = own.command("demo", "--entries", "10")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "connected to Firm Ltd in Xero" in refused.stderr and "--sandbox" in refused.stderr
    assert own.value("SELECT count(*) FROM customers") == 0


def wait_for_xero(stint: Installation) -> None:
    unfinished = "SELECT count(*) FROM messages WHERE actor = 'sync_bill' AND state <> 'done'"
    eventually(lambda: stint.value(unfinished) == 0, seconds=120, why="all bills have arrived")

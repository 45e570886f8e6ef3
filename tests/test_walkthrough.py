"""The main job on real input: a stopped timer becomes a time bill, which an admin approves."""

import pytest

from tests.support.given import Given
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """`verify` reads all rows."""
    return stint_apart


def test_a_stopped_timer_becomes_a_time_bill_that_an_admin_approves(given: Given, stint: Installation) -> None:
    admin = given.admin()
    task = given.task(admin)

    timer = admin.post(f"/api/tasks/{task['id']}/start", status=201)
    assert admin.get("/api/active-timers/me") == {key: value for key, value in timer.items() if key != "stopped"}

    stopped = admin.post(f"/api/tasks/{task['id']}/stop", status=200, wait=5)
    admin.get("/api/active-timers/me", status=404)
    assert stopped["entryId"] == timer["id"] == stopped["entry"]["id"]
    assert stopped["entry"]["timeBillId"] == stopped["timeBill"]["id"]
    assert stopped["entry"]["startTime"] == timer["startTime"]

    entry = admin.patch(f"/api/time-entries/{timer['id']}", {"duration": 5400})
    given.settled()
    bill = admin.get(f"/api/time-bills/{entry['timeBillId']}")
    assert (bill["seconds"], bill["minutes"], bill["status"]) == (5400, 90, "pending")

    approved = admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved", "version": bill["version"]})
    assert (approved["status"], approved["approvedBy"], approved["minutes"]) == ("approved", admin.id, 90)
    stint.verify()
